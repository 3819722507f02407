//! Brings a sandbox's files to a commit of the base branch, says which files that changed, and runs the steps of the
//! recipe again whose inputs are among them. Sessions and pool alike.

use super::run;
use super::words::problem_of_sandbox;
use crate::Result;
use crate::services::Services;
use greenroom_domain::{BranchName, CommitHash, ErrorCode, Event, Problem};
use greenroom_image::recipe::Step;
use greenroom_image::{ImageManifest, WORKSPACE};
use greenroom_sandbox::{ExecSpec, ExitReason, Sandbox};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SYNC_DEADLINE_MS: u64 = 100_000;
/// All changed paths of one sync; what comes after is counted by nobody.
const CHANGED_LIMIT_BYTES: u64 = 4 * 1024 * 1024;
/// Paths that an event names.
const NAMED_LIMIT: usize = 200;
/// A step of the recipe that runs again has its own limit, and this one.
const STEP_LIMIT_MS: u64 = 20 * 60_000;
const STEP_OUTPUT_LIMIT: u64 = 256 * 1024;
/// Of a failed step's output, what is told.
const TOLD_CHARS: usize = 2_000;

/// Where a sandbox is and where it is to be.
pub(crate) struct SyncTo<'a> {
    pub(crate) from: &'a CommitHash,
    pub(crate) head: &'a CommitHash,
    pub(crate) base: &'a BranchName,
    /// The session's own branch, made at the head; `None`: none yet.
    pub(crate) branch: Option<&'a BranchName>,
    /// The base branch has the head.
    pub(crate) is_of_base: bool,
}

/// What a sync brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Landing {
    pub(crate) from: CommitHash,
    pub(crate) to: CommitHash,
    /// Paths from the workspace's root.
    pub(crate) changed: Vec<String>,
    pub(crate) rerun_steps: Vec<String>,
    /// Steps that ran again and failed, with the end of their output.
    pub(crate) failed_steps: Vec<(String, String)>,
}

impl Landing {
    /// Nothing had to arrive.
    pub(crate) fn none(at: CommitHash) -> Self {
        Self { from: at.clone(), to: at, changed: vec![], rerun_steps: vec![], failed_steps: vec![] }
    }

    pub(crate) fn event(&self) -> Event {
        Event::Synced {
            from: self.from.clone(),
            to: self.to.clone(),
            changed: self.changed.iter().take(NAMED_LIMIT).cloned().collect(),
            changed_count: self.changed.len() as u64,
            rerun_steps: self.rerun_steps.clone(),
        }
    }

    /// What people and model are told of steps that failed; the sandbox is ready all the same.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let names: Vec<&str> = self.failed_steps.iter().map(|(name, _)| name.as_str()).collect();
        let (_, output) = self.failed_steps.last()?;
        let message = format!(
            "The newest commits changed what these steps of the environment depend on, and they failed when they ran \
             again: {}.",
            names.join(", ")
        );
        Some(
            Problem::new(ErrorCode::StepFailed, message)
                .hint("Run the step in the sandbox to see why.")
                .detail(output.clone()),
        )
    }

    /// This one, with what came after it.
    pub(crate) fn then(mut self, later: Self) -> Self {
        self.to = later.to;
        self.changed.extend(later.changed);
        self.changed.sort_unstable();
        self.changed.dedup();
        let again = &later.rerun_steps;
        self.failed_steps.retain(|(name, _)| !again.contains(name));
        self.rerun_steps.retain(|name| !again.contains(name));
        self.rerun_steps.extend(later.rerun_steps);
        self.failed_steps.extend(later.failed_steps);
        self
    }
}

/// Points HEAD at a new branch at the commit that is checked out: two small files, no git process.
pub(crate) async fn start_branch(
    sandbox: &Arc<dyn Sandbox>,
    commit: &CommitHash,
    branch: &BranchName,
) -> Result<()> {
    let git = format!("{WORKSPACE}/.git");
    let reference = format!("{git}/refs/heads/{branch}");
    let (commit, head) = (format!("{commit}\n"), format!("ref: refs/heads/{branch}\n"));
    let head_path = format!("{git}/HEAD");
    // Until both are there nobody uses the sandbox, so their order does not matter.
    let (reference, head) = tokio::join!(
        sandbox.write_file(&reference, commit.as_bytes()),
        sandbox.write_file(&head_path, head.as_bytes())
    );
    reference.and(head).map_err(problem_of_sandbox)
}

/// Writes in advance what `start_branch` writes: the first time, each of these is copied from the image's layers.
const FURNISH: &str = "set -e
[ -f .git/HEAD ] || exit 0
mkdir -p .git/refs/heads/greenroom
cp .git/HEAD .git/HEAD.new
mv .git/HEAD.new .git/HEAD
";

/// What a sandbox's first minute would otherwise spend on itself. Changes nothing that git shows.
pub(crate) async fn furnish(sandbox: &Arc<dyn Sandbox>) -> Result<()> {
    let spec = shell("greenroom-furnish", FURNISH, &[], SYNC_DEADLINE_MS, CHANGED_LIMIT_BYTES);
    match run(sandbox, spec).await? {
        (Some(ExitReason::Code { code: 0 }), _) => Ok(()),
        (_, output) => {
            Err(Problem::new(ErrorCode::SandboxFailed, "The clone in the image cannot be written.")
                .detail(output))
        }
    }
}

