//! What git is asked to do in the sandbox, and what of its answers is believed: hashes and numbers of their form, paths up
//! to a bound. Nothing that the clone configures runs, but for the filters its attributes name, as in any `git add`.

use crate::Result;
use crate::exec::Shell;
use crate::workspaces::git_identity;
use greenroom_domain::state::StepRef;
use greenroom_domain::{CommitHash, ErrorCode, Problem};
use greenroom_wire::ExecResult;

const KEEP_DEADLINE_MS: u64 = 60_000;
const REVERT_DEADLINE_MS: u64 = 120_000;
const DIFF_DEADLINE_MS: u64 = 60_000;
const DIFF_LIMIT: u64 = 8 * 1024 * 1024;
/// Of a revert's answer: two hundred paths.
const REVERT_LIMIT: u64 = 1024 * 1024;
/// Paths that are told of a revert.
const CHANGED_LIMIT: usize = 200;
const PATH_LIMIT: usize = 4096;
const GONE: i32 = 96;
const IN_THE_WAY: i32 = 97;
/// Never in what git prints with `-z`.
const BOUNDARY: &str = "\0\0\0\0";

const GIT: &str = r#"set -eu
export GIT_NO_REPLACE_OBJECTS=1 GIT_OPTIONAL_LOCKS=0 LC_ALL=C
git() {
  command git -c core.fsmonitor=false -c core.hooksPath=/dev/null -c core.fileMode=true -c core.symlinks=true \
    -c core.sparseCheckout=false -c core.protectNTFS=false -c core.protectHFS=false -c diff.noprefix=false \
    -c diff.mnemonicPrefix=false "$@" 2> /dev/null
}
has() { git cat-file -e "$1^{commit}"; }
# What cannot be read, a clone in it without a commit for one, is left out.
add() { git add -A --ignore-errors || [ $? = 1 ]; }
"#;
/// Brings the kept index to the working tree. A lock is of a run that was cut off: there is one at a time.
const TAKE: &str = r#"GIT_INDEX_FILE=$PWD/.git/greenroom-steps.index
export GIT_INDEX_FILE
rm -f "$GIT_INDEX_FILE.lock"
[ -s "$GIT_INDEX_FILE" ] || cp .git/index "$GIT_INDEX_FILE"
add || { cp .git/index "$GIT_INDEX_FILE"; add; }
tree=$(git write-tree)
"#;
/// The same without touching it.
const PEEK: &str = r#"GIT_INDEX_FILE=$(mktemp /tmp/greenroom-trees.XXXXXX)
export GIT_INDEX_FILE
trap 'rm -f "$GIT_INDEX_FILE"' EXIT
cp .git/greenroom-steps.index "$GIT_INDEX_FILE" || cp .git/index "$GIT_INDEX_FILE"
add
TREE_A=$(git write-tree)
"#;
/// On a reference that holds every earlier one, so that nothing collects them.
const KEEP: &str = r#"from=
if [ -n "$STEP_FROM" ] && has "$STEP_FROM"; then
  from=$STEP_FROM
  [ "$tree" != "$(git rev-parse "$from^{tree}")" ] || exit 0
fi
set --
! tip=$(git rev-parse -q --verify 'refs/greenroom/steps^{commit}') || set -- -p "$tip"
commit=$(printf 'A step' | git commit-tree "$tree" "$@")
git update-ref refs/greenroom/steps "$commit"
printf '%s\n' "$commit" "${from:+compared}"
[ -z "$from" ] || git diff --shortstat -M --no-ext-diff --no-textconv "$from" "$commit"
"#;
/// Refuses, before it has changed anything, where a file was written meanwhile. Then a mark that later ones stand on, and one commit
/// that holds everything from before.
const REVERT: &str = r#"has "$STEP_TO" && has "$STEP_FROM" || exit 96
to=$(git rev-parse "$STEP_TO^{tree}")
git read-tree -m -u --exclude-per-directory=.gitignore "$to" || exit 97
mark=
for known in $MARK_KNOWN; do
  if has "$known"; then mark=$known; break; fi
done
made=
if [ -n "$mark" ] && [ "$to" != "$(git rev-parse "$mark^{tree}")" ]; then
  mark=$(printf 'Files were put back' | git commit-tree "$to" -p "$mark")
  made=made
fi
set --
for kept in refs/greenroom/steps refs/greenroom/marks "${mark:-none}"; do
  ! kept=$(git rev-parse -q --verify "$kept^{commit}") || set -- "$@" -p "$kept"
