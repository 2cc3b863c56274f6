//! `hotctl remove`.

use std::io::{self, BufRead, IsTerminal as _, Write};

use hot_proto::v1::{GetModuleRequest, Module, RemoveRequest, Version, VersionsRequest};

use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::json::RemovedJson;
use crate::node::{Client, Wait};
use crate::words;

/// Remove a module with all that runs of it, or one of its versions
///
/// In a fleet from all of its nodes. Of a module as a whole it asks first, on a terminal, and says what will end; a script
/// says --yes. A version that is stable, candidate or standby is not removed by itself; the one that `rollback` would go to can
/// be, once its standby is over: `rollback` wants --to then. What was removed leaves a tombstone: its version can never be
/// pushed again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hotctl remove greeter                    # it serves no more; asks first\n  \
                        hotctl remove greeter --yes\n  hotctl remove greeter --version 1.0.0"
)]
pub(crate) struct Args {
    /// Name of the module
    module: String,

    /// Where a version is typed that --version should name.
    #[arg(hide = true, value_name = "VERSION")]
    stray: Option<String>,

    /// Only this version, which nothing runs
    #[arg(long, value_name = "VERSION", value_parser = parse_version)]
    version: Option<semver::Version>,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

fn parse_version(text: &str) -> Result<semver::Version, String> {
    semver::Version::parse(text).map_err(|error| {
        format!("no whole version ({error}): expected one like 1.0.0; `hotctl versions MODULE` lists them")
    })
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if let Some(stray) = &args.stray {
        return Err(Failure::usage(stray_version(&args.module, stray)));
    }
    let client = context.connect().await?;
    let version = args.version.map(|version| version.to_string()).unwrap_or_default();
    // Nothing runs of a version that can be removed by itself.
    if version.is_empty() && !args.yes {
        confirm(&client, &args.module).await?;
    }
    let request = RemoveRequest { module: args.module.clone(), version: version.clone() };
    let answer = client.ask_after(Wait::WayBack, client.modules().remove(request)).await?;
    let removed = RemovedJson { module: args.module, versions: answer.versions, away: answer.away };
    if context.out.json() {
        context.out.object(&removed)?;
    } else {
        context.out.text(&words::clean(&text(&removed, &version)))?;
    }
    Ok(Exit::Success)
}

/// Fails unless a person at a terminal wants what will come of it.
async fn confirm(client: &Client, name: &str) -> Result<(), Failure> {
    let request = GetModuleRequest { module: name.to_owned() };
    let module = client.ask(client.modules().get(request)).await?.module.unwrap_or_default();
    let request = VersionsRequest { module: name.to_owned() };
    let versions = client.ask(client.modules().versions(request)).await?.versions;
    let Some(ends) = ends(&module, &versions) else { return Ok(()) };
    let ends = words::clean(&ends);
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let sentence = format!(
            "{ends}; nothing was removed, as there is no terminal to ask at, expected --yes: say `hotctl remove {name} --yes` \
             if that is meant"
        );
        return Err(Failure::new(Exit::Usage, "not_confirmed", sentence));
    }
    let question = format!("{ends}. Remove {name}? [y/N] ");
    match asked(io::stdin().lock(), io::stderr(), &question) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::failed("not_confirmed", "nothing was removed, as the answer was not yes")),
        Err(error) => {
            let sentence = format!(
                "nothing was removed, as the terminal can't be asked: {error}; say `hotctl remove {name} --yes` if that is meant"
            );
            Err(Failure::failed("not_confirmed", sentence))
        }
    }
}

/// That a version is not typed like that.
fn stray_version(module: &str, found: &str) -> String {
    format!(
        "found `{found}` after the module, expected nothing there: for that version alone say `hotctl remove {module} --version {found}`"
    )
}

