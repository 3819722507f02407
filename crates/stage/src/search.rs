//! The `search` role: finds files by glob or lines by regular expression in a tree that may be hostile. Runs as an
//! ordinary bounded run of stage, so that PID 1 parses neither patterns nor trees. Reads its plan from standard input;
//! writes `matches truncated` on the first line, then the text. Exit code 2: the plan is wrong, the text says how.

use globset::{GlobBuilder, GlobMatcher};
use greenroom_stage::protocol::{SEARCH_BYTES, SearchPlan};
use grep_regex::RegexMatcherBuilder;
use grep_searcher::{
    BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkContextKind, SinkMatch,
};
use ignore::{DirEntry, WalkBuilder};
use std::io::{Read, Write};
use std::path::Path;
use std::time::SystemTime;

const MAX_LINE: usize = 600;
const MAX_CONTEXT: u64 = 20;
const MAX_CANDIDATES: usize = 200_000;

pub(crate) fn main() -> i32 {
    let mut text = Vec::new();
    if std::io::stdin().take(SEARCH_BYTES).read_to_end(&mut text).is_err() {
        return 1;
    }
    let Ok(plan) = serde_json::from_slice::<SearchPlan>(&text) else { return 1 };
    let (text, code) = match search(&plan) {
        Ok(found) => (format!("{} {}\n{}", found.matches, found.is_truncated, found.text), 0),
        Err(reason) => (reason, 2),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => 1,
    }
}

#[derive(Default)]
struct Found {
    text: String,
    matches: u64,
    limit: u64,
    is_truncated: bool,
}

impl Found {
    /// False when no more fits.
    fn add(&mut self, line: &str, is_match: bool) -> bool {
        let is_full = self.text.len() + line.len() + 1 > SEARCH_BYTES as usize - 64;
        if is_full || (is_match && self.matches == self.limit) {
            self.is_truncated = true;
            return false;
        }
        self.text.push_str(line);
        self.text.push('\n');
        self.matches += u64::from(is_match);
        true
    }
}

fn search(plan: &SearchPlan) -> Result<Found, String> {
    match plan {
        SearchPlan::Glob { root, pattern, limit } => glob(root, pattern, *limit),
        SearchPlan::Grep { .. } => grep(plan),
    }
}

fn walk(root: &str) -> Result<impl Iterator<Item = DirEntry>, String> {
    if std::fs::symlink_metadata(root).is_err() {
        return Err(format!("no such directory: {root}"));
    }
    let walk = WalkBuilder::new(root)
        .hidden(false)
        .require_git(false)
        .follow_links(false)
        .sort_by_file_path(Path::cmp)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let is_file = |entry: &DirEntry| entry.file_type().is_some_and(|kind| kind.is_file());
    Ok(walk.filter_map(Result::ok).filter(is_file))
}

/// A pattern without a slash matches the name anywhere, as people expect.
fn matcher(pattern: &str) -> Result<GlobMatcher, String> {
    let anywhere = if pattern.contains('/') { pattern.to_owned() } else { format!("**/{pattern}") };
    let glob = GlobBuilder::new(&anywhere).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| format!("bad glob {pattern:?}: {error}"))
}

fn is_under(matcher: &GlobMatcher, root: &str, path: &Path) -> bool {
    matcher.is_match(path.strip_prefix(root).unwrap_or(path)) || matcher.is_match(path)
}

fn glob(root: &str, pattern: &str, limit: u64) -> Result<Found, String> {
    let matcher = matcher(pattern)?;
    let mut files: Vec<(SystemTime, DirEntry)> = walk(root)?
        .filter(|entry| is_under(&matcher, root, entry.path()))
        .take(MAX_CANDIDATES)
        .map(|entry| (modified(&entry), entry))
        .collect();
    files.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.path().cmp(b.1.path())));
    let mut found = Found { limit, ..Found::default() };
    for (_, entry) in &files {
        if !found.add(&entry.path().to_string_lossy(), true) {
            break;
        }
    }
    Ok(found)
}

fn modified(entry: &DirEntry) -> SystemTime {
    entry.metadata().ok().and_then(|facts| facts.modified().ok()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn grep(plan: &SearchPlan) -> Result<Found, String> {
    let SearchPlan::Grep { root, pattern, include, is_case_insensitive, context_lines, limit } = plan else {
        return Err("not a grep".into());
    };
    let regex = RegexMatcherBuilder::new()
        .case_insensitive(*is_case_insensitive)
        .line_terminator(Some(b'\n'))
        .build(pattern)
        .map_err(|error| format!("bad regular expression {pattern:?}: {error}"))?;
    let include = include.as_deref().map(matcher).transpose()?;
    let context = (*context_lines).min(MAX_CONTEXT) as usize;
    let mut searcher = SearcherBuilder::new()
        .line_number(true)
        .before_context(context)
        .after_context(context)
        .binary_detection(BinaryDetection::quit(0))
        .build();
    let mut found = Found { limit: *limit, ..Found::default() };
    for entry in walk(root)? {
        if include.as_ref().is_some_and(|include| !is_under(include, root, entry.path())) {
            continue;
        }
        let mut lines = Lines { path: entry.path(), found: &mut found };
        // A file that cannot be read is as good as one without matches.
        let _ = searcher.search_path(&regex, entry.path(), &mut lines);
        if found.is_truncated {
            break;
        }
    }
    Ok(found)
}

struct Lines<'a> {
    path: &'a Path,
    found: &'a mut Found,
}

impl Lines<'_> {
    fn add(&mut self, number: Option<u64>, bytes: &[u8], is_match: bool) -> bool {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        let end = text.char_indices().nth(MAX_LINE).map_or(text.len(), |(at, _)| at);
        let mark = if is_match { ':' } else { '-' };
        let line = format!("{}{mark}{}{mark}{}", self.path.display(), number.unwrap_or(0), &text[..end]);
        self.found.add(&line, is_match)
    }
}

impl Sink for Lines<'_> {
    type Error = std::io::Error;

    fn matched(&mut self, _: &Searcher, line: &SinkMatch<'_>) -> Result<bool, Self::Error> {
        Ok(self.add(line.line_number(), line.bytes(), true))
    }

    fn context(&mut self, _: &Searcher, line: &SinkContext<'_>) -> Result<bool, Self::Error> {
        match line.kind() {
            SinkContextKind::Other => Ok(true),
            _ => Ok(self.add(line.line_number(), line.bytes(), false)),
        }
    }
}
