use super::edit::with_chosen;
use super::read::parse;
use super::*;
use crate::failure::Failure;

const GOOD: &str = r#"# fleets of ours
context = "prod"                 # unless another is named

[contexts.prod]
nodes = ["https://10.0.0.1:7443", "https://web-2.example:7443"]
authority = "prod-ca.pem"
certificate = "/etc/ann.pem"
key = "ann.key"

[contexts."by tunnel"]
nodes = ["unix:/tmp/node.sock"]
"#;

fn parsed(text: &str) -> Result<Contexts, Failure> {
    parse(text, Path::new("/x/hot/hotctl.toml"))
}

/// All mistakes of a text, without the name of the file.
fn mistakes(text: &str) -> Vec<String> {
    let failure = parsed(text).expect_err("mistakes");
    assert_eq!(failure.exit.code(), 2);
    let all = std::iter::once(&failure).chain(&failure.more);
    all.map(|failure| failure.sentence.replace("/x/hot/hotctl.toml:", "")).collect()
}

#[test]
fn a_context_is_a_fleet_with_files_beside_the_file() {
    let contexts = parsed(GOOD).expect("is good");
    assert_eq!(contexts.chosen.as_deref(), Some("prod"));
    let prod = &contexts.all["prod"];
    assert_eq!(
        prod.nodes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["https://10.0.0.1:7443", "https://web-2.example:7443"]
    );
    assert_eq!(prod.files.authority.as_deref(), Some(Path::new("/x/hot/prod-ca.pem")));
    assert_eq!(prod.files.certificate.as_deref(), Some(Path::new("/etc/ann.pem")));
    assert_eq!(contexts.all["by tunnel"].files, Files::default());
    assert_eq!(parsed("").expect("is good").all.len(), 0);
}

#[test]
fn all_mistakes_are_told_at_once_by_line() {
    let text = "contxt = \"prod\"\ncontext = \"porch\"\n[contexts.prod]\nnodes = [\"https://a\", 7]\ncert = \"x\"\nkey = 1\n\
                [contexts.none]\n[contexts.some]\nnodes = [\"https://a:1\"]\ncertificate = \"a.pem\"\n";
    let found = mistakes(text);
    assert_eq!(found.len(), 9, "{found:#?}");
    for (found, expected) in found.iter().zip([
        "1: unknown key \"contxt\"; known are context, contexts",
        "2: context: there is no [contexts.porch], expected the name of one that is there: none, prod, some",
        "3: [contexts.prod]: authority and certificate are missing, expected ",
        "4: [contexts.prod] nodes: \"https://a\" is no node address: ",
        "4: [contexts.prod] nodes: expected a list of addresses like ",
        "5: unknown key \"cert\" in [contexts.prod]; known are nodes, authority, certificate, key",
        "6: [contexts.prod] key: expected the path of a file in quotes",
        "7: [contexts.none]: nodes is missing, expected a list of addresses like ",
        "8: [contexts.some]: authority and key are missing, expected ",
    ]) {
        assert!(found.starts_with(expected), "{expected}: {found}");
    }
    assert_eq!(mistakes("[contexts.prod]\nnodes = [\n").len(), 1);
    assert!(mistakes("context = 1\n")[0].starts_with("1: context: expected the name"));
}

#[test]
fn another_default_changes_nothing_else() {
    let text = with_chosen(GOOD, "by tunnel");
    assert_eq!(text, GOOD.replace("context = \"prod\"  ", "context = \"by tunnel\"  "));
    assert_eq!(parsed(&text).expect("is good").chosen.as_deref(), Some("by tunnel"));
    let without = GOOD.replace("context = \"prod\"                 # unless another is named\n", "");
    let text = with_chosen(&without, "prod");
    assert_eq!(text, format!("context = \"prod\"\n{without}"));
    assert_eq!(parsed(&text).expect("is good").chosen.as_deref(), Some("prod"));
}

#[test]
fn the_file_is_replaced_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hotctl.toml");
    assert_eq!(read(&file).expect("no file is no mistake"), None);
    std::fs::write(&file, GOOD).expect("writes");
    let contexts = read(&file).expect("reads").expect("is there");
    let unknown = choose(&contexts, "porch").expect_err("none of them").sentence;
    assert!(unknown.ends_with("hotctl.toml: it has by tunnel, prod"), "{unknown}");
    choose(&contexts, "by tunnel").expect("chooses");
    assert_eq!(read(&file).expect("reads").expect("is there").chosen.as_deref(), Some("by tunnel"));
}

#[test]
fn where_the_file_is() {
    let at = |config: Option<&str>, home: Option<&str>| place(config.map(OsStr::new), home.map(OsStr::new));
    assert_eq!(at(Some("/c"), Some("/h")).as_deref(), Some(Path::new("/c/hot/hotctl.toml")));
    assert_eq!(at(Some("relative"), Some("/h")).as_deref(), Some(Path::new("/h/.config/hot/hotctl.toml")));
    assert_eq!(at(None, Some("/h")).as_deref(), Some(Path::new("/h/.config/hot/hotctl.toml")));
    assert_eq!(at(None, None), None);
}
