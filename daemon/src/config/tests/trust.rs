//! `[trust]`.

use super::*;

#[test]
fn trust_is_read_anew_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let allowed_signers = folder.path().join("allowed_signers");
    let trust = Trust {
        allowed_signers: allowed_signers.clone(),
        revoked: None,
        libraries: None,
        modules: Default::default(),
    };
    assert!(matches!(trust.read_signers(), Err(TrustError::Read { .. })));
    std::fs::write(&allowed_signers, "bad\n").unwrap();
    assert!(matches!(trust.read_signers(), Err(TrustError::Invalid(_))));
    std::fs::write(&allowed_signers, "# nobody yet\n").unwrap();
    assert!(trust.read_signers().unwrap().1.keys("hot-module").is_empty());
}

#[test]
fn a_check_says_which_names_in_the_rules_nobody_can_sign_as() {
    let folder = tempfile::tempdir().unwrap();
    let (config, signers) = (folder.path().join("hotd.toml"), folder.path().join("signers"));
    let key = hot_artifact::signature::generate_key("ada").unwrap().public;
    let text = format!(
        "data_dir = {:?}\n{SMALL}[trust]\nallowed_signers = {signers:?}\n[trust.modules]\n\"pay\" = [\"ada\", \"adda\"]\n\
         \"*\" = [\n  \"ada\",\n  \"ci@example.com\",\n]\n{}",
        folder.path().join("data"),
        sockets(folder.path())
    );
    std::fs::write(&config, text).unwrap();
    let idle = |lines: &str| -> Vec<String> {
        std::fs::write(&signers, lines).unwrap();
        Config::check(&config).unwrap().idle.iter().map(ToString::to_string).collect()
    };
    let ada = format!("ada namespaces=\"hot-module\" {key}\n");
    let found = idle(&ada);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("hotd.toml:7: [trust.modules] pay: nobody can sign as adda"), "{found:#?}");
    assert!(found[1].contains("hotd.toml:8: [trust.modules] *: nobody can sign as ci@example"), "{found:#?}");
    // Certificates say the names of an authority's people.
    let authority = format!("{ada}*@example.com cert-authority,namespaces=\"hot-module\" {key}\n");
    let found = idle(&authority);
    assert!(found.len() == 1 && found[0].contains("as adda"), "{found:#?}");
    assert!(Config::load(&config).is_ok(), "a node starts: what nobody can do lets nobody in");
}
