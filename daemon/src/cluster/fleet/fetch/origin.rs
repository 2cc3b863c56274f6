//! Who gave which bytes: so that, where the whole is wrong, it can be told who lied.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use hot_rollout::Node;

/// The latest spans, in which bytes are looked for that a node goes on with: it gives few pieces at once.
const LATEST: usize = 16;
/// Bytes that are compared at once.
const BLOCK: usize = 64 << 10;

/// From where the bytes of one artifact came. Bytes of whom nobody knows, as from before a restart, are in no span.
#[derive(Debug, Default)]
pub(super) struct Origin(Vec<(Node, Range<u64>)>);

impl Origin {
    /// This node gave these bytes.
    pub(super) fn note(&mut self, node: &Node, range: Range<u64>) {
        let goes_on = |(who, span): &&mut (Node, Range<u64>)| who == node && span.end == range.start;
        match self.0.iter_mut().rev().take(LATEST).find(goes_on) {
            Some((_, span)) => span.end = range.end,
            None => self.0.push((node.clone(), range)),
        }
    }

    /// The node that gave all of so many bytes, if it was one.
    pub(super) fn sole(&self, total: u64) -> Option<&Node> {
        let (node, _) = self.0.first()?;
        let given: u64 = self.0.iter().map(|(_, span)| span.end - span.start).sum();
        (given == total && self.0.iter().all(|(who, _)| who == node)).then_some(node)
    }

    /// Those who gave other bytes than the right file has.
    ///
    /// # Errors
    /// One of both can't be read.
    pub(super) fn liars(&self, wrong: &File, right: &File) -> io::Result<BTreeSet<Node>> {
        let mut liars = BTreeSet::new();
        for (node, span) in &self.0 {
            if !liars.contains(node) && differ(wrong, right, span.clone())? {
                liars.insert(node.clone());
            }
        }
        Ok(liars)
    }
}

fn differ(one: &File, other: &File, span: Range<u64>) -> io::Result<bool> {
    let mut blocks = [vec![0; BLOCK], vec![0; BLOCK]];
    let mut at = span.start;
    while at < span.end {
        let length = usize::try_from(span.end - at).unwrap_or(BLOCK).min(BLOCK);
        let [first, second] = &mut blocks;
        one.read_exact_at(&mut first[..length], at)?;
        other.read_exact_at(&mut second[..length], at)?;
        if first[..length] != second[..length] {
            return Ok(true);
        }
        at += length as u64;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn node(name: &str) -> Node {
        Node(name.to_owned())
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn those_who_gave_other_bytes_are_found() {
        let right = vec![7; 200_000];
        let mut wrong = right.clone();
        wrong[149_999] = 8;
        let mut origin = Origin::default();
        origin.note(&node("n1"), 0..100_000);
        origin.note(&node("n2"), 100_000..120_000);
        origin.note(&node("n1"), 150_000..200_000);
        origin.note(&node("n2"), 120_000..150_000);
        assert_eq!(origin.0.len(), 3, "what goes on is one span");
        let found = origin.liars(&file(&wrong), &file(&right)).unwrap();
        assert_eq!(found, [node("n2")].into());
        assert!(origin.liars(&file(&right), &file(&right)).unwrap().is_empty());
        assert!(origin.liars(&file(&wrong[..9]), &file(&right)).is_err());
    }

    #[test]
    fn one_gave_all_of_it_or_nobody_knows() {
        let mut origin = Origin::default();
        assert_eq!(origin.sole(10), None);
        origin.note(&node("n1"), 0..4);
        assert_eq!(origin.sole(10), None, "the rest is of an unknown origin");
        origin.note(&node("n1"), 4..10);
        assert_eq!(origin.sole(10), Some(&node("n1")));
        origin.note(&node("n2"), 10..11);
        assert_eq!(origin.sole(11), None);
    }
}
