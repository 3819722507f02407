//! Kills at random moments, under load: the server, the zygote, a stage. Several sessions run commands, are forked and
//! deleted meanwhile, and each is watched. Afterwards every session goes on, what was acknowledged is there once, watchers saw
//! what the log says and nothing else, and nothing is left of what died: no process, control group, mount, loop device, descriptor or directory.
//!
//! The short form is an ordinary test; `cargo xtask soak crash` runs the long one. `GREENROOM_SEED` repeats a run's choices
//! (not its timing), `GREENROOM_KILLS` sets how many.

use crate::restart::{descendants, groups_of, is_alive, is_in_other_network};
use crate::support::{Model, NO_STEPS, Server, bash, session_body, until};
use futures::StreamExt;
use greenroom_client::{Client, Error, new_key};
use greenroom_domain::event::ToolOutcome;
use greenroom_domain::{Command, CommandId, Entry, Event, PromptId, SessionId};
use greenroom_model::testing::Turn;
use greenroom_wire::{ForkSession, Frame, SessionStatus};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

const SESSIONS: usize = 4;
const SESSIONS_LIMIT: usize = 7;
const SHORT: u64 = 6;
const LONG: u64 = 1_000;
/// Sessions are looked at, and the machine for leaks, each time so many kills are done.
const ROUND: u64 = 15;
/// Sandboxes that one server sees die before what it holds is counted.
const DEATHS: u64 = 10;
const ANSWER: Duration = Duration::from_secs(20);

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn pick<T: Clone>(&mut self, among: &[T]) -> Option<T> {
        let limit = among.len() as u64;
        (limit > 0).then(|| among[usize::try_from(self.below(limit)).expect("below the length")].clone())
    }
}

/// What was asked for under a key, to be asked again until it is answered.
#[derive(Clone)]
enum Asked {
    Prompt(SessionId, Command),
    Fork(SessionId, ForkSession),
    Create,
    Delete(SessionId),
}

#[derive(Default)]
struct Figures {
    server: u64,
    zygote: u64,
    stage: u64,
    prompts: u64,
    forks: u64,
    deletes: u64,
    /// Forks refused because a kill came before the turn's snapshot.
    unsaved: u64,
    restart_ms: Vec<u128>,
}

/// Somebody who looks on from the first entry, through every death of the server.
#[derive(Default)]
struct Watcher {
    entries: Arc<Mutex<Vec<Entry>>>,
    connection: Option<AbortHandle>,
}

impl Watcher {
    /// Connects again, from the last entry that was seen.
    fn connect(&mut self, server: &Server, session: SessionId) {
        if let Some(old) = self.connection.take() {
            old.abort();
        }
        let after = self.entries.lock().unwrap().last().map_or(0, |entry| entry.seq);
        let (mut frames, entries) = (server.client().follow(session, after), Arc::clone(&self.entries));
        let watching = server.spawn(async move {
            while let Some(Ok(frame)) = frames.next().await {
                if let Frame::Entry { entry } = frame {
                    entries.lock().unwrap().push(entry);
                }
            }
        });
        self.connection = Some(watching.abort_handle());
    }

    fn assert_saw(&self, log: &[Entry]) {
        until("a watcher has seen the whole log", || {
            (self.entries.lock().unwrap().len() >= log.len()).then_some(())
        });
        assert_eq!(self.entries.lock().unwrap()[..log.len()], *log);
    }
}

struct Chaos {
    dice: Dice,
    server: Server,
    _model: Model,
    sessions: Vec<SessionId>,
    watchers: HashMap<SessionId, Watcher>,
    /// Not answered yet.
    open: Vec<(CommandId, Asked)>,
    /// Acknowledged.
    prompts: HashMap<SessionId, u64>,
    next: u64,
    figures: Figures,
}

#[test]
fn a_few_kills_at_random_moments_lose_and_leave_nothing() {
    run(SHORT);
}

