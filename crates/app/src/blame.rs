//! Which prompts made which line of a session's files.
//!
//! After each turn that may have changed files, before another person's prompt joins one, and after a person's own command,
//! the working tree is *marked*: committed aside by plumbing, over an index of its own, on a hidden reference of the
//! session's clone that is pushed nowhere. The log says for whose prompts each mark is; `git blame` over the marks says which
//! of them a line is from. Marks are made beside the work: only a tool call, a snapshot, or a person's command that would
//! come too early waits, for two seconds at most. A person's commands are marked when somebody needs it (others are about to
//! write, the sandbox is about to end, `blame` is asked for), or when they have rested for ten seconds: a start pays for none.
//!
//! Git runs inside the sandbox, whose code is hostile: what it says is parsed as such, bounded, and shown to people. Nothing
//! is decided by it: who approves and who is named on a commit follows from the log alone.

mod porcelain;

use crate::exec::Shell;
use crate::snapshots::Track;
use crate::workspaces::git_identity;
use crate::{App, Inner, Result};
use greenroom_domain::event::MarkedFor;
use greenroom_domain::state::QueuedPrompt;
use greenroom_domain::{
    Author, CommitHash, Entry, ErrorCode, Event, Person, Problem, PromptId, Right, SessionId, SessionState,
    TurnId,
};
use greenroom_sandbox::Sandbox;
use greenroom_session::SessionHandle;
use greenroom_wire::{Blame, BlamePart, BlamePrompt, BlamedOn};
use porcelain::Line;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const MARK_DEADLINE_MS: u64 = 60_000;
/// What a turn's snapshot, and a tool call that follows, wait for a mark. A model thinks longer than one takes.
pub(crate) const MARK_PATIENCE: Duration = Duration::from_secs(2);
/// Of a person's commands that nobody needs marked: what a crash of the server can leave to whoever is marked next.
const MARK_REST: Duration = Duration::from_secs(10);
const BLAME_DEADLINE_MS: u64 = 60_000;
/// The porcelain form repeats some 50 bytes for each line.
const BLAME_OUTPUT_LIMIT: u64 = 16 * 1024 * 1024;
/// Also in `BLAME`.
const FILE_LIMIT: &str = "1 MiB";
const PATH_LIMIT: usize = 4096;
/// Of a prompt, what is shown beside its lines.
const SHOWN_CHARS: usize = 200;
const NO_FILE: i32 = 94;
const LARGE_FILE: i32 = 95;

/// Sets `tip` to the working tree as a commit, on the newest mark that this clone has (a fork may lack the last ones, and
/// files that were lost lack all), else on the commit that the session began at. A base that was synced since is a second
/// parent, so that its lines stay its own. Nothing that the clone configures runs.
const TIP: &str = r#"set -eu
export GIT_NO_REPLACE_OBJECTS=1 GIT_OPTIONAL_LOCKS=0
git() { command git -c core.fsmonitor=false -c core.hooksPath=/dev/null -c blame.ignoreRevsFile= "$@" 2> /dev/null; }
GIT_INDEX_FILE=$(mktemp /tmp/greenroom-mark.XXXXXX)
export GIT_INDEX_FILE
trap 'rm -f "$GIT_INDEX_FILE"' EXIT
cp .git/index "$GIT_INDEX_FILE"
git add -A
tree=$(git write-tree)
parent=$MARK_BASE
for known in $MARK_KNOWN; do
  if git cat-file -e "$known^{commit}"; then parent=$known; break; fi
done
tip=$parent
if [ "$tree" != "$(git rev-parse "$parent^{tree}")" ]; then
  set -- -p "$parent"
  git merge-base --is-ancestor "$MARK_BASE" "$parent" || set -- "$@" -p "$MARK_BASE"
  tip=$(printf '%s' "$MARK_MESSAGE" | git commit-tree "$tree" "$@")
fi
"#;
const MARK: &str = r#"[ "$tip" = "$parent" ] || { git update-ref refs/greenroom/marks "$tip"; printf '%s' "$tip"; }
"#;
const BLAME: &str = r#"[ "$(git cat-file -t "$tip:$BLAME_PATH")" = blob ] || exit 94
[ "$(git cat-file -s "$tip:$BLAME_PATH")" -le 1048576 ] || exit 95
printf '%s\n' "$tip"
git blame --porcelain --no-textconv "$tip" -- "$BLAME_PATH"
"#;

/// A mark's place among the marks of its session. `None`: another is being made, and it comes after.
#[derive(Debug)]
pub(crate) struct Begun(Option<tokio::sync::OwnedMutexGuard<()>>);