/// What ends with the module; nothing where nothing of it is left.
fn ends(module: &Module, versions: &[Version]) -> Option<String> {
    let mut stored: Vec<&str> =
        versions.iter().filter(|of| !of.removed).map(|of| of.version.as_str()).collect();
    stored.dedup();
    let name = &module.name;
    let mut ends = Vec::new();
    if let Some(stable) = &module.stable {
        let routes =
            if module.routes.is_empty() { String::new() } else { format!(" {}", module.routes.join(" ")) };
        ends.push(format!("{name} {} serves{routes} now and will not any more", stable.version));
    }
    if let Some(candidate) = &module.candidate {
        ends.push(format!("the rollout of {name} {} is aborted", candidate.version));
    }
    match stored.as_slice() {
        [] => {}
        stored => ends.push(format!(
            "what is stored of {name} goes ({}), and these versions can never be pushed again",
            stored.join(", ")
        )),
    }
    // Of one that was removed before an instance may still drain: that ends either way.
    (!ends.is_empty()).then(|| ends.join("; "))
}

/// Whether the answer to a question is yes. No answer is none.
fn asked(mut answers: impl BufRead, mut questions: impl Write, question: &str) -> io::Result<bool> {
    questions.write_all(question.as_bytes())?;
    questions.flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// What was done. Nothing is left to do where it was removed before: that is what was asked for.
fn text(removed: &RemovedJson, version: &str) -> String {
    let RemovedJson { module, versions, away } = removed;
    let done = match versions.as_slice() {
        [] if version.is_empty() => format!("{module}: was removed already"),
        [] => format!("{module} {version}: was removed already"),
        [only] if !version.is_empty() => {
            format!("{module}: removed {only}, which no rollback can go to any more")
        }
        versions => format!("{module}: removed {}", versions.join(", ")),
    };
    match away.as_slice() {
        [] => done,
        [one] => format!("{done}; {one} is not there, and lets go of what it has when it is back"),
        away => format!(
            "{done}; {} are not there, and let go of what they have when they are back",
            away.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use hot_proto::v1::ReleaseRef;

    use super::*;

    #[test]
    fn again_is_said() {
        let removed = |versions: &[&str]| RemovedJson {
            module: "greeter".to_owned(),
            versions: versions.iter().map(|&version| version.to_owned()).collect(),
            away: Vec::new(),
        };
        assert_eq!(text(&removed(&["1.0.0", "1.1.0"]), ""), "greeter: removed 1.0.0, 1.1.0");
        assert_eq!(
            text(&removed(&["1.0.0"]), "1.0.0"),
            "greeter: removed 1.0.0, which no rollback can go to any more"
        );
        assert_eq!(text(&removed(&[]), ""), "greeter: was removed already");
        assert_eq!(text(&removed(&[]), "1.0.0"), "greeter 1.0.0: was removed already");
        let away = RemovedJson { away: vec!["n3".to_owned()], ..removed(&["1.0.0"]) };
        let follows = "greeter: removed 1.0.0; n3 is not there, and lets go of what it has when it is back";
        assert_eq!(text(&away, ""), follows);
    }

    #[test]
    fn what_will_end_is_said() {
        let version =
            |version: &str, removed| Version { version: version.to_owned(), removed, ..Version::default() };
        let release =
            |version: &str| Some(ReleaseRef { version: version.to_owned(), ..ReleaseRef::default() });
        let mut module = Module { name: "greeter".to_owned(), ..Module::default() };
        assert_eq!(ends(&module, &[version("1.0.0", true)]), None, "nothing is left of it");
        let stored = [version("1.1.0", false), version("1.1.0", false), version("1.0.0", false)];
        let goes =
            "what is stored of greeter goes (1.1.0, 1.0.0), and these versions can never be pushed again";
        assert_eq!(ends(&module, &stored).as_deref(), Some(goes));
        module.stable = release("1.0.0");
        module.candidate = release("1.1.0");
        module.routes = vec!["/greet".to_owned()];
        let all = format!(
            "greeter 1.0.0 serves /greet now and will not any more; the rollout of greeter 1.1.0 is aborted; {goes}"
        );
        assert_eq!(ends(&module, &stored), Some(all));
    }

    #[test]
    fn only_yes_is_yes() {
        for (answer, yes) in
            [("y\n", true), (" Yes \n", true), ("\n", false), ("", false), ("no\n", false), ("yy", false)]
        {
            let mut said = Vec::new();
            assert_eq!(
                asked(answer.as_bytes(), &mut said, "Remove it? [y/N] ").expect("answers"),
                yes,
                "{answer:?}"
            );
            assert_eq!(said, b"Remove it? [y/N] ");
        }
    }
}