#[test]
#[ignore = "takes minutes: cargo xtask soak crash"]
fn soak_crash() {
    run(LONG);
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(kills: u64) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = number("GREENROOM_SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()));
    let kills = number("GREENROOM_KILLS").unwrap_or(kills);
    println!("crash: GREENROOM_SEED={seed} GREENROOM_KILLS={kills}");
    let begun = Instant::now();
    let mut chaos = Chaos::new(seed);
    for done in 1..=kills {
        chaos.load();
        chaos.kill();
        if done % ROUND == 0 || done == kills {
            chaos.settle();
            chaos.check_sessions();
            let held = chaos.held();
            println!("crash: {done} of {kills} kills, {:?}, {held:?}", begun.elapsed());
        }
    }
    chaos.end();
    let Figures { server, zygote, stage, prompts, forks, deletes, unsaved, restart_ms } = &mut chaos.figures;
    restart_ms.sort_unstable();
    let median = restart_ms.get(restart_ms.len() / 2).copied().unwrap_or_default();
    println!(
        "crash: {kills} kills ({server} server, {zygote} zygote, {stage} stage), {prompts} prompts, {forks} forks \
         ({unsaved} refused), {deletes} deletes in {:?}; a killed server answers again after {median} ms (median), {} ms at most",
        begun.elapsed(),
        restart_ms.last().copied().unwrap_or_default()
    );
}

/// What the server holds of the machine.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    mounts: usize,
    processes: usize,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let server = Server::start();
        let model = Model::new(|asked| match (asked.prompt.strip_prefix("note "), asked.step) {
            (Some(line), 0) => {
                // Long enough to be killed in, and with files that a snapshot has to copy.
                bash(&format!(
                    "echo {line} >> notes.txt; for n in 1 2 3 4 5; do echo {line} > f$n; sleep 0.03; done"
                ))
            }
            _ => Turn::text("done").with_pace(Duration::from_millis(5)),
        });
        server.use_model(&model);
        server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
        let mut chaos = Self {
            dice: Dice(seed),
            server,
            _model: model,
            sessions: vec![],
            watchers: HashMap::new(),
            open: vec![],
            prompts: HashMap::new(),
            next: 0,
            figures: Figures::default(),
        };
        for _ in 0..SESSIONS {
            chaos.ask(Asked::Create);
        }
        chaos
    }

    fn note(&mut self) -> String {
        self.next += 1;
        format!("note n{}", self.next)
    }

    /// A few requests, some of which the next kill cuts off, and a moment for them to get going.
    fn load(&mut self) {
        for _ in 0..=self.dice.below(3) {
            let Some(session) = self.dice.pick(&self.sessions.clone()) else { break };
            let text = self.note();
            match self.dice.below(10) {
                0..=6 => {
                    let command = Command::Prompt { text, delivery: Default::default(), attachments: vec![] };
                    self.ask(Asked::Prompt(session, command));
                }
                7 | 8 if self.sessions.len() < SESSIONS_LIMIT => {
                    let body = ForkSession { turn: None, title: None, prompt: Some(text) };
                    self.ask(Asked::Fork(session, body));
                }
                _ if self.sessions.len() > SESSIONS => {
                    self.sessions.retain(|other| *other != session);
                    self.prompts.remove(&session);
                    self.ask(Asked::Delete(session));
                }
                _ => self.ask(Asked::Create),
            }
        }
        std::thread::park_timeout(Duration::from_millis(self.dice.below(400)));
    }

    fn ask(&mut self, asked: Asked) {
        let key = new_key();
        if self.sessions.len() >= SESSIONS_LIMIT && matches!(asked, Asked::Create) {
            return;
        }
        if !self.try_once(&key, &asked) {
            self.open.push((key, asked));
        }
    }

    /// Whether it is answered, for good or ill.
    fn try_once(&mut self, key: &CommandId, asked: &Asked) -> bool {
        let client = self.server.client();
        let answered =
            self.server.wait(async { tokio::time::timeout(ANSWER, perform(&client, key, asked)).await });
        match answered {
            Ok(Ok(made)) => {
                self.acknowledge(asked, made);
                true
            }
            Ok(Err(error)) => {
                let code = error.code().as_str();
                // A kill between a turn's end and its snapshot, and the next turn has begun.
                let is_unsaved = matches!((code, asked), ("snapshot_unknown", Asked::Fork(..)));
                self.figures.unsaved += u64::from(is_unsaved);
                let is_final =
                    is_unsaved || matches!(code, "session_unknown" | "turn_unknown" | "queue_full");
                assert!(
                    is_final
                        || code.starts_with("server_")
                        || matches!(code, "shutting_down" | "internal" | "deadline"),
                    "{code}: {error}"
                );
                is_final
            }
            Err(_) => false,
        }
    }

    fn acknowledge(&mut self, asked: &Asked, made: Option<SessionId>) {
        match asked {
            Asked::Prompt(session, _) => {
                self.figures.prompts += 1;
                *self.prompts.entry(*session).or_default() += 1;
            }
            Asked::Fork(..) => self.figures.forks += 1,
            Asked::Delete(_) => self.figures.deletes += 1,
            Asked::Create => {}
        }
        if let Some(session) = made {
            self.sessions.push(session);
            self.watchers.entry(session).or_default().connect(&self.server, session);
        }
    }

    fn kill(&mut self) {
        let server = self.server.pid();
        match self.dice.below(10) {
            0..=3 => self.kill_server(),
            4..=5 => {
                let zygotes: Vec<u32> =
                    descendants(server).into_iter().filter(|pid| is_zygote(server, *pid)).collect();
                self.figures.zygote += u64::from(self.signal(&zygotes));
            }
            _ => {
                let stages = stages(server);
                self.figures.stage += u64::from(self.signal(&stages));
            }
        }
    }

    fn kill_server(&mut self) {
        self.figures.server += 1;
        let (pid, processes) = (self.server.pid(), descendants(self.server.pid()));
        self.server.kill();
        let begun = Instant::now();
        self.server.restart();
        self.figures.restart_ms.push(begun.elapsed().as_millis());
        self.watchers.retain(|session, _| self.sessions.contains(session));
        for (session, watcher) in &mut self.watchers {
            watcher.connect(&self.server, *session);
        }
        until("every process of the killed server is gone", || {
            processes.iter().all(|pid| !is_alive(*pid)).then_some(())
        });
        until("its control groups are gone", || groups_of(pid).is_empty().then_some(()));
    }

    fn signal(&mut self, among: &[u32]) -> bool {
        let Some(pid) = self.dice.pick(among) else { return false };
        // It may have ended by itself.
        let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        true
    }

    /// Everything that was asked for is answered, every turn has ended, every sandbox could be used.
    fn settle(&mut self) {
        let open = std::mem::take(&mut self.open);
        for (key, asked) in open {
            let what = "a repeated request is answered";
            until(what, || self.try_once(&key, &asked).then_some(()));
        }
        for session in self.sessions.clone() {
            until("the session has answered everything", || {
                let view = self.server.session(session);
                (view.status != SessionStatus::Running && view.queued_prompts == 0).then_some(())
            });
        }
    }

    fn check_sessions(&self) {
        for session in &self.sessions {
            let log = self.server.entries(*session);
            // A sandbox that was killed under this command is the next one's affair.
            let notes = until("the session's files can be read", || {
                let body = greenroom_wire::Exec { command: "cat notes.txt || true".into(), timeout_ms: None };
                self.server.wait(self.server.client().exec(*session, &body)).ok()
            });
            let asked = self.prompts.get(session).copied().unwrap_or_default();
            check_log(*session, &log, &notes.output, asked);
            self.watchers[session].assert_saw(&log);
        }
    }

    fn held(&self) -> Held {
        let pid = self.server.pid();
        let count = |path: &str| Path::new(path).read_dir().map_or(0, Iterator::count);
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        let data = self.server.data().to_string_lossy().into_owned();
        let loops = loop_devices(&data);
        assert!(loops <= 1, "{loops} loop devices");
        let outside = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        assert!(!outside.contains(&data), "{outside}");
        self.check_directories();
        Held {
            descriptors: count(&format!("/proc/{pid}/fd")),
            mounts: mounts.lines().count(),
            processes: descendants(pid).len(),
        }
    }

    /// Every directory is some session's, the pool's, or on its way out.
    fn check_directories(&self) {
        let storage = storage(&self.server);
        let known: HashSet<String> = self
            .server
            .wait(self.server.client().sessions())
            .expect("the sessions")
            .iter()
            .map(|view| view.id.to_string())
            .collect();
        let strangers = || -> Vec<String> {
            ["workspaces", "snapshots"]
                .iter()
                .flat_map(|part| names(&storage.join(part)))
                .filter(|name| name.starts_with("ses_") && !known.contains(name))
                .collect()
        };
        // What a living fork needs of a deleted parent stays; everything else of it goes.
        let needed: HashSet<String> = known
            .iter()
            .flat_map(|session| names(&storage.join("snapshots").join(session)))
            .filter_map(|name| Some(name.strip_prefix("needs-")?.split('-').next()?.to_owned()))
            .collect();
        until("no directory is left of a session that is gone", || {
            strangers().iter().all(|name| needed.contains(name)).then_some(())
        });
        until("the trash is emptied", || names(&storage.join("trash")).is_empty().then_some(()));
        for session in &known {
            let left: Vec<String> = names(&storage.join("snapshots").join(session));
            let journals =
                left.iter().filter(|name| name.starts_with("journal-") && !name.contains('.')).count();
            assert!(journals <= 2, "{session}: {left:?}");
        }
    }

    /// Deletes everything: then the server, which has seen many of its sandboxes die, holds what a fresh one does.
    fn end(&mut self) {
        for _ in 0..DEATHS {
            let stages = stages(self.server.pid());
            self.figures.stage += u64::from(self.signal(&stages));
            self.check_sessions();
        }
        for session in std::mem::take(&mut self.sessions) {
            let key = new_key();
            until("a session is deleted", || self.try_once(&key, &Asked::Delete(session)).then_some(()));
        }
        let kept = storage(&self.server);
        until("no snapshot is left", || names(&kept.join("snapshots")).is_empty().then_some(()));
        let worn = self.held();
        self.kill_server();
        let fresh = self.held();
        println!("crash: at the end {worn:?}, a fresh server {fresh:?}");
        // Warm sandboxes come and go, and connections stay open for a while.
        assert!(worn.descriptors <= fresh.descriptors + 60, "descriptors: {worn:?}, fresh {fresh:?}");
        assert!(worn.mounts <= fresh.mounts + 2, "mounts: {worn:?}, fresh {fresh:?}");
        assert!(worn.processes <= fresh.processes + 12, "processes: {worn:?}, fresh {fresh:?}");
    }
}

