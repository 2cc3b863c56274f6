//! The text of a file of allowed signers with one line more or fewer.

use hot_artifact::trust::{Listed, Says, listing};

/// The text with a line behind its last.
pub(super) fn with_line(text: &str, line: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}{line}\n")
}

/// What is taken away.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    Principal(&'a str),
    Fingerprint(&'a str),
}

/// The text without that, and how many lines it was in. A line with more principals keeps those; comments stay.
pub(super) fn without(text: &str, what: What<'_>) -> (String, usize) {
    let listed = listing(text);
    let of = |line: usize| listed.iter().find(|listed| listed.line == line);
    let mut changed = 0;
    let mut kept: Vec<String> = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        match of(number).and_then(|listed| change(line, listed, what)) {
            None => kept.push(line.to_owned()),
            Some(change) => {
                changed += 1;
                kept.extend(change);
            }
        }
    }
    (kept.join("\n"), changed)
}

/// What becomes of a line that has what is taken away: nothing, or the line for the others. `None`: it has not.
fn change(line: &str, listed: &Listed, what: What<'_>) -> Option<Option<String>> {
    match what {
        What::Fingerprint(fingerprint) => {
            let key = match &listed.says {
                Says::Allows(of) => Some(&of.key),
                Says::Nothing { key, .. } => key.as_ref(),
                Says::Mistake { .. } => None,
            };
            key.filter(|key| key.fingerprint() == fingerprint).map(|_| None)
        }
        What::Principal(principal) => {
            if matches!(listed.says, Says::Mistake { .. }) {
                return None;
            }
            let names = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next()?;
            let others: Vec<&str> = names.split(',').filter(|name| *name != principal).collect();
            if others.len() == names.split(',').count() {
                return None;
            }
            Some((!others.is_empty()).then(|| line.replacen(names, &others.join(","), 1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hot_artifact::signature::{PublicKey, generate_key};

    #[test]
    fn lines_come_and_go_and_comments_stay() {
        let (one, two) =
            (generate_key("one").expect("a key").public, generate_key("two").expect("a key").public);
        let options = "namespaces=\"hot-module\"";
        let text = with_line("# ours\nanna,berta namespaces=\"hot-module\" ", &one);
        let text = text.replacen(" \n", " ", 1);
        let text = with_line(&text, &format!("anna {options} {two}"));
        let (without_anna, changed) = without(&text, What::Principal("anna"));
        assert_eq!(changed, 2);
        assert_eq!(without_anna, format!("# ours\nberta {options} {one}\n"));
        let fingerprint = PublicKey::from_openssh(&one).expect("a key").fingerprint();
        let (rest, changed) = without(&text, What::Fingerprint(&fingerprint));
        assert_eq!((rest, changed), (format!("# ours\nanna {options} {two}\n"), 1));
        assert_eq!(without(&text, What::Principal("carla")), (text.clone(), 0));
    }
}
