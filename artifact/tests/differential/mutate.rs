//! Changes of a case at random. Those of [`keep`] leave a good case good, for us and for `ssh-keygen`: they are what
//! people and programs do to these files. Those of [`spoil`] may do anything.

use crate::keys::{self, NOW};
use crate::parts::{self, Blob, string};
use crate::{Case, mutations::Base};

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let mut random = Self(seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn byte(&mut self) -> u8 {
        (self.next() & 0xff) as u8
    }
}

/// One change after which a good case is still good.
pub(crate) fn keep(case: &mut Case, base: &Base, random: &mut Random) {
    match random.below(8) {
        0 => {
            case.signature = parts::armour(&parts::unarmour_or_empty(&case.signature), 1 + random.below(200))
        }
        1 => {
            if case.signature.ends_with(b"\n") {
                case.signature.pop();
            }
        }
        2 => {
            // An empty line somewhere within.
            let ends: Vec<usize> =
                (0..case.signature.len()).filter(|at| case.signature[*at] == b'\n').collect();
            if ends.len() > 2 {
                let at = ends[random.below(ends.len() - 2)];
                case.signature.insert(at, b'\n');
            }
        }
        3 => {
            let line = idle_line(random);
            insert_line(&mut case.signers, random, &line);
        }
        4 => {
            let line = foreign_line(random);
            insert_line(&mut case.signers, random, &line);
        }
        5 => case.signers = good_line(base, random).into_bytes(),
        6 => case.revoked = Some(harmless_revocations(random)),
        _ => {
            // Within what all certificates and lines of the others allow.
            case.now = NOW + u64::try_from(random.below(20_000)).expect("small") - 10_000;
            case.signers = good_line(base, random).into_bytes();
        }
    }
}

/// A line for the base's maker that allows it around now, in one of the many ways to write that.
fn good_line(base: &Base, random: &mut Random) -> String {
    let gap = |random: &mut Random| random.pick(&[" ", "  ", "\t", " \t "]);
    let mut options = vec![format!(
        "{}=\"{}\"",
        any_case("namespaces", random),
        random.pick(&[
            "hot-module",
            "hot-*",
            "git,hot-module",
            "hot-module,file",
            "*",
            "h?t-m*e",
            "*,!git",
            "*-module"
        ])
    )];
    if random.chance(40) {
        let time =
            random.pick(&["20260101Z", "202601010000Z", "20260101000000z", "20251231235959Z", "20260101"]);
        options.push(format!("{}=\"{time}\"", any_case("valid-after", random)));
    }
    if random.chance(40) {
        let time = random.pick(&["20270101Z", "202701010000Z", "20270101000000Z", "99991231Z", "20270101"]);
        options.push(format!("{}=\"{time}\"", any_case("valid-before", random)));
    }
    if base.maker.is_certificate {
        options.push(any_case("cert-authority", random));
    }
    let turn = random.below(options.len());
    options.rotate_left(turn);
    let principals =
        random.pick(&["anna", "anna,berta", "carla,anna", "anna@example.com,anna", "a,b,anna,c"]);
    let comment = random.pick(&["", " anna", " a comment of words", "\t# no comment", " x=\"y\"", "  "]);
    let end = random.pick(&["\n", "\r\n", "\n\n", ""]);
    let before = random.pick(&["", "", " ", "\t", "# of anna\n", "\n"]);
    let (first, second) = (gap(random), gap(random));
    format!("{before}{principals}{first}{}{second}{}{comment}{end}", options.join(","), base.maker.trusted)
}

fn any_case(word: &str, random: &mut Random) -> String {
    match random.below(4) {
        0 => word.to_uppercase(),
        1 => word.chars().map(|c| if random.chance(50) { c.to_ascii_uppercase() } else { c }).collect(),
        _ => word.to_owned(),
    }
}

