//! What a check says of the places that a config names.

use super::*;

#[test]
fn a_check_says_of_a_place_what_is_in_its_way_and_makes_nothing() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("signers"), "# nobody yet\n").unwrap();
    std::fs::write(at("file"), "").unwrap();
    std::fs::create_dir(at("open")).unwrap();
    std::fs::set_permissions(at("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::create_dir_all(at("half/artifacts")).unwrap();
    std::fs::write(at("half/modules"), "").unwrap();
    let check = |data: &str, control: &str, spawn: &str, log: &str| {
        let text = format!(
            "data_dir = {:?}\n{SMALL}access_log = {:?}\n[trust]\nallowed_signers = {:?}\n[grpc]\nsocket = {:?}\n[spawn]\n\
             socket = {:?}\n",
            at(data),
            at(log),
            at("signers"),
            at(control),
            at(spawn)
        );
        std::fs::write(at("hotd.toml"), text).unwrap();
        let before = std::fs::read_dir(folder.path()).unwrap().count();
        let found = match Config::check(&at("hotd.toml")) {
            Ok(checked) => checked.idle.iter().map(ToString::to_string).collect(),
            Err(ConfigError::Invalid(Mistakes(found))) => found.iter().map(ToString::to_string).collect(),
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before, "nothing is made");
        found
    };
    assert_eq!(check("a/b/data", "c.sock", "s.sock", "log"), [""; 0]);
    // Each alone: the line, what is there, what was expected, what to do.
    let good = ["data", "c.sock", "s.sock", "log"];
    for (place, path, line, words) in [
        (0, "file", 1, ["is not a folder", "name another"]),
        (0, "file/data", 1, ["file is a file, expected a folder", "name another path"]),
        (0, "open", 1, ["every user may write", "chmod o-w"]),
        (0, "half", 1, ["half/modules is not a folder", "name another"]),
        (1, "file", 8, ["file is a file, expected a socket", "move it away"]),
        (1, "open", 8, ["open is a folder, expected a socket", "move it away"]),
        (1, "none/c.sock", 8, ["none is not there, expected one in which hotd", "make the folder"]),
        (1, "file/c.sock", 8, ["file is a file, expected a folder", "name another path"]),
        (2, "file", 10, ["file is a file, expected a socket", "move it away"]),
        (2, "none/s.sock", 10, ["none is not there, expected one in which hot-spawn", "make the folder"]),
        (3, "open", 4, ["open is a folder, expected a file", "name a file in it"]),
        (3, "none/log", 4, ["none is not there, expected one in which hotd", "make the folder"]),
    ] {
        let mut paths = good;
        paths[place] = path;
        let found = check(paths[0], paths[1], paths[2], paths[3]);
        let prefix = format!("{}:{line}: ", at("hotd.toml").display());
        assert_eq!(found.len(), 1, "{path}: {found:#?}");
        let is_said = words.iter().all(|word| found[0].contains(word));
        assert!(found[0].starts_with(&prefix) && is_said, "{path}: {found:#?}");
    }
    // All at once, in the order of the lines.
    let all = check("file", "none/c.sock", "none/s.sock", "none/log");
    assert_eq!(all.len(), 4, "{all:#?}");
    assert!(all[0].contains(":1: data_dir: ") && all[1].contains(":4: [http] access_log: "), "{all:#?}");
    assert!(all[2].contains(":8: [grpc] socket: ") && all[3].contains(":10: [spawn] socket: "), "{all:#?}");
}
