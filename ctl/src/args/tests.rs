use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn kind(line: &str) -> ErrorKind {
    parse(line).map(|_| ()).expect_err(line).kind()
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example() {
    for command in Cli::command().get_subcommands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example"), "{} has no example", command.get_name());
        assert!(
            help.contains(&format!("hotctl {}", command.get_name())),
            "{} shows another",
            command.get_name()
        );
        assert!(command.get_about().is_some(), "{} says nothing", command.get_name());
    }
}

#[test]
fn what_users_type() {
    for line in [
        "hotctl push a.so",
        "hotctl push a.so b.so --canary 10% --bake 30s --message why --detach",
        "hotctl push a.so --steps 10%,50%,100% --timeout 5m -o json",
        "hotctl push a.so --spread --max-failing 0",
        "hotctl push a.so --spread-over zone --max-parallel 2 --max-failing 1",
        "hotctl push a.so --on zone=a --on disk=fast",
        "hotctl plan a.so --on all",
        "hotctl push a.so --key k",
        "hotctl push a.so b.so --signature a.sig --signature b.sig",
        "hotctl push a.so --no-sign",
        "hotctl plan a.so",
        "hotctl plan a.so --spread-over zone",
        "hotctl plan a.so b.so --steps 10%,100% --bake 30s --key k -o json",
        "hotctl status",
        "hotctl status greeter --watch",
        "hotctl --node unix:/run/hot/hotd.sock status",
        "hotctl status --node http://127.0.0.1:7001 -o json",
        "hotctl contexts -o json",
        "hotctl use prod",
        "hotctl status --context prod",
        "hotctl nodes --node https://10.0.0.1:7443 --node-authority ca.pem --certificate a.pem --identity-key a.key",
        "hotctl pki init ca --name prod --days 10",
        "hotctl pki issue web-1 --dir ca --address 10.0.0.1 --address web-1.example --out x -o json",
        "hotctl pki issue ann@example.com --dir ca --days 90",
        "hotctl pki renew web-1.pem --dir ca --days 7",
        "hotctl rollback greeter",
        "hotctl rollback greeter --to 3",
        "hotctl rollback greeter --to 1.0.0",
        "hotctl promote greeter",
        "hotctl pause greeter",
        "hotctl resume greeter",
        "hotctl abort greeter",
        "hotctl restart greeter",
        "hotctl versions greeter",
        "hotctl history greeter",
        "hotctl nodes",
        "hotctl cordon web-3 --message why",
        "hotctl uncordon web-3",
        "hotctl drain web-3 --timeout 5m -m why -o json",
        "hotctl leave web-3",
        "hotctl events -f",
        "hotctl events greeter",
        "hotctl logs greeter -f",
        "hotctl trust list",
        "hotctl trust add anna anna.pub --valid-before 20270101Z --allowed-signers signers",
        "hotctl trust add *@example.com ca.pub --authority",
        "hotctl trust remove anna",
        "hotctl trust check a.so --signature a.sig --revoked revoked",
        "hotctl inspect a.so",
        "hotctl sign a.so",
        "hotctl verify a.so",
        "hotctl remove greeter",
        "hotctl completions bash",
        "hotctl completions zsh",
        "hotctl completions fish",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn what_makes_no_sense() {
    for (line, expected) in [
        ("hotctl", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("hotctl push", ErrorKind::MissingRequiredArgument),
        ("hotctl push a.so --canary 10", ErrorKind::ValueValidation),
        ("hotctl push a.so --canary 0%", ErrorKind::ValueValidation),
        ("hotctl push a.so --steps 50%,10%", ErrorKind::ValueValidation),
        ("hotctl push a.so --canary 10% --steps 100%", ErrorKind::ArgumentConflict),
        ("hotctl push a.so --key k --no-sign", ErrorKind::ArgumentConflict),
        ("hotctl push a.so --key k --signature s", ErrorKind::ArgumentConflict),
        ("hotctl push a.so --detach --timeout 1s", ErrorKind::ArgumentConflict),
        ("hotctl plan", ErrorKind::MissingRequiredArgument),
        ("hotctl plan a.so --detach", ErrorKind::UnknownArgument),
        ("hotctl push a.so --bake 30", ErrorKind::ValueValidation),
        ("hotctl push a.so --canary -5%", ErrorKind::ValueValidation),
        ("hotctl push a.so --steps -5%,100%", ErrorKind::ValueValidation),
        ("hotctl push a.so --bake -1s", ErrorKind::ValueValidation),
        ("hotctl push a.so --max-parallel -1", ErrorKind::ValueValidation),
        ("hotctl push a.so --max-failing 10%", ErrorKind::ValueValidation),
        ("hotctl history greeter --limit -1", ErrorKind::ValueValidation),
        ("hotctl rollback greeter --to 1.0", ErrorKind::ValueValidation),
        ("hotctl rollback", ErrorKind::MissingRequiredArgument),
        ("hotctl status -o yaml", ErrorKind::InvalidValue),
        ("hotctl stauts", ErrorKind::InvalidSubcommand),
        ("hotctl logs greeter -n 0", ErrorKind::ValueValidation),
        ("hotctl status --node=", ErrorKind::ValueValidation),
        ("hotctl status --context=", ErrorKind::ValueValidation),
        ("hotctl use", ErrorKind::MissingRequiredArgument),
        ("hotctl pki issue a/b --dir ca", ErrorKind::ValueValidation),
        ("hotctl pki issue web-1 --dir ca --address web-1:7443", ErrorKind::ValueValidation),
        ("hotctl pki issue web-1", ErrorKind::MissingRequiredArgument),
        ("hotctl pki renew web-1.key --dir ca", ErrorKind::ValueValidation),
    ] {
        assert_eq!(kind(line), expected, "{line}");
        assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
    }
}

#[test]
fn a_slip_is_hinted_at() {
    let text = parse("hotctl push a.so --canry 10%").expect_err("no such option").to_string();
    assert!(text.contains("--canary"), "{text}");
    let text = parse("hotctl stauts").expect_err("no such command").to_string();
    assert!(text.contains("status"), "{text}");
}

#[test]
fn an_option_is_named_as_it_can_be_typed() {
    for (line, named) in [
        ("hotctl logs greeter -n 0", "'-n, --tail <N>'"),
        ("hotctl history greeter --limit 0", "'-n, --limit <N>'"),
        ("hotctl status -o yaml", "'-o, --output <FORMAT>'"),
        ("hotctl push a.so --canary 10", "'--canary <SHARE>'"),
    ] {
        let mut error = parse(line).expect_err(line);
        name_both(&mut error);
        assert!(error.to_string().contains(named), "{line}: {error}");
    }
}

#[test]
fn a_version_to_go_back_to_is_asked_for_by_its_option() {
    let mut error = parse("hotctl rollback greeter 1.0.0").unwrap_err();
    name_the_way_back(&mut error);
    assert!(
        error.to_string().contains("tip: to go back to a release or a version, type '--to 1.0.0'"),
        "{error}"
    );
    let mut error = parse("hotctl rollback greeter --too 1.0.0").unwrap_err();
    name_the_way_back(&mut error);
    assert!(!error.to_string().contains("to go back to"), "{error}");
}

#[test]
fn a_mistake_is_one_sentence_for_programs() {
    let sentence = |line: &str| failure(&parse(line).expect_err(line)).sentence;
    for (line, expected) in [
        ("hotctl stauts", "unrecognized subcommand 'stauts'; some similar subcommands exist: "),
        ("hotctl push", "the following required arguments were not provided: <FILE>...; `--help` says"),
        ("hotctl", "a command is missing; `hotctl --help`"),
        ("hotctl push a.so --canary 10", "invalid value '10' for '--canary <SHARE>'"),
        (
            "hotctl --node= status",
            "invalid value '' for '--node <URL>': it is empty: expected https://HOST:PORT, http://HOST:PORT or unix:PATH; ",
        ),
    ] {
        let sentence = sentence(line);
        assert!(sentence.starts_with(expected) && !sentence.contains('\n'), "{line}: {sentence}");
    }
    assert_eq!(failure(&parse("hotctl").expect_err("nothing")).exit.code(), 2);
}

#[test]
fn json_is_asked_for_in_every_spelling() {
    let asks = |line: &str| ask_for_json(line.split_whitespace().map(OsString::from));
    for line in [
        "hotctl x -o json",
        "hotctl -ojson x",
        "hotctl --output json",
        "hotctl x --output=json",
        "hotctl -o=json",
    ] {
        assert!(asks(line), "{line}");
    }
    for line in
        ["hotctl x", "hotctl x -o text json", "hotctl x json", "hotctl x -- -o json", "hotctl -o yaml"]
    {
        assert!(!asks(line), "{line}");
    }
}
