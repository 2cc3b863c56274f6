//! A stored file that was damaged on the disk: a push of the same file mends it, for good.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hot_tests::{Key, Module, Node, WAIT, sha256, text};

/// A node that serves 1.0.0.
struct Case {
    node: Node,
    file: PathBuf,
}

impl Case {
    fn new() -> Result<Self> {
        let (node, file) = (Node::start()?, Module::new("good").build()?);
        node.push(&file, &[])?.expect(0)?;
        Ok(Self { node, file })
    }

    fn stored(&self) -> Result<PathBuf> {
        Ok(self.node.data_dir().join(format!("artifacts/{}.so", sha256(&fs::read(&self.file)?))))
    }

    /// Pushes the same file again; what the node then says that it did, and that it has the good bytes.
    fn mend(&self) -> Result<()> {
        let mut events = self.node.events()?;
        let pushed = self.node.push(&self.file, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
        assert!(pushed.stdout.contains("uploaded, signed by dev"), "{}", pushed.stdout);
        let event = events.wait(WAIT, |event| event.kind == "artifact.mended")?;
        let says = "was damaged on this node's disk; the bytes that were pushed again took its place";
        assert!(
            event.text.contains("the file of probe 1.0.0 (") && event.text.contains(says),
            "{}",
            event.text
        );
        assert_eq!(fs::read(self.stored()?)?, fs::read(&self.file)?);
        self.serves()
    }

    fn serves(&self) -> Result<()> {
        let reply = hot_tests::get(self.node.http(), "/probe")?;
        assert_eq!(String::from_utf8_lossy(reply.body()), "probe 1.0.0\n");
        Ok(())
    }
}

fn flip(path: &Path) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).context("a byte")? ^= 1;
    Ok(fs::write(path, bytes)?)
}

#[test]
fn a_stable_whose_file_was_damaged_serves_once_the_same_file_is_pushed_again() -> Result<()> {
    let mut case = Case::new()?;
    flip(&case.stored()?)?;
    case.node.kill_all()?;
    case.node.start_again()?;
    let down = case.node.wait_module("probe", WAIT, |module| module.instances().any(|it| !it.runs()))?;
    assert!(down.waiting_on.contains("push the version again"), "{down:?}");
    case.mend()?;
    // It is mended on the disk, not only in memory.
    case.node.kill_all()?;
    case.node.start_again()?;
    case.node.wait_module("probe", WAIT, |module| module.instances().any(|it| it.state == "ready"))?;
    case.serves()?;
    let again = case.node.push(&case.file, &["--steps", "100%", "--bake", "1s"])?.expect(0)?;
    assert!(again.stdout.contains("the node has it already"), "{}", again.stdout);
    case.node.stop()
}

#[test]
fn damage_that_nobody_has_noticed_is_found_by_the_push_that_mends_it() -> Result<()> {
    let case = Case::new()?;
    flip(&case.stored()?)?;
    case.mend()?;
    // Cut short, and not there at all.
    fs::write(case.stored()?, b"short")?;
    case.mend()?;
    fs::remove_file(case.stored()?)?;
    case.mend()?;
    case.node.stop()
}

#[test]
fn damaged_bytes_are_not_replaced_by_any_others() -> Result<()> {
    let case = Case::new()?;
    flip(&case.stored()?)?;
    let damaged = fs::read(case.stored()?)?;
    let stranger = Key::generate(case.node.scratch().join("stranger"))?;
    let refused = case.node.push(&case.file, &["--key", text(stranger.path())?])?.expect(4)?;
    assert!(!refused.sentence()?.is_empty());
    let signature = case.node.scratch().join("signature");
    stranger.sign("hot-module", &case.file, &signature)?;
    let bytes = fs::read(&case.file)?;
    // Past hotctl, which asks for a plan first.
    let refused = hot_tests::upload_refused(case.node.door()?, &bytes, &fs::read(&signature)?)?;
    assert_eq!(refused.code, "signer.not_allowed", "{refused:?}");
    assert_eq!(fs::read(case.stored()?)?, damaged);
    case.mend()?;
    case.node.stop()
}

/// The signature that the node has may be over a hash that is made of the stored bytes.
#[test]
fn without_a_signature_it_is_mended_or_said_what_to_do() -> Result<()> {
    let case = Case::new()?;
    flip(&case.stored()?)?;
    case.node.push(&case.file, &["--no-sign", "--steps", "100%", "--bake", "1s"])?.expect(0)?;
    assert_eq!(fs::read(case.stored()?)?, fs::read(&case.file)?);

    let signature = case.node.scratch().join("signature");
    case.node.key().sign("hot-module", &case.file, &signature)?;
    let damages: [fn(&Path) -> Result<()>; 3] =
        [flip, |stored| Ok(fs::remove_file(stored)?), |stored| Ok(fs::write(stored, b"short")?)];
    for damage in damages {
        case.node
            .push(&case.file, &["--signature", text(&signature)?, "--steps", "100%", "--bake", "1s"])?
            .expect(0)?;
        damage(&case.stored()?)?;
        let refused = case.node.push(&case.file, &["--no-sign"])?.expect(4)?;
        assert!(refused.sentence()?.contains("without --no-sign"), "{}", refused.stderr);
        case.mend()?;
    }
    case.node.stop()
}
