//! `greenroom demo`: the main job end to end, through the same API and verbs that people use. Only the model's words are
//! scripted, and only when no model is configured in the environment.

mod sample;

use crate::cli::{Change, ChangeName, Global, Repository, Run};
use crate::connection;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::render::text::{BOLD, DIM, clean, paint};
use crate::serve::Signals;
use crate::server::{self, Options, Server, Stop};
use crate::settings::LogFormat;
use crate::verb::{self, Desk};
use clap::Args;
use greenroom_client::{Address, Client, Credential};
use greenroom_domain::{ErrorCode, LoginName, Problem, RepositoryName, Role};
use greenroom_model::scripted::Scripted;
use greenroom_model::{ModelConfig, Provider};
use greenroom_wire::{AddPerson, ChangeStatus, ChangeView, PersonAdded};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const PROMPT: &str = "make the failing test pass";
const PORT: u16 = 7878;

#[derive(Clone, Debug, Args)]
pub(crate) struct Demo {
    /// End after the merge instead of serving on
    #[arg(long)]
    pub(crate) once: bool,
    /// Use this repository (a path) instead of the built-in sample
    #[arg(long, value_name = "PATH")]
    pub(crate) sample: Option<PathBuf>,
}

/// The two who take part. They are accounts of the demo's own server and of nothing else.
const ASKER: Part = Part { login: "asker", name: "Demo Asker", email: "asker@demo.invalid" };
const REVIEWER: Part = Part { login: "reviewer", name: "Demo Reviewer", email: "reviewer@demo.invalid" };

struct Part {
    login: &'static str,
    name: &'static str,
    email: &'static str,
}