/// A line that allows nobody.
fn idle_line(random: &mut Random) -> String {
    random
        .pick(&["", " ", "\t", "#", "# anna ssh-ed25519 AAAA", "  # namespaces=\"", "#anna", "# \u{e4}"])
        .to_owned()
}

/// A line for a key that did not sign.
fn foreign_line(random: &mut Random) -> String {
    let key = keys::public(random.pick(&["other", "ca-other", "ca-p256"]));
    let options = random.pick(&[
        "namespaces=\"hot-module\"",
        "namespaces=\"git\"",
        "valid-before=\"20200101Z\",namespaces=\"*\"",
        "cert-authority,namespaces=\"hot-module\"",
        "cert-authority",
    ]);
    format!("{} {options} {key}", random.pick(&["anna", "berta", "berta,carla"]))
}

/// Puts a line before the first, where it can't break another.
fn insert_line(text: &mut Vec<u8>, random: &mut Random, line: &str) {
    let end = random.pick(&["\n", "\n", "\n\n"]);
    text.splice(0..0, format!("{line}{end}").into_bytes());
}

/// A file of revoked keys that has none of the base's.
fn harmless_revocations(random: &mut Random) -> Vec<u8> {
    if random.chance(40) {
        let mut text = String::new();
        for _ in 0..random.below(4) {
            let key = keys::public(random.pick(&["other", "ca-other", "rsa2048"]));
            text.push_str(&match random.below(4) {
                0 => "# nothing\n".to_owned(),
                1 => "\n".to_owned(),
                2 => format!("  {key} of somebody\n"),
                _ => format!("{key}\n"),
            });
        }
        return text.into_bytes();
    }
    let sections: Vec<(u8, Vec<u8>)> = (0..random.below(4)).map(|_| section(random, false)).collect();
    parts::krl(&sections)
}

/// A section of a KRL: of others, or, if it may hit, of anybody.
fn section(random: &mut Random, may_hit: bool) -> (u8, Vec<u8>) {
    use sha2::Digest as _;
    let name = if may_hit {
        random.pick(&["ed25519", "p256", "p384", "p521", "rsa", "sk-ed25519", "sk-ecdsa", "ca"])
    } else {
        random.pick(&["other", "ca-other", "rsa2048"])
    };
    let blob = keys::blob(name);
    match random.below(4) {
        0 => (2, string(&blob)),
        1 => (3, string(sha1::Sha1::digest(&blob))),
        2 => (5, string(sha2::Sha256::digest(&blob))),
        _ => {
            let number = |random: &mut Random| {
                let small = u64::try_from(random.below(if may_hit { 12 } else { 1000 })).expect("small");
                if may_hit { small } else { small + 1000 }
            };
            let parts: Vec<(u8, Vec<u8>)> = (0..random.below(4))
                .map(|_| match random.below(4) {
                    0 => (0x20, (0..random.below(4)).flat_map(|_| number(random).to_be_bytes()).collect()),
                    1 => {
                        let (a, b) = (number(random), number(random));
                        (0x21, [a.min(b).to_be_bytes(), a.max(b).to_be_bytes()].concat())
                    }
                    2 => {
                        let bits: Vec<u8> = (0..1 + random.below(3)).map(|_| random.byte()).collect();
                        let bits = if bits[0] & 0x80 == 0 { bits } else { [&[0], bits.as_slice()].concat() };
                        (0x22, [number(random).to_be_bytes().to_vec(), string(bits)].concat())
                    }
                    _ => (0x23, string(if may_hit { "id-ed25519" } else { "somebody" })),
                })
                .collect();
            let authority =
                if random.chance(30) { Vec::new() } else { keys::blob(random.pick(&["ca", "ca-other"])) };
            (1, parts::krl_certificates(&authority, &parts))
        }
    }
}

