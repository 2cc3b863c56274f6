//! What goes wrong around a node is said in one clear sentence, and costs nothing that was there.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use hot_tests::{Binaries, Key, Module, Node, NodeOptions, Refusal, raw};

/// A node that serves `probe 1.0.0`.
fn serving() -> Result<Node> {
    let node = Node::start()?;
    node.push(&Module::new("good").build()?, &[])?.expect(0)?;
    Ok(node)
}

/// It still does, and knows nothing else.
fn serves_as_before(node: &Node) -> Result<()> {
    let reply = hot_tests::get(node.http(), "/probe")?;
    assert_eq!((reply.status().as_u16(), reply.body().as_ref()), (200, &b"probe 1.0.0\n"[..]));
    let status = node.status()?;
    assert_eq!(status.modules.len(), 1, "{status:?}");
    assert_eq!(status.modules[0].stable_version(), "1.0.0");
    Ok(())
}

/// A refusal is a failure with a text of few lines that has these words, and no panic.
fn assert_says(refusal: &Refusal, words: &[&str]) {
    assert!((1..=4).contains(&refusal.code), "{refusal:?}");
    assert!(!refusal.stderr.contains("panicked"), "{}", refusal.stderr);
    for word in words {
        assert!(refusal.stderr.contains(word), "expected {word:?} in:\n{}", refusal.stderr);
    }
}

#[test]
fn a_file_that_is_no_module() -> Result<()> {
    let node = serving()?;
    let text = node.scratch().join("notes.txt");
    fs::write(&text, "remember the milk\n".repeat(100))?;
    let program = node.binaries().hotctl();
    let library = Module::new("good").build()?;
    let cut = node.scratch().join("cut.so");
    fs::write(&cut, &fs::read(library)?[..100])?;
    for file in [&text, &cut, &program] {
        let output = node.push(file, &[])?.expect(4)?;
        let name = file.file_name().context("a name")?.to_string_lossy().into_owned();
        assert!(output.sentence()?.contains(&name), "expected the file's name in {:?}", output.stderr);
    }
    let missing = node.push(Path::new("/nowhere/probe.so"), &[])?;
    assert_ne!(missing.code, 0);
    assert!(missing.sentence()?.contains("/nowhere/probe.so"));
    serves_as_before(&node)?;
    node.stop()
}

#[test]
fn a_name_that_would_be_a_path() -> Result<()> {
    let node = serving()?;
    for name in ["a/b", "../probe", "/etc/passwd", "..", "Probe", "pro be"] {
        let output = node.push(&Module::new("good").name(name).build()?, &[])?.expect(4)?;
        assert!(output.sentence()?.contains("name"), "{name}: {}", output.stderr);
    }
    for version in ["../../1", "1.0", "v1.0.0", "1.0.0+build"] {
        let output =
            node.push(&Module::new("good").version(version).name("other").build()?, &[])?.expect(4)?;
        assert!(output.sentence()?.contains("version"), "{version}: {}", output.stderr);
    }
    serves_as_before(&node)?;
    node.stop()
}

#[test]
fn a_body_over_the_limit_gets_413() -> Result<()> {
    let node = serving()?;
    let head = "POST /probe HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 10995116277760\r\n\r\n";
    let answer = raw(node.http(), head.as_bytes())?;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    serves_as_before(&node)?;
    node.stop()
}

#[test]
fn a_body_that_grows_over_the_limit_gets_413() -> Result<()> {
    let node = Node::start()?;
    node.push(&Module::new("echoes").build()?, &[])?.expect(0)?;
    // In pieces, so that nobody knows its length; past the default limit of 64 MiB.
    let piece = format!("{:x}\r\n{}\r\n", 64 << 10, "x".repeat(64 << 10));
    let mut request =
        b"POST /probe HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..1536 {
        request.extend_from_slice(piece.as_bytes());
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let answer = raw(node.http(), &request)?;
    // The head may be on its way when the limit is passed; then the response is cut off.
    let cut = answer.starts_with("HTTP/1.1 200 ") && !answer.ends_with("0\r\n\r\n");
    let ends = [&answer[..answer.len().min(300)], &answer[answer.len().saturating_sub(100)..]];
    assert!(
        answer.starts_with("HTTP/1.1 413 ") || cut,
        "{} bytes: {} ... {:?}",
        answer.len(),
        ends[0],
        ends[1]
    );
    let small = http::Request::post("/probe").header("host", "localhost").body("small".into())?;
    assert_eq!(hot_tests::exchange(node.http(), small)?.body().as_ref(), b"small");
    node.stop()
}

