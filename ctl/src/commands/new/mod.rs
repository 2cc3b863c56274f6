//! `hotctl new`: a folder with a module that builds, passes its own test and can be pushed.
//!
//! [`template`] decides what is in it, [`sdk`] where a module in Rust finds its crate, [`folder`] writes it whole or not at
//! all. The templates are real modules, built and tested by `tests/tests/new.rs`.

mod folder;
mod sdk;
mod template;

use std::path::{Path, PathBuf};

use hot_artifact::ModuleName;
use serde::Serialize;

use self::template::{Language, Template};
use super::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Tone, paint};

/// Begin a module: a folder NAME that builds, passes its own test and can be pushed
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hotctl new greeter\n  hotctl new greeter --lang cpp\n  \
                        hotctl new greeter --sdk ~/hot/module    # where hotctl is neither installed nor in its checkout")]
pub(crate) struct Args {
    /// The module's name, and the folder's: a-z, 0-9 and -, a letter first
    name: ModuleName,

    /// The language to write it in
    #[arg(long, value_enum, default_value_t)]
    lang: Language,

    /// The folder of the crate hot-module, for Rust [default: what `make install` or the checkout put beside this program]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

/// What `new -o json` prints.
#[derive(Debug, Serialize)]
struct NewJson<'a> {
    module: &'a str,
    language: &'a str,
    folder: &'a Path,
    /// Below the folder.
    files: Vec<&'a str>,
    /// What to type next, in this order.
    next: &'a [String],
}

pub(crate) fn run(args: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let template = template(args)?;
    let here = std::env::current_dir().map_err(|error| {
        Failure::failed("folder.not_written", format!("the current folder is gone: {error}"))
    })?;
    let folder = here.join(args.name.as_str());
    folder::write(&folder, &template.files).map_err(|error| Failure::failed(error.code(), error))?;
    if context.out.json() {
        context.out.object(&NewJson {
            module: args.name.as_str(),
            language: args.lang.word(),
            folder: &folder,
            files: template.files.iter().map(|file| file.path).collect(),
            next: &template.next,
        })?;
    } else {
        let colour = context.out.colour();
        let mut lines = vec![
            paint(&format!("{}: a module in {}", args.name, args.lang), Tone::Strong, colour),
            "Next:".to_owned(),
        ];
        lines.extend(template.next.iter().map(|command| format!("  {command}")));
        lines.push("A node to push to, if there is none yet: `hotd --dev` in another terminal".to_owned());
        context.out.text(&lines.join("\n"))?;
    }
    Ok(Exit::Success)
}

/// All that is to be written; nothing is yet.
fn template(args: &Args) -> Result<Template, Failure> {
    match args.lang {
        // Cargo tells two packages of one name and version in a lock file by nothing else.
        Language::Rust if args.name.as_str() == "hot-module" => Err(Failure::usage(
            "hot-module is the name of the SDK's own crate, which a module in Rust depends on; choose another name",
        )),
        Language::Rust => {
            let program = std::env::current_exe().ok();
            let sdk = sdk::find(args.sdk.as_deref(), program.as_deref())
                .map_err(|error| Failure::failed("sdk.not_found", error))?;
            Ok(template::rust(&args.name, &sdk))
        }
        Language::C | Language::Cpp if args.sdk.is_some() => {
            Err(Failure::usage("--sdk is for Rust; a module in C or C++ gets its headers from hotctl itself"))
        }
        Language::C => Ok(template::c(&args.name)),
        Language::Cpp => Ok(template::cpp(&args.name)),
    }
}
