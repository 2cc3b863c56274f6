//! Whether what was seen of a case is what its row of the table says.

use crate::rig::{STABLE, Seen};
use crate::table::{Case, Ends};

/// Each way in which it is not, in words.
pub(crate) fn misses(case: &Case, seen: &Seen) -> Vec<String> {
    let mut misses = Vec::new();
    let mut expect = |holds: bool, what: String| {
        if !holds {
            misses.push(what);
        }
    };
    let phase = seen.phase.as_deref().unwrap_or("no end");
    let reason = &seen.reason;
    let wanted = match case.ends {
        Ends::Back(_) | Ends::Leaves | Ends::Denied(..) => "rolled_back",
        Ends::Stays => "done",
    };
    expect(phase == wanted, format!("{phase} within {:?} instead of {wanted}: {reason}", case.budget));
    let verdicts = match case.ends {
        Ends::Back(verdicts) | Ends::Denied(_, Some(verdicts)) => verdicts,
        Ends::Stays | Ends::Leaves | Ends::Denied(_, None) => &[],
    };
    let is_said = verdicts.is_empty() || verdicts.iter().any(|verdict| verdict.is_said_by(reason));
    expect(is_said, format!("the verdict is none of {}: {reason:?}", case.verdict()));
    expect(
        seen.phase.is_none() || seen.took <= case.budget,
        format!("it took {:?} of {:?}", seen.took, case.budget),
    );

    let near = &seen.near;
    expect(near.failed() == 0, format!("the neighbour lost requests: {near}"));
    let own = &seen.own;
    expect(case.costs || own.failed() == 0, format!("stable lost requests: {own}"));
    let after = &seen.after;
    let is_as_before = after.failed() == 0 && after.of(STABLE) == after.requests;
    expect(is_as_before, format!("stable is not as before: {after}"));
    expect(seen.left.is_empty(), format!("it left {}", seen.left.join(", ")));
    expect(seen.lost.is_empty(), format!("{} is gone", seen.lost.join(" and ")));

    if let Ends::Denied(attempts, verdicts) = case.ends {
        expect(!seen.got.is_empty(), "nothing was tried".to_owned());
        for (what, errors) in attempts {
            // Who is ended for what it tried first does not come to the rest.
            if verdicts.is_some() && !seen.got.iter().any(|(tried, _)| tried == what) {
                continue;
            }
            let got = seen.got.iter().find(|(tried, _)| tried == what).map(|(_, how)| &**how);
            let is_denied = got.is_some_and(|how| errors.contains(&how));
            expect(is_denied, format!("{what}: {} instead of {errors:?}", got.unwrap_or("not tried")));
        }
    }
    misses
}