done
git update-ref refs/greenroom/steps "$(printf 'Files were put back' | git commit-tree "$to" "$@")"
[ -z "$mark" ] || git update-ref refs/greenroom/marks "$mark"
printf '%s\n' "$mark" "$made"
git diff --shortstat --no-renames --no-ext-diff --no-textconv "$STEP_FROM" "$STEP_TO"
printf '\000\000\000\000'
git diff --name-only -z --no-renames "$STEP_FROM" "$STEP_TO" | head -c 524288
"#;
const DIFF: &str = r#"git cat-file -e "$TREE_A^{tree}" && git cat-file -e "$TREE_B^{tree}" || exit 96
set -- -M --no-color --no-ext-diff --no-textconv -O/dev/null "$TREE_A" "$TREE_B"
git diff --numstat -z "$@"
printf '\000\000\000\000'
git diff --patch --unified=3 "$@"
"#;

/// A tree that was made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) commit: CommitHash,
    /// With the step that the files were at; otherwise that is not there.
    pub(super) is_compared: bool,
    /// Files, additions, deletions.
    pub(super) counts: (u64, u64, u64),
}

/// What became of files that were put back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PutBack {
    pub(super) mark: Option<CommitHash>,
    /// It was made now: the files are not as any mark before.
    pub(super) is_new_mark: bool,
    pub(super) changed: Vec<String>,
    pub(super) changed_count: u64,
}

fn identity() -> Vec<(String, String)> {
    git_identity("Greenroom", "greenroom@localhost")
}

pub(super) const fn keep_command() -> [&'static str; 3] {
    [GIT, TAKE, KEEP]
}

/// A script to run, owned: `Shell` borrows it.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) command: String,
    pub(super) env: Vec<(String, String)>,
    timeout_ms: u64,
    output_limit: u64,
}

impl Script {
    pub(super) fn shell(&self) -> Shell<'_> {
        let Self { command, env, timeout_ms, output_limit } = self;
        Shell { command, env: env.clone(), timeout_ms: *timeout_ms, output_limit: *output_limit }
    }
}

/// `at`: the step that the files were at.
pub(super) fn keep(at: Option<&StepRef>) -> Script {
    let mut env = identity();
    env.push(("STEP_FROM".to_owned(), at.map(|at| at.commit.to_string()).unwrap_or_default()));
    Script { command: keep_command().concat(), env, timeout_ms: KEEP_DEADLINE_MS, output_limit: 4096 }
}

/// `marks`: those that a new one may stand on, the best first.
pub(super) fn revert(to: &CommitHash, from: &CommitHash, marks: &[CommitHash]) -> Script {
    let mut env = identity();
    let known: Vec<&str> = marks.iter().map(CommitHash::as_str).collect();
    env.extend([
        ("STEP_TO".to_owned(), to.to_string()),
        ("STEP_FROM".to_owned(), from.to_string()),
        ("MARK_KNOWN".to_owned(), known.join(" ")),
    ]);
    let command = [GIT, TAKE, REVERT].concat();
    Script { command, env, timeout_ms: REVERT_DEADLINE_MS, output_limit: REVERT_LIMIT }
}

/// From `a`, or from the files as they are now, to `b`.
pub(super) fn diff(a: Option<&CommitHash>, b: &CommitHash) -> Script {
    let mut env = vec![("TREE_B".to_owned(), b.to_string())];
    let command = match a {
        Some(a) => {
            env.push(("TREE_A".to_owned(), a.to_string()));
            [GIT, DIFF].concat()
        }
        None => [GIT, PEEK, DIFF].concat(),
    };
    Script { command, env, timeout_ms: DIFF_DEADLINE_MS, output_limit: DIFF_LIMIT }
}

/// `None`: the files are as the step left them.
pub(super) fn read_kept(found: &ExecResult) -> Result<Option<Kept>> {
    if found.exit_code != Some(0) {
        return Err(failed("The files of this step could not be kept."));
    }
    let mut lines = found.output.lines();
    let Some(commit) = lines.next() else { return Ok(None) };
    let commit = commit.parse().map_err(|_| failed("The files of this step could not be kept."))?;
    let is_compared = lines.next() == Some("compared");
    Ok(Some(Kept { commit, is_compared, counts: counts(lines.next().unwrap_or_default()) }))
}

