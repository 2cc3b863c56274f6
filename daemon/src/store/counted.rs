//! A tree of sled whose number of entries is known: sled's own `len` reads the whole tree, which takes time, and fills the
//! page cache with all of it.

use std::cell::Cell;

use sled::IVec;

/// A tree that is counted once, when that is first asked, and from then on with each change. Nobody else changes it.
#[derive(Debug)]
pub(super) struct Counted {
    tree: sled::Tree,
    len: Cell<Option<usize>>,
}

impl Counted {
    pub(super) const fn new(tree: sled::Tree) -> Self {
        Self { tree, len: Cell::new(None) }
    }

    /// The tree, for reading.
    pub(super) const fn tree(&self) -> &sled::Tree {
        &self.tree
    }

    pub(super) fn insert(&self, key: impl AsRef<[u8]>, value: impl Into<IVec>) -> sled::Result<()> {
        if self.tree.insert(key, value)?.is_none() {
            self.len.set(self.len.get().map(|len| len + 1));
        }
        Ok(())
    }

    pub(super) fn remove(&self, key: impl AsRef<[u8]>) -> sled::Result<()> {
        if self.tree.remove(key)?.is_some() {
            self.len.set(self.len.get().map(|len| len.saturating_sub(1)));
        }
        Ok(())
    }

    /// The first entry, if there are more than `most`.
    pub(super) fn first_beyond(&self, most: usize) -> sled::Result<Option<(IVec, IVec)>> {
        let len = self.len.get().unwrap_or_else(|| self.tree.len());
        self.len.set(Some(len));
        if len > most { self.tree.first() } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_bound_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let db = sled::open(folder.path()).unwrap();
        db.insert([0], "there before").unwrap();
        let counted = Counted::new((*db).clone());
        let first = |most| {
            let first = counted.first_beyond(most).unwrap()?.0;
            counted.remove(&first).unwrap();
            Some(first[0])
        };
        counted.insert([1], "").unwrap();
        assert_eq!(first(2), None);
        counted.insert([1], "the same once more").unwrap();
        counted.remove([7]).unwrap();
        assert_eq!(first(2), None);
        for key in 2..5 {
            counted.insert([key], "").unwrap();
        }
        assert_eq!([first(2), first(2), first(2), first(2)], [Some(0), Some(1), Some(2), None]);
        assert_eq!(counted.tree().len(), 2);
        assert_eq!([first(0), first(0), first(0)], [Some(3), Some(4), None]);
    }
}