/// What has been done since the last mark, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) of: MarkedFor,
    /// Whose prompts they are; the first is the commit's author.
    pub(crate) authors: Vec<Author>,
}

impl Work {
    pub(crate) fn command(person: &Person) -> Self {
        let of = MarkedFor::Command { person: person.id, name: person.name.clone() };
        Self { of, authors: vec![person.as_author()] }
    }

    fn message(&self) -> String {
        let title = match &self.of {
            MarkedFor::Turn { turn, .. } => format!("Turn {turn}"),
            MarkedFor::Command { .. } => "A command".to_owned(),
        };
        let prompts = match &self.of {
            MarkedFor::Turn { prompts, .. } => prompts.iter().map(|id| format!("Prompt: {id}")).collect(),
            MarkedFor::Command { .. } => vec![],
        };
        let first = self.authors.first().map(|author| author.on_behalf_of);
        let mut named: HashSet<_> = first.into_iter().collect();
        let others = self.authors.iter().filter(|author| named.insert(author.on_behalf_of));
        let others = others.map(|other| format!("Co-authored-by: {} <{}>", other.name, other.email));
        let trailers: Vec<String> = prompts.into_iter().chain(others).collect();
        format!("{title}\n\n{}", trailers.join("\n"))
    }
}

/// What is not marked yet, and is not being marked either.
#[derive(Debug, Default)]
pub(crate) struct Unmarked {
    /// People's commands, once for each person, in the order in which their first ended.
    commands: Vec<Work>,
    /// A turn runs: its own marks cover what people do meanwhile. Nobody can tell the two apart.
    turn: Option<TurnId>,
}

impl Unmarked {
    /// Whether it is the first since the last mark.
    fn add(&mut self, work: Work) -> bool {
        let is_known = self.commands.iter().any(|known| known.of == work.of);
        if self.turn.is_some() || is_known {
            return false;
        }
        self.commands.push(work);
        self.commands.len() == 1
    }
}

/// The prompts that the turn has been given so far, with their authors.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<Vec<(PromptId, Author)>>);

impl Asked {
    pub(crate) fn of(state: &SessionState) -> Self {
        let asked = Self::default();
        state.running.iter().for_each(|running| asked.add(&running.prompts));
        asked
    }

    pub(crate) fn add(&self, prompts: &[QueuedPrompt]) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.extend(prompts.iter().map(|queued| (queued.prompt, queued.author.clone())));
    }

    pub(crate) fn work(&self, turn: TurnId) -> Work {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (prompts, authors) = asked.into_iter().unzip();
        Work { of: MarkedFor::Turn { turn, prompts }, authors }
    }
}

impl Inner {
    /// Marks what was done, in the order of the calls. For background tasks: nothing depends on it but what `blame` says.
    pub(crate) async fn mark(
        self: &Arc<Self>,
        session: &SessionHandle,
        sandbox: &Arc<dyn Sandbox>,
        work: &Work,
        begun: Begun,
    ) {
        let track = self.snapshots.track(session.id());
        let _one = match begun.0 {
            Some(one) => one,
            None => Arc::clone(&track.marking).lock_owned().await,
        };
        self.mark_commands(session, sandbox, &track).await;
        self.mark_or_warn(session, sandbox, work).await;
    }

    /// With `marking` held.
    async fn mark_commands(&self, session: &SessionHandle, sandbox: &Arc<dyn Sandbox>, track: &Track) {
        let commands = std::mem::take(&mut track.unmarked().commands);
        for work in commands {
            self.mark_or_warn(session, sandbox, &work).await;
        }
    }

    async fn mark_or_warn(&self, session: &SessionHandle, sandbox: &Arc<dyn Sandbox>, work: &Work) {
        if let Err(problem) = self.try_mark(session, sandbox, work).await {
            tracing::warn!(session = %session.id(), %problem, "whose work the files are is not marked");
        }
    }

    /// From now on writes wait for the mark that this is given to.
    pub(crate) fn begin_mark(&self, session: SessionId) -> Begun {
        Begun(Arc::clone(&self.snapshots.track(session).marking).try_lock_owned().ok())
    }

    /// Something may now be done for others, or the sandbox ends: what was done before is marked first. Waits, not for long.
    pub(crate) async fn marked(self: &Arc<Self>, session: &SessionHandle, sandbox: &Arc<dyn Sandbox>) {
        let track = self.snapshots.track(session.id());
        let one = Arc::clone(&track.marking).try_lock_owned();
        if one.is_ok() && track.unmarked().commands.is_empty() {
            return;
        }
        let (app, session, sandbox) = (Arc::clone(self), session.clone(), Arc::clone(sandbox));
        let marking = self.drain.endings.spawn(async move {
            let _one = match one {
                Ok(one) => one,
                Err(_) => Arc::clone(&track.marking).lock_owned().await,
            };
            app.mark_commands(&session, &sandbox, &track).await;
        });
        let _late = tokio::time::timeout(MARK_PATIENCE, marking).await;
    }