pub(super) fn read_put_back(found: &ExecResult) -> Result<PutBack> {
    match found.exit_code {
        Some(0) => {}
        Some(GONE) => return Err(gone()),
        Some(IN_THE_WAY) => {
            return Err(failed(
                "Something wrote to the files while they were put back, or lies in their way.",
            )
            .hint("Stop what runs in the sandbox, and try again."));
        }
        _ => return Err(failed("The files could not be put back.").hint("Try again.")),
    }
    let wrong = || failed("The sandbox said nothing useful of files that were put back.");
    let (head, paths) = found.output.split_once(BOUNDARY).ok_or_else(wrong)?;
    let mut lines = head.lines();
    let mark = match lines.next().unwrap_or_default() {
        "" => None,
        mark => Some(mark.parse().map_err(|_| wrong())?),
    };
    let is_new_mark = lines.next() == Some("made");
    let (changed_count, ..) = counts(lines.next().unwrap_or_default());
    let is_path = |path: &&str| !path.is_empty() && path.len() <= PATH_LIMIT;
    let changed = paths.split('\0').filter(is_path).take(CHANGED_LIMIT).map(str::to_owned).collect();
    Ok(PutBack { mark, is_new_mark, changed, changed_count })
}

/// Counts and patches.
pub(super) fn read_diff(found: &ExecResult) -> Result<(&str, &str)> {
    match found.exit_code {
        Some(GONE) => return Err(gone()),
        Some(0) => {}
        // Cut off at the limit: git ends with what it wrote to.
        _ if found.is_truncated => {}
        _ => return Err(failed("The files of the steps could not be compared.")),
    }
    let (counts, patches) =
        found.output.split_once(BOUNDARY).ok_or_else(|| failed("The sandbox said nothing useful."))?;
    Ok((counts, patches.trim_start_matches('\0')))
}

/// Of ` 2 files changed, 3 insertions(+), 1 deletion(-)`.
fn counts(line: &str) -> (u64, u64, u64) {
    let of = |word: &str| {
        let part = line.split(',').find(|part| part.contains(word))?;
        part.trim().split(' ').next()?.parse().ok()
    };
    (of("file").unwrap_or(0), of("insertion").unwrap_or(0), of("deletion").unwrap_or(0))
}

fn gone() -> Problem {
    Problem::new(ErrorCode::StepUnknown, "The files of this step are not in the session's clone any more.")
        .hint("Files that were restored from a copy, or another clone in place of the session's, lack later steps.")
}

fn failed(message: &str) -> Problem {
    Problem::new(ErrorCode::SandboxFailed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_whichever_of_them_git_leaves_out() {
        assert_eq!(counts(" 2 files changed, 3 insertions(+), 1 deletion(-)"), (2, 3, 1));
        assert_eq!(counts(" 1 file changed, 1 deletion(-)"), (1, 0, 1));
        assert_eq!(counts(" 1 file changed, 0 insertions(+), 0 deletions(-)"), (1, 0, 0));
        assert_eq!(counts(""), (0, 0, 0));
        assert_eq!(counts(" -1 files changed, 99999999999999999999 insertions(+)"), (0, 0, 0));
    }

    fn said(output: &str, exit_code: i32) -> ExecResult {
        let output = output.to_owned();
        ExecResult { output, exit_code: Some(exit_code), ended_by: None, is_truncated: false, duration_ms: 1 }
    }

    #[test]
    fn what_a_hostile_git_says_is_bounded_and_of_its_form() {
        assert!(read_kept(&said("no hash\n", 0)).is_err());
        assert!(read_kept(&said(&"a".repeat(40), 1)).is_err());
        assert_eq!(read_kept(&said("", 0)).unwrap(), None);
        let many = format!("\n\n{}{}", BOUNDARY, "p\0".repeat(1000));
        let read = read_put_back(&said(&many, 0)).unwrap();
        assert_eq!((read.mark, read.changed.len(), read.changed_count), (None, CHANGED_LIMIT, 0));
        let long = format!("\n\n{}{}\0b\0", BOUNDARY, "x".repeat(PATH_LIMIT + 1));
        assert_eq!(read_put_back(&said(&long, 0)).unwrap().changed, ["b"]);
        assert!(read_put_back(&said("x\n\n", 0)).is_err());
        assert_eq!(read_put_back(&said("", GONE)).unwrap_err().code, ErrorCode::StepUnknown);
        assert_eq!(read_diff(&said("", GONE)).unwrap_err().code, ErrorCode::StepUnknown);
    }
}
