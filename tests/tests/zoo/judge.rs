//! Whether what was seen of a case is what its row of the table says.

use crate::rig::{STABLE, Seen};
use crate::table::{Case, Ends};

/// One way in which it is not.
#[derive(Debug)]
pub(crate) struct Miss {
    of: Part,
    /// In words.
    pub(crate) text: String,
}

/// What of a row is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    End,
    Time,
    Requests,
    Left,
    Programs,
    Attempt,
}

impl Miss {
    /// Whether it is the harm that a case does where nothing protects from it: a verdict that comes late alone proves
    /// nothing, one that does not come within the budget does.
    pub(crate) fn is_harm_of(&self, case: &Case) -> bool {
        match case.ends {
            Ends::Denied(..) => matches!(self.of, Part::Attempt | Part::Programs),
            Ends::Leaves => matches!(self.of, Part::Left | Part::Programs),
            Ends::Back(_) | Ends::Stays => self.of != Part::Time,
        }
    }
}

/// Each way in which it is not.
pub(crate) fn misses(case: &Case, seen: &Seen) -> Vec<Miss> {
    let mut misses = Vec::new();
    let mut expect = |of: Part, holds: bool, text: String| {
        if !holds {
            misses.push(Miss { of, text });
        }
    };
    let phase = seen.phase.as_deref().unwrap_or("no end");
    let reason = &seen.reason;
    let wanted = match case.ends {
        Ends::Back(_) | Ends::Leaves | Ends::Denied(..) => "rolled_back",
        Ends::Stays => "done",
    };
    expect(
        Part::End,
        phase == wanted,
        format!("{phase} within {:?} instead of {wanted}: {reason}", case.patience()),
    );
    let verdicts = match case.ends {
        Ends::Back(verdicts) | Ends::Denied(_, Some(verdicts)) => verdicts,
        Ends::Stays | Ends::Leaves | Ends::Denied(_, None) => &[],
    };
    let is_said = verdicts.is_empty() || verdicts.iter().any(|verdict| verdict.is_said_by(reason));
    expect(Part::End, is_said, format!("the verdict is none of {}: {reason:?}", case.verdict()));
    expect(
        Part::Time,
        seen.phase.is_none() || seen.took <= case.patience(),
        format!("it took {:?} of {:?}", seen.took, case.patience()),
    );

    let near = &seen.near;
    expect(Part::Requests, near.failed() == 0, format!("the neighbour lost requests: {near}"));
    let own = &seen.own;
    expect(Part::Requests, case.costs || own.failed() == 0, format!("stable lost requests: {own}"));
    let after = &seen.after;
    let is_as_before = after.failed() == 0 && after.of(STABLE) == after.requests;
    expect(Part::Requests, is_as_before, format!("stable is not as before: {after}"));
    expect(Part::Left, seen.left.is_empty(), format!("it left {}", seen.left.join(", ")));
    expect(Part::Programs, seen.lost.is_empty(), format!("{} is gone", seen.lost.join(" and ")));

    if let Ends::Denied(attempts, verdicts) = case.ends {
        expect(Part::End, !seen.got.is_empty(), "nothing was tried".to_owned());
        for (what, errors) in attempts {
            // Who is ended for what it tried first does not come to the rest.
            if verdicts.is_some() && !seen.got.iter().any(|(tried, _)| tried == what) {
                continue;
            }
            let got = seen.got.iter().find(|(tried, _)| tried == what).map(|(_, how)| &**how);
            let is_denied = got.is_some_and(|how| errors.contains(&how));
            let part = if got.is_some() { Part::Attempt } else { Part::End };
            expect(part, is_denied, format!("{what}: {} instead of {errors:?}", got.unwrap_or("not tried")));
        }
    }
    misses
}