pub(crate) fn demo(global: &Global, arguments: &Demo) -> Result<Exit, Failure> {
    crate::serve::log_to_stderr(LogFormat::Text, "warn");
    let place = Place::choose(global, arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(play(&place, arguments));
    place.leave();
    ended
}

/// Where the demo keeps its data: given, and then kept; or new, and then removed after `--once`.
struct Place {
    data: PathBuf,
    is_temporary: bool,
}

impl Place {
    fn choose(global: &Global, arguments: &Demo) -> Self {
        if let Some(data) = &global.data {
            return Self { data: data.clone(), is_temporary: false };
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let data = connection::data_dir(None).with_file_name("greenroom-demo").join(now.to_string());
        Self { data, is_temporary: arguments.once }
    }

    fn leave(&self) {
        if self.is_temporary {
            // The directory is this run's own; what cannot be removed is only disk space.
            let _ = greenroom_session::remove_tree(&self.data);
        }
    }
}

async fn play(place: &Place, arguments: &Demo) -> Result<Exit, Failure> {
    let out = Output::Human;
    let provider = choose_model(out)?;
    let server = start(&place.data, provider).await?;
    out.text(&format!("{} {}\n", paint(DIM, "Data directory:"), place.data.display()))?;
    let mut signals = Signals::listen()?;
    let played = tokio::select! {
        played = scenes(&server, arguments, out) => played,
        () = signals.stop() => Ok(Exit::Interrupted),
    };
    let goes_on = matches!(played, Ok(Exit::Done)) && !arguments.once;
    if goes_on {
        out.text(&format!("\n{} {}   (Ctrl-C ends it)\n", paint(BOLD, "Still serving:"), server.origin))?;
        signals.stop().await;
    }
    match server.stop().await {
        Stop::InOrder => played,
        Stop::GivenUp => Ok(Exit::Failed),
    }
}

fn choose_model(out: Output) -> Result<Arc<dyn Provider>, Failure> {
    let vars = |name: &str| std::env::var(name).ok();
    match ModelConfig::from_environment(vars)? {
        Some((config, key)) => {
            out.text(&format!("Model: {} (from the environment).\n", config.model))?;
            Ok(greenroom_model::connect(&config, key)?)
        }
        None => {
            out.text(
                "No model is configured, so a script chooses the model's words; every tool call, file, process, commit \
                 and event is real. (Set ANTHROPIC_API_KEY, OPENAI_API_KEY or GREENROOM_MODEL_URL for a real one.)\n",
            )?;
            Ok(Arc::new(Scripted::new()))
        }
    }
}

async fn start(data: &Path, provider: Arc<dyn Provider>) -> Result<Server, Problem> {
    let options = |port| Options::local(data.to_owned(), port, Some(Arc::clone(&provider)));
    match server::start(options(PORT)).await {
        Err(problem) if problem.code == ErrorCode::PortInUse => server::start(options(0)).await,
        started => started,
    }
}

/// Everyone's desk, and the links with which they can sign in to the page.
struct Cast {
    asker: Desk,
    reviewer: Desk,
    admin: Desk,
    links: Vec<(&'static str, String)>,
}

async fn scenes(server: &Server, arguments: &Demo, out: Output) -> Result<Exit, Failure> {
    let cast = cast(server, out).await?;
    let name = free_name(&cast.admin).await?;

    heading(out, &format!("A repository, {name}, goes in, and its environment image is built"))?;
    let source = sample::repository(arguments.sample.as_deref())?;
    let add = Repository::Add {
        name: name.clone(),
        source: source.path().display().to_string(),
        required_approvals: None,
        wait: true,
    };
    match verb::repository::perform(&cast.admin, add).await? {
        Exit::Done => {}
        other => return Ok(other),
    }

    heading(out, &format!("{} asks: {PROMPT}", ASKER.name))?;
    let run = Run {
        attach: vec![],
        repository: name.clone(),
        prompt: PROMPT.to_owned(),
        model: None,
        effort: None,
        base: None,
        title: None,
        private: false,
        detach: false,
    };
    match verb::run::run(&cast.asker, run).await? {
        Exit::Done => {}
        other => return Ok(other),
    }
    let Some(change) = change_of(&cast.asker, &name).await? else {
        out.text("\nThe agent opened no change, so there is nothing to review.\n")?;
        return Ok(Exit::Failed);
    };
    review(&cast, &change, out).await?;
    farewell(server, &cast, &change, out)?;
    Ok(Exit::Done)
}

async fn cast(server: &Server, out: Output) -> Result<Cast, Failure> {
    let address: Address = server.listening_on().parse().map_err(|error| {
        Problem::new(ErrorCode::Internal, format!("The server's own address cannot be read: {error}."))
    })?;
    let admin = Client::new(address, Credential::Token(server.local_token.clone()))?;
    let mut links = vec![];
    let (asker, link) = join(&admin, &ASKER).await?;
    links.extend(link.map(|link| (ASKER.name, link)));
    let (reviewer, link) = join(&admin, &REVIEWER).await?;
    links.extend(link.map(|link| (REVIEWER.name, link)));
    let desk = |client| Desk { client, out };
    Ok(Cast { asker: desk(asker), reviewer: desk(reviewer), admin: desk(admin), links })
}

/// A person's client; the link is there when the person is new.
async fn join(admin: &Client, who: &Part) -> Result<(Client, Option<String>), Failure> {
    let login: LoginName = who.login.parse().expect("a valid login");
    let known = admin.people().await?.into_iter().any(|person| person.login == login);
    let added: Option<PersonAdded> = match known {
        true => None,
        false => {
            let body = AddPerson {
                login: login.clone(),
                name: who.name.to_owned(),
                email: who.email.to_owned(),
                role: Role::Member,
            };
            Some(admin.add_person(&body).await?)
        }
    };
    let token = admin.create_token("demo", Some(login), None).await?;
    let client = admin.with_credential(Credential::Token(token.secret));
    Ok((client, added.map(|added| added.sign_in_path)))
}

/// `sample`, or with a number when an earlier run in this data directory took the name.
async fn free_name(admin: &Desk) -> Result<RepositoryName, Failure> {
    let taken = admin.client.repositories().await?;
    let names = std::iter::once("sample".to_owned()).chain((2..).map(|n| format!("sample-{n}")));
    let free = names
        .map(|name| name.parse::<RepositoryName>().expect("a valid name"))
        .find(|name| taken.iter().all(|repository| repository.name != *name));
    Ok(free.expect("there is always another number"))
}

async fn change_of(desk: &Desk, repository: &RepositoryName) -> Result<Option<ChangeView>, Failure> {
    let open = desk.client.changes(Some(repository)).await?;
    let newest = open.into_iter().find(|change| change.state == ChangeStatus::Open);
    Ok(match newest {
        Some(change) => Some(desk.client.change(change.id).await?),
        None => None,
    })
}

async fn review(cast: &Cast, change: &ChangeView, out: Output) -> Result<(), Failure> {
    let named = || ChangeName::Id(change.id);
    heading(out, &format!("The change: {}", change.title))?;
    verb::change::perform(&cast.asker, Change::Show { change: named(), diff: true }).await?;

    heading(out, &format!("{} tries to approve it", ASKER.name))?;
    match cast.asker.client.approve_change(change.id, &change.head).await {
        Err(error) if error.code() == ErrorCode::SelfApproval => {
            out.text(&format!("Refused: {}\n", clean(&error.into_view().message)))?;
        }
        Err(other) => return Err(other.into()),
        Ok(_) => {
            let wrong = "Someone approved a change that their own prompts produced; that must never happen.";
            return Err(Problem::new(ErrorCode::Internal, wrong).into());
        }
    }

    heading(out, &format!("{} approves and merges it", REVIEWER.name))?;
    verb::change::perform(&cast.reviewer, Change::Approve { change: named(), head: None }).await?;
    verb::change::perform(&cast.reviewer, Change::Merge { change: named() }).await?;
    Ok(())
}

fn farewell(server: &Server, cast: &Cast, change: &ChangeView, out: Output) -> Result<(), Failure> {
    heading(out, "On the web page")?;
    if let Some(session) = change.session {
        out.text(&format!("The session:  {}/sessions/{session}\n", server.origin))?;
    }
    out.text(&format!("The change:   {}/changes/{}\n", server.origin, change.id))?;
    for (name, link) in &cast.links {
        out.text(&format!("Sign in as {name} (once, choose a password): {}{link}\n", server.origin))?;
    }
    Ok(())
}

fn heading(out: Output, text: &str) -> Result<(), Failure> {
    out.text(&format!("\n{}\n", paint(BOLD, format!("── {text}"))))
}
