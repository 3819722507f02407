//! The `greenroom` program: the server's roles and the client verbs as subcommands. Holds no logic of the product; a
//! runtime is started only by the verbs that need one, so that `--version` and `--help` answer at once.

mod ask;
mod backup;
mod bench;
mod cli;
mod client_file;
mod connection;
mod data_dir;
mod demo;
mod doctor;
mod exit;
mod heap;
mod output;
mod render;
mod scheduled;
mod serve;
mod server;
mod settings;
mod source;
mod verb;
mod watch;

use clap::Parser;
use cli::{Cli, Global, Reference, Verb};
use exit::{Exit, Failure};
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    greenroom_sandboxd::enter_private_mounts();
    let Cli { global, verb } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error).into(),
    };
    let out = Output::new(global.json);
    perform(&global, verb).unwrap_or_else(|failure| failure.report(out)).into()
}

/// Help and version are asked for; anything else is wrong usage, said as JSON where JSON was asked for.
fn misused(error: &clap::Error) -> Exit {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.to_string();
        let said = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        let message = said.split_whitespace().collect::<Vec<_>>().join(" ");
        return Failure::usage(format!("{message}."), "greenroom --help").report(Output::Json);
    }
    // Nothing can be done where the terminal is gone.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}

fn perform(global: &Global, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Serve(flags) => serve::serve(global.data.as_deref(), *flags, Output::new(global.json)),
        Verb::Demo(arguments) => demo::demo(global, &arguments),
        Verb::Doctor => doctor::doctor(global),
        Verb::Backup(verb) => backup::backup(global, verb),
        Verb::Bench(measure) => bench::bench(global, measure),
        Verb::Reference { what } => {
            Output::Human.text(&reference(what))?;
            Ok(Exit::Done)
        }
        verb => verb::perform(global, verb),
    }
}

fn reference(what: Reference) -> String {
    match what {
        Reference::Cli => cli::reference(),
        Reference::Settings => settings::reference(),
        Reference::Openapi => {
            let document = greenroom_api::openapi();
            document.to_pretty_json().expect("the document is JSON") + "\n"
        }
    }
}