async fn perform(client: &Client, key: &CommandId, asked: &Asked) -> Result<Option<SessionId>, Error> {
    match asked {
        Asked::Prompt(session, command) => client.submit(*session, key, command).await.map(|_| None),
        Asked::Fork(session, body) => {
            client.fork_session(key, *session, body).await.map(|made| Some(made.id))
        }
        Asked::Create => {
            client.create_session(key, &session_body("sample", None)).await.map(|made| Some(made.id))
        }
        Asked::Delete(session) => client.delete_session(*session).await.map(|()| None),
    }
}

/// Every acknowledged prompt was taken up and its turn ended; what a finished call wrote is there once, and nothing twice.
fn check_log(session: SessionId, log: &[Entry], notes: &str, asked: u64) {
    let mut waiting: HashSet<PromptId> = HashSet::new();
    let (mut own, mut running, mut inherits) = (0, 0i64, log.iter().any(is_fork));
    let mut commands: HashMap<String, String> = HashMap::new();
    let mut written: HashMap<String, bool> = HashMap::new();
    for entry in log {
        match &entry.event {
            Event::SandboxChanged { .. } => inherits = false,
            Event::PromptAccepted { prompt, .. } => {
                own += u64::from(!inherits);
                waiting.insert(*prompt);
            }
            Event::TurnStarted { prompts, .. } => {
                running += 1;
                waiting.retain(|prompt| !prompts.contains(prompt));
            }
            Event::TurnFinished { .. } => running -= 1,
            Event::AssistantMessage { content, .. } => {
                for part in content {
                    if let greenroom_domain::message::Content::ToolCall(call) = part {
                        let command = call.input["command"].as_str().unwrap_or_default();
                        let line = command.split(' ').nth(1).unwrap_or_default();
                        commands.insert(call.id.clone(), line.to_owned());
                    }
                }
            }
            Event::ToolFinished { call, outcome, .. } => {
                if let Some(line) = commands.get(call) {
                    let is_sure = *outcome == ToolOutcome::Succeeded;
                    *written.entry(line.clone()).or_default() |= is_sure;
                }
            }
            _ => {}
        }
    }
    assert!(waiting.is_empty() && running == 0, "{session}: {log:#?}");
    assert!(own >= asked, "{session}: {asked} prompts were acknowledged and {own} are in its log");
    for (line, is_sure) in written {
        let found = notes.lines().filter(|found| *found == line).count();
        assert!(found <= 1, "{session}: {line} was written {found} times:\n{notes}\n{log:#?}");
        assert!(!is_sure || found == 1, "{session}: {line} is lost:\n{notes}\n{log:#?}");
    }
}

