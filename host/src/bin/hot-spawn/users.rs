//! The numbers of users and groups that instances get: which there are, and whose each is. Nothing here touches the
//! system.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;

/// The most numbers of a range, so that what is kept of each is bounded.
const MOST: u32 = 65_536;
/// One for an instance, and one for the process that ends what an instance left.
const LEAST: u32 = 2;
/// Numbers that mean something to the kernel or to everybody's tools: root, nobody (also where identifiers are cut to 16
/// bits), and "no change".
const RESERVED: [u32; 4] = [0, 65_534, 65_535, u32::MAX];

/// The numbers of users and groups that instances may get, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    first: u32,
    last: u32,
}

/// Why a range can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NumbersError {
    /// It is no range.
    #[error("{0} is no range of users; expected FIRST-LAST, e.g. {default}, or none", default = Numbers::DEFAULT)]
    NoRange(String),
    /// It ends before it begins, or is too small or too large.
    #[error("{0} has {1} numbers of users; expected {LEAST} to {MOST}")]
    Size(String, u64),
    /// A number in it is not for instances.
    #[error("{0} contains {1}, which is {2}; name a range that nobody uses")]
    Taken(Numbers, u32, &'static str),
}

impl Numbers {
    /// Above what systemd gives to containers (up to 1879048191), below 2^31, which some tools take for the end.
    pub(crate) const DEFAULT: Self = Self { first: 1_900_000_000, last: 1_900_001_023 };

    /// Refuses a range with a number that is somebody's. `own`: the user of this process. `known`: users and groups of
    /// this machine.
    pub(crate) fn check(self, own: u32, known: &BTreeSet<u32>) -> Result<Self, NumbersError> {
        let has = |number: &u32| (self.first..=self.last).contains(number);
        if let Some(number) = RESERVED.into_iter().find(has) {
            return Err(NumbersError::Taken(self, number, "reserved"));
        }
        if has(&own) {
            return Err(NumbersError::Taken(self, own, "the user of hot-spawn"));
        }
        match known.range(self.first..=self.last).next() {
            Some(number) => {
                Err(NumbersError::Taken(self, *number, "a user or group of /etc/passwd or /etc/group"))
            }
            None => Ok(self),
        }
    }
}

impl FromStr for Numbers {
    type Err = NumbersError;

    fn from_str(text: &str) -> Result<Self, NumbersError> {
        let ends =
            text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        let Some((first, last)) = ends else { return Err(NumbersError::NoRange(text.to_owned())) };
        let size = (u64::from(last) + 1).saturating_sub(u64::from(first));
        if (u64::from(LEAST)..=u64::from(MOST)).contains(&size) {
            Ok(Self { first, last })
        } else {
            Err(NumbersError::Size(text.to_owned(), size))
        }
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// The numbers in the third field of each line: what `/etc/passwd` and `/etc/group` have there.
pub(crate) fn third_fields(text: &str) -> impl Iterator<Item = u32> {
    text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok())
}

/// Who an instance is to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its user, which nobody else has.
    pub(crate) user: u32,
    /// Its module's group.
    pub(crate) group: u32,
}

/// Users and groups are counted apart: a user and a group of one number have nothing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A user.
    User,
    /// A group.
    Group,
}

/// Others on this machine that take from the same numbers.
pub(crate) trait Claims {
    /// Whether the number is ours now; not if another has it.
    fn claim(&mut self, kind: Kind, number: u32) -> bool;
    /// Others may have it from here on.
    fn release(&mut self, kind: Kind, number: u32);
}

/// Every number of the range is taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("all numbers of {0} are taken; end instances, or start hot-spawn with a larger range (--users)")]
pub(crate) struct NoneLeft(Numbers);

/// Whose each number is.
#[derive(Debug)]
pub(crate) struct Users<C> {
    numbers: Numbers,
    claims: C,
    /// The one that was given back longest ago is in front.
    free_users: VecDeque<u32>,
    free_groups: VecDeque<u32>,
    /// Of each module with instances, its group and how many are in it.
    modules: BTreeMap<String, (u32, usize)>,
    /// The modules by group; one without a name is not in it.
    names: BTreeMap<u32, String>,
}

impl<C: Claims> Users<C> {
    pub(crate) fn new(numbers: Numbers, claims: C) -> Self {
        let all = || (numbers.first..=numbers.last).collect();
        let (modules, names) = (BTreeMap::new(), BTreeMap::new());
        Self { numbers, claims, free_users: all(), free_groups: all(), modules, names }
    }

    /// Does something about a user of the range that nobody has, here or in another process, while it stays so.
    pub(crate) fn while_nobodys(&mut self, user: u32, act: impl FnOnce()) {
        let in_range = (self.numbers.first..=self.numbers.last).contains(&user);
        if in_range && self.free_users.contains(&user) && self.claims.claim(Kind::User, user) {
            act();
            self.claims.release(Kind::User, user);
        }
    }

    /// A user that is no instance's.
    pub(crate) fn take_user(&mut self) -> Result<u32, NoneLeft> {
        Self::take(&mut self.free_users, &mut self.claims, Kind::User).ok_or(NoneLeft(self.numbers))
    }

    /// A user of its own for an instance of `module`, and the group that its instances share. A module without a name
    /// shares it with nobody.
    pub(crate) fn take_identity(&mut self, module: &str) -> Result<Identity, NoneLeft> {
        let user = self.take_user()?;
        if let Some((group, members)) = self.modules.get_mut(module) {
            *members += 1;
            return Ok(Identity { user, group: *group });
        }
        let Some(group) = Self::take(&mut self.free_groups, &mut self.claims, Kind::Group) else {
            self.give_back_user(user);
            return Err(NoneLeft(self.numbers));
        };
        if !module.is_empty() {
            self.modules.insert(module.to_owned(), (group, 1));
            self.names.insert(group, module.to_owned());
        }
        Ok(Identity { user, group })
    }