/// One change after which nothing is sure.
pub(crate) fn spoil(case: &mut Case, base: &Base, donor: &Base, random: &mut Random) {
    match random.below(16) {
        0 | 1 => edit(&mut case.signature, random, b"AZaz09+/= \n\r\t-"),
        2 | 3 => {
            let mut blob = parts::unarmour_or_empty(&case.signature);
            flip(&mut blob, random);
            case.signature = parts::armour(&blob, 70);
        }
        4 => {
            let mut blob = Blob::read(&base.case.signature);
            spoil_field(&mut blob, &Blob::read(&donor.case.signature), random);
            case.signature = blob.armoured();
        }
        5 => {
            let behind =
                random.pick(&["\n", " ", "x", "\r\n", parts::END, "-----BEGIN SSH SIGNATURE-----\n"]);
            case.signature.extend(behind.as_bytes());
        }
        6 => case.signature = donor.case.signature.clone(),
        7 => flip(&mut case.bytes, random),
        8 | 9 => edit(&mut case.signers, random, b"\"=,*?! \t\n#\\-azAZ09"),
        10 => {
            let name = random.pick(&["valid-after", "valid-before"]);
            let line = format!("namespaces=\"hot-module\",{name}=\"{}\"", time(random));
            case.signers = base.maker.line("anna", &line).into();
        }
        11 => {
            let list = random.pick(&[
                "git",
                "hot",
                "!hot-module,*",
                "*,!hot-*",
                "hot-module,!x",
                ",hot-module",
                "?*",
                "",
            ]);
            case.signers = base.maker.line("anna", &format!("namespaces=\"{list}\"")).into();
        }
        12 => {
            let sections: Vec<(u8, Vec<u8>)> =
                (0..1 + random.below(3)).map(|_| section(random, true)).collect();
            case.revoked = Some(parts::krl(&sections));
        }
        13 | 14 => {
            let mut revoked = case.revoked.take().unwrap_or_else(|| harmless_revocations(random));
            if random.chance(50) {
                flip(&mut revoked, random)
            } else {
                edit(&mut revoked, random, b"\0\x01 \n#Aa")
            }
            case.revoked = Some(revoked);
        }
        _ => case.now = (NOW - 40_000_000) + u64::try_from(random.below(80_000_000)).expect("small"),
    }
}

fn spoil_field(blob: &mut Blob, donor: &Blob, random: &mut Random) {
    match random.below(9) {
        0 => blob.key.clone_from(&donor.key),
        1 => blob.value.clone_from(&donor.value),
        2 => blob.hash.clone_from(&donor.hash),
        3 => blob.version = u32::from(random.byte() & 3),
        4 => blob.namespace = random.pick(&["file", "hot-module\0", "hot-modul", "", "HOT-MODULE"]).into(),
        5 => blob.reserved = vec![0; random.below(3)],
        6 => edit(&mut blob.value, random, b"\0\x01\xff"),
        7 => edit(&mut blob.key, random, b"\0\x01\xff"),
        _ => flip(&mut blob.value, random),
    }
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    if !bytes.is_empty() {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
}

/// Puts in, takes out or changes a byte, takes a piece out or doubles it, or cuts the end off.
fn edit(bytes: &mut Vec<u8>, random: &mut Random, palette: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    let letter = palette[random.below(palette.len())];
    match random.below(6) {
        0 | 1 => bytes.insert(at, letter),
        2 => bytes[at] = letter,
        3 => {
            bytes.remove(at);
        }
        4 => {
            let end = (at + 1 + random.below(40)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => bytes.truncate(at),
    }
}

fn time(random: &mut Random) -> String {
    let digits: String = (0..random.pick(&[&8_usize, &12, &14, &7, &15]).to_owned())
        .map(|at| match at {
            0 => '2',
            1 => '0',
            2 => ['2', '3'][random.below(2)],
            4 | 6 => ['0', '1', '2', '3'][random.below(4)],
            _ => char::from(b'0' + (random.byte() % 10)),
        })
        .collect();
    format!("{digits}{}", random.pick(&["Z", "z", "", "UTC", "utc", " Z", "+0"]))
}