    /// The same before a person's command, unless what is not marked is all theirs.
    pub(crate) async fn marked_for_others(self: &Arc<Self>, session: &SessionHandle, person: &Person) {
        let track = self.snapshots.track(session.id());
        let is_theirs = |work: &Work| work.authors.iter().all(|author| author.on_behalf_of == person.id);
        let is_settled = track.marking.try_lock().is_ok() && track.unmarked().commands.iter().all(is_theirs);
        if is_settled {
            return;
        }
        if let Some(sandbox) = self.workspaces.ready_sandbox(session.id()) {
            self.marked(session, &sandbox).await;
        }
    }

    async fn try_mark(&self, session: &SessionHandle, sandbox: &Arc<dyn Sandbox>, work: &Work) -> Result<()> {
        let Some(author) = work.authors.first() else { return Ok(()) };
        let Some(mut env) = environment(session, work.message()).await? else { return Ok(()) };
        env.extend(git_identity(&author.name, &author.email));
        let command = [TIP, MARK].concat();
        let run = Shell { command: &command, env, timeout_ms: MARK_DEADLINE_MS, output_limit: 4096 };
        let result = self.run_in(sandbox, run).await?;
        if result.exit_code != Some(0) {
            return Err(failed());
        }
        if result.output.is_empty() {
            return Ok(());
        }
        let commit: CommitHash = result.output.trim().parse().map_err(|_| failed())?;
        session.record(vec![Event::FilesMarked { commit, of: work.of.clone() }]).await
    }

    /// After a person's command.
    pub(crate) fn command_ended(self: &Arc<Self>, session: &SessionHandle, person: &Person) {
        let track = self.snapshots.track(session.id());
        if !track.unmarked().add(Work::command(person)) {
            return;
        }
        let (app, session) = (Arc::downgrade(self), session.clone());
        tokio::spawn(async move {
            tokio::time::sleep(MARK_REST).await;
            let Some(app) = app.upgrade() else { return };
            // Not what has a sandbox no more: that was marked when it ended.
            if let Some(sandbox) = app.workspaces.ready_sandbox(session.id()) {
                app.marked(&session, &sandbox).await;
            }
        });
    }

    /// From here on, until `turn_is_over`, what is done in the sandbox is marked as the turn's.
    pub(crate) fn turn_begins(&self, session: SessionId, turn: TurnId) {
        self.snapshots.track(session).unmarked().turn = Some(turn);
    }

    pub(crate) fn turn_is_over(&self, session: SessionId, turn: TurnId) {
        self.snapshots.track(session).unmarked().turn.take_if(|running| *running == turn);
    }
}

impl App {
    /// Whose prompts made each line of a file as it is now in the session's working tree. Whoever only looks sees it while
    /// the sandbox runs.
    pub async fn session_blame(&self, caller: &Person, id: SessionId, path: &str) -> Result<Blame> {
        let handle = self.open(caller, Right::View, id).await?;
        check_path(path)?;
        let sandbox = self.sandbox_in_sight(&handle, caller).await?.sandbox();
        // Their lines are somebody's: marks are made, and one that is being made is waited for.
        self.inner.marked(&handle, &sandbox).await;
        let message = "What is not marked yet".to_owned();
        let env = environment(&handle, message).await?;
        let mut env = env.ok_or_else(|| {
            Problem::new(ErrorCode::SandboxFailed, "The session's files are not ready yet.")
                .hint("Try again shortly.")
        })?;
        env.extend(git_identity("Greenroom", "greenroom@localhost"));
        env.push(("BLAME_PATH".to_owned(), path.to_owned()));
        let command = [TIP, BLAME].concat();
        let run =
            Shell { command: &command, env, timeout_ms: BLAME_DEADLINE_MS, output_limit: BLAME_OUTPUT_LIMIT };
        let result = self.inner.run_in(&sandbox, run).await?;
        match result.exit_code {
            Some(0) if !result.is_truncated => {}
            Some(NO_FILE) => return Err(no_file(path)),
            Some(0 | LARGE_FILE) => return Err(large_file()),
            _ => return Err(failed()),
        }
        if result.output.contains('\0') {
            return Err(Problem::new(ErrorCode::InvalidRequest, "This file is not text: it has no lines."));
        }
        let (tip, lines) = porcelain::read(&result.output).ok_or_else(failed)?;
        let running = handle
            .look(|state| {
                let running = state.running.as_ref()?;
                let prompts = running.prompts.iter().map(|queued| queued.prompt).collect();
                Some(MarkedFor::Turn { turn: running.turn, prompts })
            })
            .await?;
        let entries = handle.conversation().await?;
        Ok(blame(path, &tip, lines, running, &entries))
    }
}

