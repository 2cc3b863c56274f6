//! The real `hotctl`, as a shell sees it: exit codes, what goes to which output, and nothing from this machine's own
//! nodes.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// `hotctl` with `folder` for its run-time folder, so that a node of the user's is not found.
fn hotctl(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotctl"));
    command
        .env_remove("HOTCTL_NODE")
        .env_remove("HOTCTL_TOKEN")
        .env_remove("HOTCTL_CONTEXT")
        .env_remove("SSH_AUTH_SOCK")
        .env("XDG_RUNTIME_DIR", folder)
        .env("XDG_CONFIG_HOME", folder)
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    hotctl(folder.path()).args(arguments).output().expect("runs")
}

/// Exit code, standard output, standard error.
fn parts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Nobody listens on a port that was just given back.
fn dead_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    format!("http://{}", listener.local_addr().expect("is bound"))
}

#[test]
fn a_slip_is_a_usage_error() {
    let (code, out, err) = parts(&run(&["stauts"]));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("status"), "{err}");
}

/// What is typed in a wrong place or form says where and how it belongs.
#[test]
fn what_is_meant_is_said() {
    for (arguments, expected) in [
        (&["remove", "greeter", "1.0.0"][..], "`hotctl remove greeter --version 1.0.0`"),
        (&["remove", "greeter", "--version", "1.0"], "expected one like 1.0.0"),
        (&["events", "--on", "zone=a"], "the name of one node"),
        (&["push", "a.so", "--on", "web-3"], "expected LABEL=VALUE"),
    ] {
        let (code, out, err) = parts(&run(arguments));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
}

#[test]
fn a_slip_is_an_object_where_json_is_asked_for() {
    for arguments in
        [&["-o", "json", "stauts"][..], &["push", "--output=json"], &["push", "x", "--canary", "-ojson"]]
    {
        let (code, out, err) = parts(&run(arguments));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        let error: serde_json::Value = serde_json::from_str(&err).expect("an object");
        assert_eq!((&error["error"]["code"], &error["exit_code"]), (&"usage".into(), &2.into()), "{err}");
    }
    let (code, out, err) = parts(&run(&["-o", "json", "--help"]));
    assert_eq!((code, err.as_str()), (Some(0), ""), "help is no mistake");
    assert!(out.contains("Usage: hotctl"), "{out}");
}

#[test]
fn an_unreachable_node_is_one_sentence() {
    let address = dead_address();
    let (code, out, err) = parts(&run(&["--node", &address, "status"]));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with(&format!("hotctl: no node answers at {address}")), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn json_errors_are_objects_on_standard_error() {
    let address = dead_address();
    let (code, out, err) = parts(&run(&["--node", &address, "-o", "json", "status"]));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let error: serde_json::Value = serde_json::from_str(&err).expect("an object");
    assert_eq!(
        (error["error"]["code"].as_str(), error["exit_code"].as_u64()),
        (Some("unreachable"), Some(1))
    );
}

#[test]
fn the_node_comes_from_the_environment_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("hotd.sock");
    let node = format!("unix:{}", socket.display());
    let output = hotctl(folder.path()).env("HOTCTL_NODE", &node).arg("nodes").output().expect("runs");
    let (code, _, err) = parts(&output);
    assert_eq!(code, Some(1));
    assert!(err.contains(&format!("no node answers at {node}")), "{err}");
}

#[test]
fn a_dev_node_that_ended_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("hot")).expect("a folder");
    // Nobody holds its lock, whatever runs under that number.
    let record = r#"{"http":"127.0.0.1:1","grpc":"127.0.0.1:2","socket":"/s","data_dir":"/d","pid":1}"#;
    std::fs::write(folder.path().join("hot/dev-1.json"), record).expect("writes");
    let output = hotctl(folder.path()).args(["status"]).output().expect("runs");
    // A machine with the service has a node, and then this says nothing about the record.
    if !Path::new("/run/hot/hotd.sock").exists() {
        let (code, _, err) = parts(&output);
        assert_eq!(code, Some(1));
        assert!(err.contains("dev-1.json is of a dev node that no longer runs"), "{err}");
    }
}

#[test]
fn what_is_no_module_is_refused_before_any_node_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "hello").expect("writes");
    let address = dead_address();
    for command in ["push", "inspect", "sign"] {
        let output =
            hotctl(folder.path()).args(["--node", &address, command]).arg(&file).output().expect("runs");
        let (code, out, err) = parts(&output);
        assert_eq!((code, out.as_str()), (Some(4), ""), "{command}: {err}");
        assert!(
            err.contains("notes.txt: ") && err.contains("expected an ELF shared object"),
            "{command}: {err}"
        );
    }
}

#[test]
fn completions_are_for_three_shells() {
    for (shell, mark) in
        [("bash", "complete -F _hotctl"), ("zsh", "#compdef hotctl"), ("fish", "complete -c hotctl")]
    {
        let (code, out, _) = parts(&run(&["completions", shell]));
        assert_eq!(code, Some(0), "{shell}");
        assert!(out.contains(mark) && out.contains("rollback"), "{shell}");
    }
    let (code, out, err) = parts(&run(&["completions", "bash", "-o", "json"]));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("leave -o json out"), "{err}");
}

#[test]
fn a_reader_that_leaves_is_success() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = hotctl(folder.path())
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    // More than a pipe holds is not needed: the reading end is gone before anything is written, or the write fails.
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    let (code, _, err) = parts(&output);
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

#[test]
fn contexts_are_listed_and_chosen_and_lead_to_a_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| parts(&hotctl(folder.path()).args(arguments).output().expect("runs"));
    let (code, out, err) = run(&["contexts"]);
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert!(err.starts_with("there are no contexts in ") && err.contains("hot/hotctl.toml"), "{err}");

    let file = folder.path().join("hot/hotctl.toml");
    std::fs::create_dir(folder.path().join("hot")).expect("a folder");
    let text = "# ours\n[contexts.one]\nnodes = [\"unix:/none/one.sock\", \"unix:/none/two.sock\"]\n[contexts.two]\n\
                nodes = [\"unix:/none/three.sock\"]\n";
    std::fs::write(&file, text).expect("writes");
    assert_eq!(run(&["use", "one"]).0, Some(0));
    assert_eq!(std::fs::read_to_string(&file).expect("reads"), format!("context = \"one\"\n{text}"));
    let (code, out, _) = run(&["contexts"]);
    assert_eq!(code, Some(0));
    let first: Vec<_> = out.lines().map(|line| line.split("  ").next().unwrap_or_default()).collect();
    assert_eq!(first, ["CONTEXT", "one *", "two"]);
    let (code, _, err) = run(&["nodes"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("(context one): unix:/none/one.sock: No such file"), "{err}");
    let (_, _, err) = run(&["nodes", "--context", "two"]);
    assert!(err.contains("no node answers at unix:/none/three.sock (context two)"), "{err}");
    let (_, _, err) = run(&["nodes", "--node", "unix:/none/four.sock"]);
    assert!(err.contains("no node answers at unix:/none/four.sock"), "{err}");

    std::fs::write(&file, "contxt = 1\n[contexts.one]\n").expect("writes");
    let (code, _, err) = run(&["nodes"]);
    assert_eq!((code, err.lines().count()), (Some(2), 2), "{err}");
    let (code, _, err) = run(&["nodes", "--node", "unix:/none/four.sock"]);
    assert_eq!(code, Some(1), "where a node is named nothing else is looked at: {err}");
}
