//! A node that can't hold instances as its config requires runs nothing of a module, says why, and holds it against nobody.

use anyhow::Result;
use hot_tests::{Key, Module, Service, text};

#[test]
fn without_a_required_part_nothing_of_a_module_runs_and_its_digest_is_free() -> Result<()> {
    let keys = tempfile::tempdir()?;
    let ada = Key::generate(keys.path().join("ada"))?;
    let signers = ada.signer("ada@example.com")?;
    let require = "[sandbox]\nrequire = [\"user\"]\n";
    let mut service = Service::start_with_spawn(&signers, require, |mut command| {
        command.args(["--users", "none"]);
        Ok(command)
    })?;
    let module = Module::new("good").build()?;
    let push = ["push", text(&module)?, "--key", text(ada.path())?];
    let refused = service.hotctl(&push)?;
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("`user` is missing") && said.contains("hot-spawn"), "{said}");
    assert!(service.hosts()?.is_empty(), "its host is gone");
    let nodes = service.hotctl(&["nodes", "-o", "json"])?.expect(0)?.stdout;
    assert!(nodes.contains("\"code\":\"sandbox.missing\""), "{nodes}");
    let versions = service.hotctl(&["versions", "probe", "-o", "json"])?.expect(0)?.stdout;
    assert!(versions.contains("\"quarantined\":\"\""), "{versions}");
    // The same file is good once the node is.
    service.terminate()?;
    service.configure("[sandbox]\nrequire = []\n")?;
    service.boot()?;
    service.hotctl(&push)?.expect(0)?;
    let nodes = service.hotctl(&["nodes", "-o", "json"])?.expect(0)?.stdout;
    assert!(!nodes.contains("sandbox.missing"), "{nodes}");
    service.stop()
}