fn is_fork(entry: &Entry) -> bool {
    matches!(&entry.event, Event::SessionCreated { forked_from: Some(_), .. })
}

fn names(directory: &Path) -> Vec<String> {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn storage(server: &Server) -> PathBuf {
    let data = server.data().strip_prefix("/").expect("an absolute path");
    let seen = PathBuf::from(format!("/proc/{}/root", server.pid())).join(data);
    let volume = seen.join("volume");
    if volume.join("workspaces").exists() { volume } else { seen }
}

fn loop_devices(data: &str) -> usize {
    let devices = Path::new("/sys/block").read_dir().into_iter().flatten().flatten();
    let files =
        devices.filter_map(|device| std::fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.filter(|file| file.contains(data)).count()
}

/// A child of the server that is no sandbox itself.
fn is_zygote(server: u32, pid: u32) -> bool {
    crate::restart::parent_of(pid) == Some(server) && !is_in_other_network(pid)
}

/// The first processes of all sandboxes.
pub(crate) fn stages(server: u32) -> Vec<u32> {
    descendants(server).into_iter().filter(|pid| is_stage(*pid)).collect()
}

fn is_stage(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let is_first = status.lines().any(|line| {
        line.strip_prefix("NSpid:").is_some_and(|pids| {
            let pids: Vec<&str> = pids.split_ascii_whitespace().collect();
            pids.len() > 1 && pids.last() == Some(&"1")
        })
    });
    is_first && is_in_other_network(pid)
}
