//! What the client verbs do: each asks the server through `greenroom-client` and writes the answer. No rule of the
//! product is here.

mod account;
mod archive;
mod asks;
mod blame;
pub(crate) mod change;
mod children;
mod context;
mod files;
mod fork;
mod image;
mod model;
mod outbox;
mod person;
mod queue;
mod quota;
pub(crate) mod repository;
mod retention;
pub(crate) mod run;
mod search;
mod secret;
mod session;
mod sharing;
mod statistics;
mod trees;
mod watching;

use crate::cli::{Global, Verb};
use crate::connection;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use greenroom_client::Client;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

/// A client and where its answers go.
pub(crate) struct Desk {
    pub(crate) client: Client,
    pub(crate) out: Output,
}

impl Desk {
    /// An address of the web page for `path`.
    fn page(&self, path: &str) -> String {
        self.client.address().page(path)
    }
}

/// Runs one client verb on a runtime of its own.
pub(crate) fn perform(global: &Global, verb: Verb) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let out = Output::new(global.json);
        match verb {
            Verb::SignIn(arguments) => account::sign_in(global, out, arguments).await,
            Verb::SignOut => account::sign_out(global, out),
            verb => at_desk(&Desk { client: connection::connect(global)?, out }, verb).await,
        }
    })
}

async fn at_desk(desk: &Desk, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Run(arguments) => run::run(desk, arguments).await,
        Verb::Session(verb) => session::perform(desk, verb).await,
        Verb::Change(verb) => change::perform(desk, verb).await,
        Verb::Repository(verb) => repository::perform(desk, verb).await,
        Verb::Secret(verb) => secret::perform(desk, verb).await,
        Verb::Image(verb) => image::perform(desk, verb).await,
        Verb::Model(verb) => model::perform(desk, verb).await,
        Verb::Statistics(arguments) => statistics::show(desk, arguments).await,
        Verb::Person(verb) => person::perform(desk, verb).await,
        Verb::Quota(verb) => quota::perform(desk, verb).await,
        Verb::Retention(arguments) => retention::perform(desk, arguments).await,
        Verb::Token(verb) => person::token(desk, verb).await,
        Verb::SignIn(_)
        | Verb::SignOut
        | Verb::Serve(_)
        | Verb::Demo(_)
        | Verb::Doctor
        | Verb::Backup(_)
        | Verb::Bench(_)
        | Verb::Reference { .. } => {
            unreachable!("verbs without a connection are performed before")
        }
    }
}

/// A prompt as given, or from standard input for `-`. The server bounds it; this bounds what is read.
fn prompt_text(argument: String) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument);
    }
    let mut text = String::new();
    let limit = 2 * greenroom_domain::command::PROMPT_LIMIT as u64;
    std::io::stdin().take(limit).read_to_string(&mut text)?;
    Ok(text)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
