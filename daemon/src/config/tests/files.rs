//! The files themselves: the config, and those that it names.

use super::*;

#[test]
fn files_are_bounded_and_must_be_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(matches!(Config::load(&at("missing")), Err(ConfigError::Read { .. })));
    assert!(matches!(Config::load(folder.path()), Err(ConfigError::Read { .. })));
    std::fs::write(at("large"), vec![b'#'; 2 << 20]).unwrap();
    assert!(matches!(Config::load(&at("large")), Err(ConfigError::Read { .. })));
    let signers = at("signers");
    let text = format!(
        "data_dir = {:?}\n{SMALL}[trust]\nallowed_signers = {signers:?}\n{}",
        at("data"),
        sockets(folder.path())
    );
    std::fs::write(at("good"), &text).unwrap();
    std::fs::write(&signers, "# nobody yet\n").unwrap();
    assert_eq!(Config::check(&at("good")).unwrap().files.first(), Some(&at("good")));
    std::fs::remove_file(&signers).unwrap();
    assert!(Config::load(&at("good")).is_ok(), "the node may know them from before");
    let missing = Config::check(&at("good")).unwrap_err().to_string();
    let place = format!("{}:5: [trust] allowed_signers: can't read", at("good").display());
    assert!(missing.starts_with(&place), "{missing}");
}

#[test]
fn mistakes_of_both_files_are_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (config, signers) = (folder.path().join("hotd.toml"), folder.path().join("signers"));
    std::fs::write(&signers, "# keys\nada no key\nbob ssh-ed25519 AAAA\n").unwrap();
    let text = format!(
        "{SMALL}threads = 0\n[trust]\nallowed_signers = \"{}\"\n[log]\nlevel = \"inof\"\n",
        signers.display()
    );
    std::fs::write(&config, text).unwrap();
    let Err(ConfigError::Invalid(Mistakes(mistakes))) = Config::load(&config) else { panic!("it is good") };
    let found: Vec<(&Path, usize)> =
        mistakes.iter().map(|mistake| (mistake.file.as_path(), mistake.line)).collect();
    assert_eq!(found, [(&*config, 3), (&*config, 7), (&*signers, 2), (&*signers, 3)], "{mistakes:#?}");
    // A path that is none leads to no file, and least of all to the default's.
    let text = format!("{SMALL}[trust]\nallowed_signers = 7\n");
    std::fs::write(&config, text).unwrap();
    let Err(ConfigError::Invalid(Mistakes(mistakes))) = Config::load(&config) else { panic!("it is good") };
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
}