#[test]
fn headers_of_64_kib_get_431() -> Result<()> {
    let node = serving()?;
    let head = format!(
        "GET /probe HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-big: {}\r\n\r\n",
        "x".repeat(64 << 10)
    );
    let answer = raw(node.http(), head.as_bytes())?;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{}", &answer[..answer.len().min(300)]);
    serves_as_before(&node)?;
    node.stop()
}

/// What `hotd --check` says of a config, and with which code.
fn check(config: &Path) -> Result<(Option<i32>, String)> {
    let check =
        Command::new(Binaries::locate()?.hotd()).arg("--config").arg(config).arg("--check").output()?;
    Ok((check.status.code(), String::from_utf8_lossy(&check.stderr).into_owned()))
}

#[test]
fn a_config_with_mistakes_in_each_of_its_files() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, signers) = (folder.path().join("hotd.toml"), folder.path().join("signers"));
    let text = format!(
        "data_dir = \"relative\"\n\n[http]\nlisten = [\"127.0.0.1\"]\nmax_body = \"much\"\nspeed = 11\n\n\
         [trust]\nallowed_signers = {signers:?}\n\n[log]\nlevel = \"inof\"\n"
    );
    fs::write(&file, text)?;
    fs::write(&signers, "# who may sign\nada this is no key\n")?;
    let (code, stderr) = check(&file)?;
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.starts_with(&format!("{}:1: ", file.display())), "no prefix: {stderr}");
    let expected = [
        ("hotd.toml:1:", "data_dir"),
        ("hotd.toml:4:", "listen"),
        ("hotd.toml:5:", "max_body"),
        ("hotd.toml:6:", "speed"),
        ("hotd.toml:12:", "level"),
        ("signers:2:", "option"),
    ];
    for (place, word) in expected {
        let said = stderr.lines().any(|text| text.contains(place) && text.contains(word));
        assert!(said, "expected {place} with {word:?} in:\n{stderr}");
    }
    Ok(())
}

#[test]
fn a_config_without_mistakes_and_a_signer_who_does_not_count() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, signers) = (folder.path().join("hotd.toml"), folder.path().join("signers"));
    fs::write(
        &file,
        format!(
            "data_dir = {:?}\n[http]\nlisten = [\"127.0.0.1:0\"]\n[trust]\nallowed_signers = {signers:?}\n[trust.modules]\n\
             \"*\" = [\"ada\"]\n[grpc]\nsocket = {:?}\n[spawn]\nsocket = {:?}\n",
            folder.path().join("data"),
            folder.path().join("hotd.sock"),
            folder.path().join("spawn.sock")
        ),
    )?;
    let key = Key::generate(folder.path().join("key"))?;
    fs::write(&signers, format!("ada {}\n", key.public()?))?;
    let (code, stderr) = check(&file)?;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("signers:1:") && stderr.contains("namespaces="), "{stderr}");
    assert!(stderr.contains("hotd.toml:7:") && stderr.contains("nobody can sign as ada"), "{stderr}");
    fs::remove_file(&signers)?;
    let (code, stderr) = check(&file)?;
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("hotd.toml:5:") && stderr.contains("can't read"), "{stderr}");
    Ok(())
}

