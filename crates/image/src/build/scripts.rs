//! The shell text that the build itself runs inside. Values come by environment, so that no name is ever shell text.

/// Overlays change inode and ctime, hence the first two `core` settings; the third remembers which directories hold nothing
/// untracked, so that a session's `git status` does not list them. A background `gc` would copy packs into every session.
pub(super) const CLONE: &str = r#"
git init -q /workspace
cd /workspace
git symbolic-ref HEAD "refs/heads/$GREENROOM_BRANCH"
git config core.trustctime false
git config core.checkStat minimal
git config core.untrackedCache true
git config gc.auto 0
git config maintenance.auto false
git remote add origin "$GREENROOM_CLONE_URL"
git fetch -q origin "+refs/heads/$GREENROOM_BRANCH:refs/remotes/origin/$GREENROOM_BRANCH"
git checkout -q -B "$GREENROOM_BRANCH" "$GREENROOM_COMMIT"
git branch -q --set-upstream-to="origin/$GREENROOM_BRANCH"
git update-index -q --refresh
echo "cloned at $GREENROOM_COMMIT"
"#;

/// Over an earlier clone: only the commits since then travel, and only changed files are written, so that programs which
/// compare times of change build incrementally.
pub(super) const UPDATE: &str = r#"
cd /workspace
git fetch -q origin "+refs/heads/$GREENROOM_BRANCH:refs/remotes/origin/$GREENROOM_BRANCH"
git checkout -q -f -B "$GREENROOM_BRANCH" "$GREENROOM_COMMIT"
git update-index -q --refresh
echo "updated to $GREENROOM_COMMIT"
"#;

/// Excludes are anchored and escaped; a newline in a name becomes a `?`, which matches it.
pub(super) const FINISH: &str = r#"
cd /workspace
git checkout -q -f -B "$GREENROOM_BRANCH" "$GREENROOM_COMMIT"
mkdir -p .git/info
git ls-files -z --others --exclude-standard --directory --no-empty-directory | tr '\n\000' '\001\n' \
  | head -n 4096 | sed -e 's/[][\\*?]/\\&/g' -e 's#^#/#' | tr '\001' '?' >> .git/info/exclude || true
git update-index -q --refresh || true
git status --porcelain > /dev/null || true
"#;

/// On another base than the host's root. Runs in `/`: there is no clone yet.
pub(super) const GIT: &str = r#"
mkdir -p /workspace
command -v git >/dev/null 2>&1 && exit 0
echo "git is not on this base; installing it"
if command -v apt-get >/dev/null 2>&1; then
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends git ca-certificates
elif command -v apk >/dev/null 2>&1; then
  apk add --no-cache git ca-certificates
elif command -v dnf >/dev/null 2>&1; then
  dnf install -y git
elif command -v microdnf >/dev/null 2>&1; then
  microdnf install -y git
else
  echo "git: not found"
  exit 127
fi
"#;

/// bash where there is one, for `pipefail`.
pub(super) const SHELL: &str =
    r#"if command -v bash >/dev/null 2>&1; then exec bash -eo pipefail -c "$1"; fi; exec sh -euc "$1""#;