    /// Nothing of this user lives any more. Its group is free again with the last of its members.
    pub(crate) fn give_back(&mut self, identity: Identity) {
        self.give_back_user(identity.user);
        if let Some(name) = self.names.get(&identity.group) {
            if let Some((_, members)) = self.modules.get_mut(name) {
                *members -= 1;
                if *members > 0 {
                    return;
                }
            }
            self.modules.remove(name);
            self.names.remove(&identity.group);
        }
        self.claims.release(Kind::Group, identity.group);
        self.free_groups.push_back(identity.group);
    }

    /// Gives back what [`Self::take_user`] gave.
    pub(crate) fn give_back_user(&mut self, user: u32) {
        self.claims.release(Kind::User, user);
        self.free_users.push_back(user);
    }

    /// The first of `free` that no other has; those that another has go to the end.
    fn take(free: &mut VecDeque<u32>, claims: &mut C, kind: Kind) -> Option<u32> {
        for _ in 0..free.len() {
            let number = free.pop_front()?;
            if claims.claim(kind, number) {
                return Some(number);
            }
            free.push_back(number);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another has these, whatever the kind.
    #[derive(Debug, Default)]
    struct Others(BTreeSet<u32>);

    impl Claims for Others {
        fn claim(&mut self, _: Kind, number: u32) -> bool {
            !self.0.contains(&number)
        }
        fn release(&mut self, _: Kind, _: u32) {}
    }

    fn users(range: &str, others: &[u32]) -> Users<Others> {
        Users::new(range.parse().unwrap(), Others(others.iter().copied().collect()))
    }

    #[test]
    fn a_range_is_read_and_what_is_none_is_named() {
        let numbers: Numbers = "1900000000-1900001023".parse().unwrap();
        assert_eq!(numbers, Numbers::DEFAULT);
        for (text, named) in [
            ("5", "5 is no range of users; expected FIRST-LAST, e.g. 1900000000-1900001023, or none"),
            ("a-b", "a-b is no range of users"),
            ("5-4294967296", "5-4294967296 is no range of users"),
            ("9-8", "9-8 has 0 numbers of users; expected 2 to 65536"),
            ("9-9", "9-9 has 1 numbers"),
            ("0-65536", "0-65536 has 65537 numbers"),
        ] {
            let error = text.parse::<Numbers>().unwrap_err().to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }

    #[test]
    fn a_range_with_somebody_elses_number_is_refused() {
        let known = third_fields("root:x:0:0::/:/bin/sh\nweb:x:2000:2001::/:\nbroken\n").collect();
        let check = |text: &str| {
            text.parse::<Numbers>().unwrap().check(1500, &known).map_err(|error| error.to_string())
        };
        assert!(check("3000-4000").is_ok());
        for (range, named) in [
            ("0-10", "0-10 contains 0, which is reserved"),
            ("65000-66000", "65000-66000 contains 65534, which is reserved"),
            ("4294967000-4294967295", "4294967000-4294967295 contains 4294967295, which is reserved"),
            ("1400-1600", "1400-1600 contains 1500, which is the user of hot-spawn"),
            ("1900-2100", "1900-2100 contains 2000, which is a user or group of /etc/passwd or /etc/group"),
        ] {
            let error = check(range).unwrap_err();
            assert!(error.starts_with(named), "{error}");
        }
    }

    #[test]
    fn instances_of_a_module_share_its_group_and_no_user() {
        let mut users = users("10-19", &[]);
        let [a, b, other] = ["m", "m", "n"].map(|module| users.take_identity(module).unwrap());
        assert_eq!((a.group, b.group), (10, 10));
        assert_eq!((a.user, b.user, other.user, other.group), (10, 11, 12, 11));
        // As long as one is in it, the group is the module's.
        users.give_back(a);
        assert_eq!(users.take_identity("m").unwrap().group, 10);
        users.give_back(other);
        assert_ne!(users.take_identity("n").unwrap().group, 11, "the one given back last comes last");
        // Without a name there is nothing to share it by.
        let [x, y] = ["", ""].map(|module| users.take_identity(module).unwrap());
        assert_ne!(x.group, y.group);
    }

    #[test]
    fn a_number_comes_again_last_and_never_while_it_is_taken() {
        let mut users = users("10-12", &[]);
        let first = users.take_identity("a").unwrap();
        users.give_back(first);
        let order: Vec<_> = (0..3).map(|_| users.take_user().unwrap()).collect();
        assert_eq!(order, [11, 12, 10]);
        let error = users.take_identity("a").unwrap_err();
        assert_eq!(error.to_string().split(';').next(), Some("all numbers of 10-12 are taken"));
    }

    #[test]
    fn only_what_is_nobodys_is_touched() {
        let mut users = users("10-13", &[12]);
        let ours = users.take_user().unwrap();
        let mut touched = Vec::new();
        for user in [9, ours, 11, 12, 13, 14] {
            users.while_nobodys(user, || touched.push(user));
        }
        assert_eq!(touched, [11, 13]);
    }

    #[test]
    fn numbers_of_another_are_passed_over() {
        let mut users = users("10-13", &[10, 12]);
        assert_eq!(users.take_identity("a"), Ok(Identity { user: 11, group: 11 }));
        assert_eq!(users.take_identity("b"), Ok(Identity { user: 13, group: 13 }));
        assert!(users.take_user().is_err());
        // Once the other is gone, they are there.
        users.claims.0.clear();
        assert!(users.take_user().is_ok());
    }
}