/// Fetches, checks out, and runs steps again. A step that fails is told and does not lose the sandbox.
pub(crate) async fn bring(
    sandbox: &Arc<dyn Sandbox>,
    manifest: &ImageManifest,
    services: &Services,
    to: &SyncTo<'_>,
) -> Result<Landing> {
    let changed = fetch(sandbox, to).await?;
    let mut landing = Landing { changed, to: to.head.clone(), ..Landing::none(to.from.clone()) };
    for step in manifest.steps_touched_by(&landing.changed) {
        landing.rerun_steps.push(step.name.clone());
        if let Err(output) = rerun(sandbox, services, step).await? {
            landing.failed_steps.push((step.name.clone(), output));
        }
    }
    Ok(landing)
}

const FETCH: &str = r#"set -e
git fetch -q --no-tags origin "+refs/heads/$BASE:refs/remotes/origin/$BASE" ${BESIDE:+"$BESIDE"}
if [ -n "$BRANCH" ]; then git checkout -q -f -B "$BRANCH" "$HEAD_COMMIT"; else git checkout -q -f --detach "$HEAD_COMMIT"; fi
printf '\000'
git diff --name-only --no-renames -z "$FROM" "$HEAD_COMMIT" || true
"#;

async fn fetch(sandbox: &Arc<dyn Sandbox>, to: &SyncTo<'_>) -> Result<Vec<String>> {
    let branch = to.branch.map(BranchName::as_str).unwrap_or_default();
    let env = [
        ("BASE", to.base.as_str()),
        ("BRANCH", branch),
        ("HEAD_COMMIT", to.head.as_str()),
        ("BESIDE", if to.is_of_base { "" } else { to.head.as_str() }),
        ("FROM", to.from.as_str()),
        ("GIT_TERMINAL_PROMPT", "0"),
    ];
    let spec = shell("greenroom-sync", FETCH, &env, SYNC_DEADLINE_MS, CHANGED_LIMIT_BYTES);
    let (exit, output) = run(sandbox, spec).await?;
    match (exit, output.split_once('\0')) {
        (Some(ExitReason::Code { code: 0 }), Some((_, changed))) => {
            Ok(changed.split_terminator('\0').map(str::to_owned).collect())
        }
        _ => Err(Problem::new(
            ErrorCode::SandboxFailed,
            "The newest commits could not be fetched into the sandbox.",
        )
        .hint("Send the prompt again.")
        .detail(output)),
    }
}

/// As steps are run by a build.
const AS_BUILT: &str =
    r#"if command -v bash >/dev/null 2>&1; then exec bash -eo pipefail -c "$1"; fi; exec sh -euc "$1""#;

/// Whether it succeeded; the end of its output where not.
async fn rerun(
    sandbox: &Arc<dyn Sandbox>,
    services: &Services,
    step: &Step,
) -> Result<std::result::Result<(), String>> {
    if let Err(problem) = services.up(&step.services).await {
        return Ok(Err(problem.message));
    }
    let limit = u64::from(step.timeout_minutes).saturating_mul(60_000).min(STEP_LIMIT_MS);
    let mut spec = shell("greenroom-step", "", &[("GIT_TERMINAL_PROMPT", "0")], limit, STEP_OUTPUT_LIMIT);
    spec.argv = ["/bin/sh", "-c", AS_BUILT, "sh", &step.run].map(str::to_owned).to_vec();
    let (exit, output) = run(sandbox, spec).await?;
    Ok(match exit {
        Some(ExitReason::Code { code: 0 }) => Ok(()),
        None => {
            return Err(problem_of_sandbox(greenroom_sandbox::Error::Ended { reason: "it was lost".into() }));
        }
        Some(_) => Err(last_chars(&output)),
    })
}

fn last_chars(output: &str) -> String {
    let from = output.ceil_char_boundary(output.len().saturating_sub(TOLD_CHARS));
    output[from..].to_owned()
}

/// Shell text in the workspace, under a call id that no other run of this process has.
pub(crate) fn shell(
    name: &str,
    script: &str,
    env: &[(&str, &str)],
    timeout_ms: u64,
    output_limit_bytes: u64,
) -> ExecSpec {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    ExecSpec {
        call: format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: WORKSPACE.to_owned(),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        stdin: vec![],
        timeout_ms,
        output_limit_bytes,
        is_read_only: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(digit: &str) -> CommitHash {
        digit.repeat(40).parse().unwrap()
    }

    fn landing(from: &str, to: &str, changed: &[&str]) -> Landing {
        let changed = changed.iter().map(|path| (*path).to_owned()).collect();
        Landing { to: commit(to), changed, ..Landing::none(commit(from)) }
    }

    #[test]
    fn a_step_that_succeeds_the_second_time_is_not_told_as_failed() {
        let first = Landing {
            rerun_steps: vec!["a".into(), "b".into()],
            failed_steps: vec![("a".into(), "no".into()), ("b".into(), "no".into())],
            ..landing("1", "2", &["x", "y"])
        };
        let second = Landing { rerun_steps: vec!["a".into()], ..landing("2", "3", &["y", "z"]) };
        let both = first.then(second);
        assert_eq!((both.from.clone(), both.to.clone()), (commit("1"), commit("3")));
        assert_eq!(both.changed, ["x", "y", "z"]);
        assert_eq!(both.rerun_steps, ["b", "a"]);
        assert!(both.problem().unwrap().message.ends_with("ran again: b."));
    }

    #[test]
    fn an_event_names_at_most_two_hundred_files_and_counts_all() {
        let mut landing = landing("1", "2", &[]);
        landing.changed = (0..300).map(|n| n.to_string()).collect();
        let Event::Synced { changed, changed_count, .. } = landing.event() else { panic!("another event") };
        assert_eq!((changed.len(), changed_count), (200, 300));
    }
}