/// `None`: the files are not there yet.
async fn environment(session: &SessionHandle, message: String) -> Result<Option<Vec<(String, String)>>> {
    let (base, marks) =
        session.look(|state| (state.workspace.base_commit.clone(), state.workspace.marks.clone())).await?;
    let Some(base) = base else { return Ok(None) };
    let known: Vec<&str> = marks.iter().rev().map(CommitHash::as_str).collect();
    Ok(Some(vec![
        ("MARK_BASE".to_owned(), base.to_string()),
        ("MARK_KNOWN".to_owned(), known.join(" ")),
        ("MARK_MESSAGE".to_owned(), message),
    ]))
}

/// A path from the workspace's root, as git writes it.
fn check_path(path: &str) -> Result<()> {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && part != ".git";
    let fits = path.len() <= PATH_LIMIT && path.split('/').all(is_part) && !path.contains(char::is_control);
    if fits {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::InvalidRequest, "This is not a path of a file in the session's repository.")
        .hint("Give it from the repository's root, for example src/main.rs."))
}

fn blame(
    path: &str,
    tip: &CommitHash,
    lines: Vec<Line>,
    running: Option<MarkedFor>,
    entries: &[Entry],
) -> Blame {
    let marks: HashMap<&CommitHash, &MarkedFor> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::FilesMarked { commit, of }
            | Event::Reverted { mark: Some(commit), mark_of: Some(of), .. } => Some((commit, of)),
            _ => None,
        })
        .collect();
    let blamed = |line: &Line| match marks.get(&line.commit) {
        Some(MarkedFor::Turn { turn, prompts }) => {
            BlamedOn::Prompts { turn: *turn, prompts: prompts.clone(), is_running: false }
        }
        Some(MarkedFor::Command { person, name }) => {
            BlamedOn::Command { person: *person, name: name.clone() }
        }
        None if line.commit == *tip => match &running {
            Some(MarkedFor::Turn { turn, prompts }) => {
                BlamedOn::Prompts { turn: *turn, prompts: prompts.clone(), is_running: true }
            }
            _ => BlamedOn::Unmarked,
        },
        None => BlamedOn::BeforeSession {
            commit: line.commit.clone(),
            author: shown(&line.author),
            summary: shown(&line.summary),
        },
    };
    let mut parts: Vec<BlamePart> = vec![];
    for (line, number) in lines.iter().zip(1..) {
        let by = blamed(line);
        match parts.last_mut() {
            Some(part) if part.by == by => part.lines.push(line.text.clone()),
            _ => parts.push(BlamePart { first_line: number, lines: vec![line.text.clone()], by }),
        }
    }
    let prompts = prompts_of(&parts, entries);
    Blame { path: path.to_owned(), parts, prompts }
}

/// In the order in which they were sent.
fn prompts_of(parts: &[BlamePart], entries: &[Entry]) -> Vec<BlamePrompt> {
    let named: HashSet<_> = parts
        .iter()
        .flat_map(|part| match &part.by {
            BlamedOn::Prompts { prompts, .. } => prompts.clone(),
            _ => vec![],
        })
        .collect();
    let mut found: Vec<BlamePrompt> = vec![];
    for entry in entries {
        match &entry.event {
            Event::PromptAccepted { prompt, author, text, .. } if named.contains(prompt) => {
                found.push(BlamePrompt { prompt: *prompt, author: author.clone(), text: shown(text) });
            }
            Event::PromptEdited { prompt, text, .. } => {
                if let Some(known) = found.iter_mut().find(|known| known.prompt == *prompt) {
                    known.text = shown(text);
                }
            }
            _ => {}
        }
    }
    found
}

/// The first line, cut.
fn shown(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().chars().take(SHOWN_CHARS).collect()
}

fn failed() -> Problem {
    Problem::new(ErrorCode::SandboxFailed, "Git inside the sandbox could not say where the lines are from.")
        .hint("Look whether `git status` works there.")
}

fn no_file(path: &str) -> Problem {
    Problem::new(ErrorCode::FileUnknown, format!("The session has no file {path}, or git ignores it."))
        .hint("`greenroom session diff` names the files that it changed.")
}

fn large_file() -> Problem {
    Problem::new(ErrorCode::TooLarge, format!("The file is larger than {FILE_LIMIT}."))
}

#[cfg(test)]
#[path = "blame_tests.rs"]
mod tests;
