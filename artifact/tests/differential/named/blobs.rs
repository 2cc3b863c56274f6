//! The inside of signatures.

use super::Want::{Accepted, Refused, Stricter};
use super::{Cases, good, with};
use crate::authenticator::{Authenticator, TOUCHED, VERIFIED};
use crate::keys::{self, BYTES, Maker, NAMESPACE};
use crate::parts::{Blob, string, strings};

/// What can be wrong inside of a signature.
pub(super) fn blobs() -> Cases {
    let mut cases = Vec::new();
    for maker in Maker::all().iter().filter(|maker| maker.name != "p384" && !maker.name.ends_with("p521")) {
        let case = good(maker, "sha512");
        let mut add = |name: &str, want, change: &dyn Fn(&mut Blob)| {
            let mut blob = Blob::read(&case.signature);
            change(&mut blob);
            cases.push((with(&case, name, |case| case.signature = blob.armoured()), want));
        };
        add("another magic", Refused, &|blob| blob.magic[0] = b'X');
        add("version 0", Stricter, &|blob| blob.version = 0);
        add("version 2", Refused, &|blob| blob.version = 2);
        add("the last version", Refused, &|blob| blob.version = u32::MAX);
        add("another namespace within", Refused, &|blob| blob.namespace = b"file".to_vec());
        add("no namespace within", Refused, &|blob| blob.namespace.clear());
        add("a namespace with NUL", Stricter, &|blob| blob.namespace.push(0));
        add("reserved content", Stricter, &|blob| blob.reserved = b"x".to_vec());
        add("the other hash", Refused, &|blob| blob.hash = b"sha256".to_vec());
        add("md5", Refused, &|blob| blob.hash = b"md5".to_vec());
        add("sha384", Refused, &|blob| blob.hash = b"sha384".to_vec());
        add("SHA512", Refused, &|blob| blob.hash = b"SHA512".to_vec());
        add("a hash with NUL", Stricter, &|blob| blob.hash.push(0));
        add("no hash", Refused, &|blob| blob.hash.clear());
        add("bytes behind", Refused, &|blob| blob.behind = vec![0; 4]);
        add("no value", Refused, &|blob| blob.value.clear());
        add("a short value", Refused, &|blob| blob.value.truncate(20));
        add("a long value", Refused, &|blob| blob.value.push(0));
        add("a value of another kind", Refused, &|blob| {
            blob.value = [string("ssh-dss"), string([1; 40])].concat();
        });
        add("bytes behind the key", Refused, &|blob| blob.key.push(0));
        add("no key", Refused, &|blob| blob.key.clear());
        add("a key of another kind", Refused, &|blob| blob.key = [string("ssh-dss"), string("")].concat());
    }
    cases.extend(numbers());
    cases.extend(security_keys());
    cases
}