/// What a user other than root may not do.
#[test]
fn a_config_whose_folders_the_user_may_not_use() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    for (name, mode) in [("locked", 0o700), ("read_only", 0o755)] {
        fs::create_dir(at(name))?;
        fs::create_dir(at(name).join("data"))?;
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode))?;
    }
    fs::write(at("signers"), "# nobody yet\n")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let program = at("hotd");
    fs::copy(Binaries::locate()?.hotd(), &program)?;
    let mut stranger = Command::new(&program);
    stranger.arg("--config").arg(at("hotd.toml")).arg("--check");
    if fs::metadata(folder.path())?.uid() == 0 {
        stranger.uid(65_534).gid(65_534);
    } else {
        // Its own user, who has taken the rights from itself.
        fs::set_permissions(at("locked"), fs::Permissions::from_mode(0o000))?;
        fs::set_permissions(at("read_only"), fs::Permissions::from_mode(0o555))?;
    }
    let text = |data: &str, control: &str, spawn: &str| {
        format!(
            "data_dir = {:?}\n[http]\nlisten = [\"127.0.0.1:0\"]\n[trust]\nallowed_signers = {:?}\n[grpc]\nsocket = \
             {:?}\n[spawn]\nsocket = {:?}\n",
            at(data),
            at("signers"),
            at(control),
            at(spawn)
        )
    };
    let mut said = |data, control, spawn| -> Result<String> {
        fs::write(at("hotd.toml"), text(data, control, spawn))?;
        let check = stranger.output()?;
        assert_eq!(check.status.code(), Some(2), "{check:?}");
        Ok(String::from_utf8_lossy(&check.stderr).into_owned())
    };
    let locked = said("locked/data", "locked/c.sock", "locked/s.sock")?;
    for line in [1, 7, 9] {
        let begins = format!("{}:{line}: ", at("hotd.toml").display());
        let mut lines = locked.lines().filter(|text| text.starts_with(&begins));
        let line = lines.next().with_context(|| format!("no {begins} in {locked}"))?;
        assert!(line.contains(&format!("can't look into {} to find", at("locked").display())), "{line}");
    }
    let read_only = said("read_only/new", "read_only/c.sock", "read_only/s.sock")?;
    assert!(read_only.contains("can't make it in ") && read_only.contains("chown"), "{read_only}");
    assert!(
        read_only.contains(":7: [grpc] socket: ") && read_only.contains("can't make a socket in "),
        "{read_only}"
    );
    assert_eq!(read_only.lines().count(), 2, "hot-spawn may be another user's to start: {read_only}");
    for name in ["locked", "read_only"] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o755))?;
    }
    assert!(!at("read_only").join("new").exists());
    Ok(())
}

#[test]
fn a_port_in_use() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address: SocketAddr = taken.local_addr()?;
    let folder = tempfile::tempdir()?;
    let data_dir = folder.path().join("data");
    let options =
        NodeOptions { http: Some(address), data_dir: Some(data_dir.clone()), ..NodeOptions::default() };
    let refusal = Node::refused(options)?;
    assert_says(&refusal, &[&address.to_string(), "--http", "in use"]);
    assert_eq!(refusal.stderr.matches("in use").count(), 1, "{}", refusal.stderr);
    assert!(!data_dir.exists(), "a node that did not start has left something behind");
    Ok(())
}

#[test]
fn a_data_folder_of_another_user() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mine = fs::metadata(folder.path())?.uid();
    let data_dir = if mine == 0 {
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        chown(&data, Some(65_534), Some(65_534))?;
        data
    } else {
        // Root's, and readable by all.
        "/usr/lib".into()
    };
    let refusal = Node::refused(NodeOptions { data_dir: Some(data_dir.clone()), ..NodeOptions::default() })?;
    assert_says(&refusal, &[&data_dir.display().to_string(), "user"]);
    Ok(())
}

#[test]
fn a_data_folder_that_can_not_be_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, open) = (folder.path().join("file"), folder.path().join("open"));
    fs::write(&file, "")?;
    fs::create_dir(&open)?;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777))?;
    // proc is a file system in which nobody makes folders.
    for (data_dir, words) in [
        (file.clone(), ["is not a folder", "name another"]),
        (file.join("below"), ["can't be made", "name another"]),
        (open, ["every user may write", "chmod o-w"]),
        ("/proc/hot".into(), ["can't be made", "name another"]),
    ] {
        let refusal =
            Node::refused(NodeOptions { data_dir: Some(data_dir.clone()), ..NodeOptions::default() })?;
        assert_says(&refusal, &[&data_dir.display().to_string(), words[0], words[1]]);
        assert_eq!(refusal.stderr.lines().count(), 1, "{}", refusal.stderr);
    }
    Ok(())
}

#[test]
fn a_second_daemon_on_one_data_folder() -> Result<()> {
    let node = serving()?;
    let second = NodeOptions { data_dir: Some(node.data_dir().to_owned()), ..NodeOptions::default() };
    let refusal = Node::refused(second)?;
    assert_says(&refusal, &[&node.data_dir().display().to_string()]);
    serves_as_before(&node)?;
    // Its hosts and its store are still its own.
    node.push(&Module::new("good").version("1.1.0").build()?, &["--steps", "100%", "--bake", "1s"])?
        .expect(0)?;
    node.stop()
}
