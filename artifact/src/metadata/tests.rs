use proptest::prelude::*;

use super::*;

const FULL: &str = r#"
format = 1
name = "greeter"
version = "1.2.0"
abi = 0
routes = ["/greet", "/"]
requires = ["auth ^1.4", "log >=1, <3"]
state = { schema = 3, accepts = "1..=3" }
[x-team]
mail = "team@example.com"
"#;

const SMALL: &str = "format = 1\nname = \"greeter\"\nversion = \"1.2.0\"\nabi = 0\n";

fn refuse(text: &str) -> Refusal {
    Metadata::parse(text.as_bytes()).unwrap_err().refusal()
}

#[test]
fn the_documented_example_parses() {
    let metadata = Metadata::parse(FULL.as_bytes()).unwrap();
    assert_eq!(metadata.name.as_str(), "greeter");
    assert_eq!(metadata.version.to_string(), "1.2.0");
    assert_eq!(metadata.routes.iter().map(Route::as_str).collect::<Vec<_>>(), ["/greet", "/"]);
    assert_eq!(
        metadata.requires.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["auth ^1.4", "log >=1, <3"]
    );
    assert_eq!(metadata.state, Some(State { schema: 3, accepts: 1..=3 }));
}

#[test]
fn a_background_module_needs_four_keys() {
    let metadata = Metadata::parse(SMALL.as_bytes()).unwrap();
    assert!(metadata.routes.is_empty() && metadata.requires.is_empty() && metadata.state.is_none());
}

#[test]
fn every_required_key_is_missed_by_name() {
    for key in ["format", "name", "version", "abi"] {
        let without: String =
            SMALL.lines().filter(|line| !line.starts_with(key)).map(|l| format!("{l}\n")).collect();
        let refusal = refuse(&without);
        assert_eq!((refusal.code, refusal.field.as_str()), ("metadata.missing", key));
    }
}

#[test]
fn unknown_and_doubled_keys_are_refused() {
    let refusal = refuse(&format!("{SMALL}rotues = []\n"));
    assert_eq!(refusal.code, "metadata.unknown_key");
    assert_eq!(refusal.advice, "did you mean `routes`?");
    assert_eq!(refuse(&format!("{SMALL}[owner]\nx-a = 1\n")).code, "metadata.unknown_key");
    assert_eq!(
        refuse(&format!("{SMALL}state = {{ schema = 1, accepts = \"1\", x-a = 1 }}\n")).code,
        "metadata.unknown_key"
    );
    let doubled = refuse(&format!("{SMALL}abi = 0\n"));
    assert_eq!((doubled.code, doubled.field.as_str()), ("metadata.syntax", "metadata line 5"));
}

#[test]
fn each_wrong_value_names_its_place() {
    let cases = [
        ("routes = \"/x\"", "routes"),
        ("routes = [\"/x\", 1]", "routes[1]"),
        ("routes = [\"/x\", \"x\"]", "routes[1]"),
        ("routes = [\"/x\", \"/x\"]", "routes[1]"),
        ("requires = [\"auth\"]", "requires[0]"),
        ("requires = [\"auth >\"]", "requires[0]"),
        ("requires = [\"auth 1\", \"auth 2\"]", "requires[1]"),
        ("state = 1", "state"),
        ("state = { schema = 4, accepts = \"1..=3\" }", "state.accepts"),
        ("state = { schema = 1, accepts = \"3..=1\" }", "state.accepts"),
    ];
    for (line, field) in cases {
        let refusal = refuse(&format!("{SMALL}{line}\n"));
        assert_eq!((refusal.code, refusal.field.as_str()), ("metadata.wrong_value", field), "{line}");
    }
    let missing = refuse(&format!("{SMALL}state = {{ accepts = \"1\" }}\n"));
    assert_eq!((missing.code, missing.field.as_str()), ("metadata.missing", "state.schema"));
    for (key, value) in
        [("format", "2"), ("name", "\"A/b\""), ("version", "\"1\""), ("abi", "-1"), ("abi", "\"0\"")]
    {
        let changed: String = SMALL
            .lines()
            .map(
                |line| if line.starts_with(key) { format!("{key} = {value}\n") } else { format!("{line}\n") },
            )
            .collect();
        assert_eq!(refuse(&changed).field, key, "{changed}");
    }
}

#[test]
fn bounds_hold() {
    let many: Vec<String> = (0..65).map(|i| format!("\"/{i}\"")).collect();
    assert_eq!(refuse(&format!("{SMALL}routes = [{}]\n", many.join(","))).found, "65 entries");
    assert_eq!(refuse(&format!("{SMALL}#{}", "x".repeat(MAX_METADATA))).code, "metadata.too_large");
    assert_eq!(Metadata::parse(b"\xff").unwrap_err().refusal().code, "metadata.not_text");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        if let Err(error) = Metadata::parse(&bytes) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn what_parses_survives_being_stored(mutation in any::<(usize, u8)>()) {
        let mut bytes = FULL.as_bytes().to_vec();
        let at = mutation.0 % bytes.len();
        bytes[at] = mutation.1;
        if let Ok(metadata) = Metadata::parse(&bytes) {
            let stored = toml::to_string(&metadata).unwrap();
            prop_assert_eq!(toml::from_str::<Metadata>(&stored).unwrap(), metadata);
        }
    }
}
