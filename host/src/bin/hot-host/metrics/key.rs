//! What names a series: the name of its metric and its labels.

use super::{Labels, PLACES, Series};
use crate::exchange::{Field, Refusal};
use hot_wire::metrics::{MAX_LABELS, is_label, is_label_value, is_name};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::from_utf8;

/// Name and labels, as given but in order.
pub(super) struct Key<'a> {
    name: &'a [u8],
    labels: [Field<'a>; MAX_LABELS],
    count: usize,
}

impl<'a> Key<'a> {
    pub(super) fn new(name: &'a [u8], given: impl Iterator<Item = Field<'a>>) -> Result<Self, Refusal> {
        let mut labels = [(&[][..], &[][..]); MAX_LABELS];
        let mut count = 0;
        for label in given {
            *labels.get_mut(count).ok_or(Refusal::Invalid)? = label;
            count += 1;
        }
        labels[..count].sort_unstable();
        Ok(Self { name, labels, count })
    }

    fn labels(&self) -> &[Field<'a>] {
        &self.labels[..self.count]
    }

    /// Where the search for it begins.
    pub(super) fn place(&self) -> usize {
        // Without a secret: a module that makes names collide slows itself down.
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        self.labels().hash(&mut hasher);
        usize::try_from(hasher.finish() % PLACES as u64).unwrap_or_default()
    }

    pub(super) fn is(&self, series: &Series) -> bool {
        let same = |(ours, theirs): (&Field<'_>, &(Box<str>, Box<str>))| {
            ours.0 == theirs.0.as_bytes() && ours.1 == theirs.1.as_bytes()
        };
        self.name == series.name.as_bytes()
            && self.count == series.labels.len()
            && self.labels().iter().zip(&series.labels).all(same)
    }

    /// Name and labels, if they are what they must be.
    pub(super) fn check(&self) -> Result<(&'a str, Labels), Refusal> {
        let name = from_utf8(self.name).ok().filter(|name| is_name(name)).ok_or(Refusal::Invalid)?;
        let is_twice = self.labels().windows(2).any(|pair| pair[0].0 == pair[1].0);
        let label = |&(name, value): &Field<'_>| {
            let name = from_utf8(name).ok().filter(|name| is_label(name))?;
            let value = from_utf8(value).ok().filter(|value| is_label_value(value))?;
            Some((name.into(), value.into()))
        };
        let labels: Option<_> = self.labels().iter().map(label).collect();
        labels.filter(|_| !is_twice).map(|labels| (name, labels)).ok_or(Refusal::Invalid)
    }
}
