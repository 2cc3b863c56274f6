//! Whose answers an answer of a fleet is made of: who is missing is said once per change, on standard error, and each line
//! names its node where there are several.

use hot_proto::v1::Heard;

use crate::json::HeardJson;
use crate::output::Out;

/// Who was heard last.
#[derive(Debug)]
pub(crate) struct Hearing {
    /// What nodes tell, e.g. `events`.
    what: &'static str,
    now: Option<Heard>,
}

impl Hearing {
    pub(crate) const fn of(what: &'static str) -> Self {
        Self { what, now: None }
    }

    /// Takes in who is heard from here on, and says what is another than before.
    pub(crate) fn take(&mut self, heard: Option<Heard>, out: &mut Out) {
        let Some(heard) = heard else { return };
        let changes = changes(self.now.as_ref(), &heard, self.what);
        if !changes.is_empty() {
            out.aside(&changes.join("\n"), &HeardJson::from(&heard));
        }
        self.now = Some(heard);
    }

    /// How wide a column for nodes is. None where it would say the same in each line.
    pub(crate) fn column(&self) -> Option<usize> {
        let Heard { nodes, silent } = self.now.as_ref()?;
        let width = nodes.iter().chain(silent).map(|name| name.chars().count()).max();
        width.filter(|_| nodes.len() + silent.len() > 1)
    }
}

/// What is another than before, a sentence each. Before the first answer nobody was missed.
fn changes(before: Option<&Heard>, now: &Heard, what: &str) -> Vec<String> {
    let was_silent = |name: &String| before.is_some_and(|before| before.silent.contains(name));
    let was_heard = |name: &String| before.is_some_and(|before| before.nodes.contains(name));
    let of = |names: Vec<&String>, one: &str, more: &str| {
        let said = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        let how = if names.len() == 1 { one } else { more };
        (!names.is_empty()).then(|| format!("{said} {how}").replace("{what}", what))
    };
    let lost = now.silent.iter().filter(|name| was_heard(name)).collect();
    let silent = now.silent.iter().filter(|name| !was_heard(name) && !was_silent(name)).collect();
    let heard = now.nodes.iter().filter(|name| before.is_some() && !was_heard(name)).collect();
    let there = |name: &&String| !now.nodes.contains(name) && !now.silent.contains(name);
    let left =
        before.iter().flat_map(|before| before.nodes.iter().chain(&before.silent)).filter(there).collect();
    [
        of(silent, "does not answer: its {what} are missing", "do not answer: their {what} are missing"),
        of(
            lost,
            "does not answer any more: going on without it",
            "do not answer any more: going on without them",
        ),
        of(heard, "answers: its {what} come from here on", "answer: their {what} come from here on"),
        of(left, "has left the fleet", "have left the fleet"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use crate::output::tests::Memory;

    fn heard(nodes: &[&str], silent: &[&str]) -> Heard {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Heard { nodes: names(nodes), silent: names(silent) }
    }

    #[test]
    fn each_change_is_said_once() {
        let steps = [
            (heard(&["n1", "n2", "n3"], &[]), ""),
            (heard(&["n1", "n2"], &["n3"]), "n3 does not answer any more: going on without it"),
            (heard(&["n1", "n2"], &["n3"]), ""),
            (heard(&["n1", "n2", "n3"], &[]), "n3 answers: its events come from here on"),
            (heard(&["n1"], &["n2", "n3"]), "n2, n3 do not answer any more: going on without them"),
            (heard(&["n1", "n4"], &["n2"]), "n4 answers: its events come from here on|n3 has left the fleet"),
        ];
        let mut before = None;
        for (now, expected) in steps {
            assert_eq!(changes(before.as_ref(), &now, "events").join("|"), expected, "{now:?}");
            before = Some(now);
        }
        let first = changes(None, &heard(&["n1"], &["n2", "n3"]), "lines");
        assert_eq!(first, ["n2, n3 do not answer: their lines are missing"]);
    }

    #[test]
    fn who_is_missing_is_said_beside_the_result() {
        let told = |format| {
            let (result, errors) = (Memory::default(), Memory::default());
            let mut out = Out::into_sinks(format, result.clone(), errors.clone());
            let mut hearing = Hearing::of("events");
            assert_eq!(hearing.column(), None);
            hearing.take(None, &mut out);
            hearing.take(Some(heard(&["n1"], &["web-10"])), &mut out);
            assert_eq!(hearing.column(), Some(6));
            assert_eq!(result.text(), "");
            errors.text()
        };
        assert_eq!(told(Format::Text), "web-10 does not answer: its events are missing\n");
        assert_eq!(told(Format::Json), "{\"heard\":[\"n1\"],\"silent\":[\"web-10\"]}\n");
    }
}