/// Numbers and names with more than one spelling.
fn numbers() -> Cases {
    let mut cases = Vec::new();
    let change = |kind: &'static str, name: &str, want, change: &dyn Fn(&mut Blob)| {
        let case = good(&Maker::key(kind), "sha512");
        let mut blob = Blob::read(&case.signature);
        change(&mut blob);
        (with(&case, name, |case| case.signature = blob.armoured()), want)
    };
    for kind in ["p256", "p384", "p521"] {
        cases.push(change(kind, "a zero before a number", Stricter, &|blob| {
            let outer = strings(&blob.value);
            let mut scalars = strings(&outer[1]);
            scalars[0].insert(0, 0);
            let inner: Vec<u8> = scalars.iter().flat_map(string).collect();
            blob.value = [string(&outer[0]), string(inner)].concat();
        }));
    }
    cases.push(change("ed25519", "a name of the key with NUL", Stricter, &|blob| {
        let fields = strings(&blob.key);
        blob.key = [string(b"ssh-ed25519\0"), string(&fields[1])].concat();
    }));
    cases.push(change("ed25519", "a scalar beyond the group's order", Stricter, &|blob| {
        let fields = strings(&blob.value);
        let mut value = fields[1].clone();
        add_order(&mut value[32..]);
        blob.value = [string(&fields[0]), string(value)].concat();
    }));
    cases.push(change("rsa", "ssh-rsa, which is SHA-1", Refused, &|blob| {
        let fields = strings(&blob.value);
        blob.value = [string("ssh-rsa"), string(&fields[1])].concat();
    }));
    cases.push(change("rsa", "the other RSA hash", Refused, &|blob| {
        let fields = strings(&blob.value);
        blob.value = [string("rsa-sha2-256"), string(&fields[1])].concat();
    }));
    cases.push(change("rsa", "a zero before the value", Refused, &|blob| {
        let fields = strings(&blob.value);
        blob.value = [string(&fields[0]), string([&[0], fields[1].as_slice()].concat())].concat();
    }));
    cases.push(change("rsa", "a zero before the modulus", Stricter, &|blob| {
        let fields = strings(&blob.key);
        let modulus = [&[0], fields[2].as_slice()].concat();
        blob.key = [string(&fields[0]), string(&fields[1]), string(modulus)].concat();
    }));
    cases
}

/// Adds the order of ed25519's group to a number, lowest byte first.
fn add_order(number: &mut [u8]) {
    const ORDER: [u8; 16] =
        [0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14];
    let mut carry = 0;
    for (index, byte) in number.iter_mut().enumerate() {
        let order = ORDER.get(index).copied().unwrap_or(if index == 31 { 0x10 } else { 0 });
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
}

/// Flags, counters and applications of security keys.
fn security_keys() -> Cases {
    let mut cases = Vec::new();
    for kind in ["sk-ed25519", "sk-ecdsa"] {
        let maker = Maker::key(kind);
        let case = good(&maker, "sha512");
        let data = keys::data(NAMESPACE, "sha512", BYTES);
        let signed = |authenticator: &Authenticator, flags, counter| {
            Blob::new(maker.blob().to_vec(), NAMESPACE, "sha512", authenticator.sign(&data, flags, counter))
                .armoured()
        };
        let ours = keys::authenticator(kind).expect("one of ours");
        let elsewhere = if kind == "sk-ed25519" {
            Authenticator::ed25519("ssh:x")
        } else {
            Authenticator::ecdsa("ssh:x")
        };
        for (name, signature, want) in [
            ("touched and verified", signed(&ours, TOUCHED | VERIFIED, 1), Accepted),
            ("counter 0", signed(&ours, TOUCHED, 0), Accepted),
            ("the last counter", signed(&ours, TOUCHED, u32::MAX), Accepted),
            ("not touched", signed(&ours, 0, 1), Stricter),
            ("verified, not touched", signed(&ours, VERIFIED, 1), Stricter),
            ("for another application", signed(&elsewhere, TOUCHED, 1), Refused),
        ] {
            cases.push((with(&case, name, |case| case.signature = signature), want));
        }
        for (name, from_end) in [("other flags", 5), ("another counter", 1)] {
            let mut blob = Blob::read(&case.signature);
            let at = blob.value.len() - from_end;
            blob.value[at] ^= 4;
            cases.push((with(&case, name, |case| case.signature = blob.armoured()), Refused));
        }
        let mut blob = Blob::read(&case.signature);
        let short = blob.value.len() - 4;
        blob.value.truncate(short);
        cases.push((with(&case, "no counter", |case| case.signature = blob.armoured()), Refused));
    }
    let maker = Maker::key("sk-ecdsa");
    let data = keys::data(NAMESPACE, "sha512", BYTES);
    let value = keys::authenticator("sk-ecdsa").expect("one of ours").sign_in_browser(&data, 3);
    let browser = Blob::new(maker.blob().to_vec(), NAMESPACE, "sha512", value).armoured();
    cases.push((with(&good(&maker, "sha512"), "by a browser", |case| case.signature = browser), Stricter));
    cases
}
