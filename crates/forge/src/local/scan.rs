//! Looks for secrets in what a push brings, while it is still in quarantine: tokens that are known by their form, and what
//! this installation keeps secret itself. Names file and line, never the secret.
//!
//! New blobs, commits and tags are read once. Of a larger file only the beginning is; a push with more than can be read in
//! time is refused. A line that holds the marker is let pass, unless it holds a secret of the installation.

use super::{
    policy::Refusal,
    receive::{Failure, Quarantine},
};
use crate::{Error, Result};
use aho_corasick::AhoCorasick;
use regex::bytes::{Regex, RegexSet};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, PoisonError, RwLock},
    time::Duration,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// On the line of something that only looks like a secret.
pub(crate) const MARKER: &str = "greenroom:allow-secret";
/// Of one file.
const LARGEST: u64 = 8 * 1024 * 1024;
const LONGEST_LIST: usize = 128 * 1024 * 1024;
const MOST_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(120);
/// Looked through at a time, outside of the async threads.
const BATCH: usize = 4 * 1024 * 1024;
/// Shorter ones would be found everywhere by chance.
const SHORTEST_KNOWN: usize = 8;

/// What it looks like, and how it is told. `\b` and classes are those of ASCII.
const FORMS: &[(&str, &str)] = &[
    ("an AWS access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("a GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_[A-Za-z0-9_]{60,}"),
    ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("a Slack token", r"\bxox[abeoprs]-[0-9A-Za-z-]{20,}"),
    ("a Slack webhook", r"https://hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,}"),
    (
        "a private key",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\n|\\r)+[A-Za-z0-9+/=:. ,-]{16,}",
    ),
    ("an Anthropic key", r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    ("an OpenAI key", r"\bsk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,}"),
    ("a Google key", r"\bAIza[0-9A-Za-z_-]{35}\b"),
    ("a Stripe key", r"\b[sr]k_live_[0-9A-Za-z]{20,}"),
    ("an npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("a PyPI token", r"\bpypi-[A-Za-z0-9_-]{80,}"),
    ("a Hugging Face token", r"\bhf_[A-Za-z0-9]{34,}\b"),
    ("a SendGrid key", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    ("a token of this server", r"\bgr[tl]_[A-Za-z0-9_-]{40,}"),
];
/// How documentation writes its examples.
const EXAMPLES: &[&[u8]] = &[b"EXAMPLE"];

struct Forms {
    any: RegexSet,
    each: Vec<Regex>,
}

static COMPILED: LazyLock<Forms> = LazyLock::new(|| {
    let patterns: Vec<String> = FORMS.iter().map(|(_, pattern)| format!("(?-u){pattern}")).collect();
    Forms {
        any: RegexSet::new(&patterns).expect("patterns of our own"),
        each: patterns.iter().map(|pattern| Regex::new(pattern).expect("a pattern of our own")).collect(),
    }
});

/// What the installation keeps secret. Nothing prints it.
#[derive(Default)]
pub(crate) struct KnownSecrets(RwLock<Option<Arc<AhoCorasick>>>);

impl fmt::Debug for KnownSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownSecrets(…)")
    }
}

impl KnownSecrets {
    pub(crate) fn set(&self, mut secrets: Vec<Vec<u8>>) {
        secrets.retain(|secret| secret.len() >= SHORTEST_KNOWN);
        secrets.sort();
        secrets.dedup();
        let built = if secrets.is_empty() { None } else { AhoCorasick::new(&secrets).ok() };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = built.map(Arc::new);
    }

    fn get(&self) -> Option<Arc<AhoCorasick>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Finding {
    place: String,
    line: usize,
    what: &'static str,
    is_known: bool,
}

/// `tips`: lines of commit names for git's standard input.
pub(crate) async fn check(
    quarantine: &Quarantine,
    tips: String,
    known: &KnownSecrets,
) -> Result<(), Failure> {
    let slow = || {
        Refusal::new("the push is too large to be looked through for secrets in time")
            .hint("Push it in parts.")
    };
    let Some(names) = new_objects(quarantine, tips).await? else { return Err(slow().into()) };
    let scan = read_all(quarantine, &names, known.get());
    match tokio::time::timeout(DEADLINE, scan).await {
        Err(_) => Err(slow().into()),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(Outcome::TooLarge)) => Err(slow().into()),
        Ok(Ok(Outcome::Found(finding))) => Err(refusal(&finding).into()),
        Ok(Ok(Outcome::Clean)) => Ok(()),
    }
}

/// Hash and path of each; commits have none. `None`: too many.
async fn new_objects(quarantine: &Quarantine, tips: String) -> Result<Option<HashMap<String, String>>> {
    let list = ["rev-list", "--objects", "--stdin", "--not", "--all"];
    let output = quarantine.git().args(list).stdin(tips).stdout_limit(LONGEST_LIST).run().await?;
    if output.is_truncated || !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let split = |line: &str| match line.split_once(' ') {
        Some((hash, path)) => (hash.to_owned(), path.to_owned()),
        None => (line.to_owned(), String::new()),
    };
    Ok(Some(text.lines().map(split).collect()))
}

enum Outcome {
    Clean,
    Found(Finding),
    TooLarge,
}

async fn read_all(
    quarantine: &Quarantine,
    names: &HashMap<String, String>,
    known: Option<Arc<AhoCorasick>>,
) -> Result<Outcome> {
    let mut git = quarantine.git().args(["cat-file", "--batch", "--buffer"]);
    let mut running = git.spawn()?;
    let (mut stdin, stdout, _stderr) = running.pipes();
    let hashes: String = names.keys().map(|hash| format!("{hash}\n")).collect();
    let feed = tokio::spawn(async move {
        let _ = stdin.write_all(hashes.as_bytes()).await;
    });
    let outcome = read_objects(BufReader::with_capacity(256 * 1024, stdout), names, known).await;
    feed.abort();
    outcome.map_err(|source| Error::Io { operation: "reading", path: "a push".into(), source })
}

async fn read_objects(
    mut objects: impl AsyncBufReadExt + Unpin,
    names: &HashMap<String, String>,
    known: Option<Arc<AhoCorasick>>,
) -> std::io::Result<Outcome> {
    let (mut batch, mut batched, mut total) = (Vec::new(), 0, 0u64);
    let mut head = String::new();
    loop {
        head.clear();
        if objects.read_line(&mut head).await? == 0 {
            return Ok(look(batch, known).await.map_or(Outcome::Clean, Outcome::Found));
        }
        let mut words = head.split_ascii_whitespace();
        let (hash, kind, size) = (words.next().unwrap_or_default(), words.next(), words.next());
        let Some(size) = size.and_then(|size| size.parse::<u64>().ok()) else { continue };
        let taken = if kind == Some("tree") { 0 } else { size.min(LARGEST) };
        let mut content = Vec::new();
        (&mut objects).take(taken).read_to_end(&mut content).await?;
        tokio::io::copy(&mut (&mut objects).take(size - taken + 1), &mut tokio::io::sink()).await?;
        total += taken;
        if total > MOST_BYTES {
            return Ok(Outcome::TooLarge);
        }
        batched += content.len();
        batch.push((place(hash, names), content));
        if batched >= BATCH {
            if let Some(finding) = look(std::mem::take(&mut batch), known.clone()).await {
                return Ok(Outcome::Found(finding));
            }
            batched = 0;
        }
    }
}

fn place(hash: &str, names: &HashMap<String, String>) -> String {
    match names.get(hash).filter(|path| !path.is_empty()) {
        Some(path) => path.clone(),
        None => format!("the message of commit {}", hash.get(..10).unwrap_or(hash)),
    }
}

async fn look(batch: Vec<(String, Vec<u8>)>, known: Option<Arc<AhoCorasick>>) -> Option<Finding> {
    let work = move || batch.iter().find_map(|(place, content)| find(place, content, known.as_deref()));
    tokio::task::spawn_blocking(work).await.ok().flatten()
}

fn find(place: &str, content: &[u8], known: Option<&AhoCorasick>) -> Option<Finding> {
    let finding = |at: usize, what, is_known| Finding {
        place: place.to_owned(),
        line: 1 + content[..at].iter().filter(|byte| **byte == b'\n').count(),
        what,
        is_known,
    };
    if let Some(found) = known.and_then(|known| known.find(content)) {
        return Some(finding(found.start(), "a secret of this installation", true));
    }
    for form in COMPILED.any.matches(content) {
        let mut found = COMPILED.each[form].find_iter(content);
        let is_meant = |found: &regex::bytes::Match<'_>| {
            !EXAMPLES.iter().any(|example| found.as_bytes().ends_with(example))
                && !contains(line_of(content, found.start()), MARKER.as_bytes())
        };
        if let Some(found) = found.find(is_meant) {
            return Some(finding(found.start(), FORMS[form].0, false));
        }
    }
    None
}

fn line_of(content: &[u8], at: usize) -> &[u8] {
    let from = content[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1);
    let to = content[at..].iter().position(|byte| *byte == b'\n').map_or(content.len(), |after| at + after);
    &content[from..to]
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn refusal(finding: &Finding) -> Refusal {
    let Finding { place, line, what, is_known } = finding;
    let verb = if *is_known { "holds" } else { "looks like" };
    let refusal = Refusal::new(format!("{place}:{line} {verb} {what}"));
    let remedy = "Take it out of every commit that is pushed (git rebase -i), and make it invalid where it was issued.";
    match is_known {
        true => refusal.hint(remedy),
        false => refusal.hint(format!("{remedy}\nIf it is no secret, write {MARKER} on its line.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(text: &str) -> Option<(&'static str, usize)> {
        find("f", text.as_bytes(), None).map(|finding| (finding.what, finding.line))
    }

    #[test]
    fn well_known_tokens_are_found_with_their_line() {
        let letters = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";
        let cases = [
            (format!("x\nkey = AKIA{}\n", "ABCDEFGH12345678"), "an AWS access key"),
            (format!("x\nghp_{letters}"), "a GitHub token"),
            (format!("x\nxoxb-{letters}"), "a Slack token"),
            (format!("x\n-----BEGIN {}PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0", "RSA "), "a private key"),
            (format!("x\n\"-----BEGIN {}KEY-----\\nMIIEvQIBADANBgkqhkiG9w0\"", "PRIVATE "), "a private key"),
            (format!("x\nsk-ant-{letters}"), "an Anthropic key"),
            (format!("x\ngrt_{letters}AAAAAAA"), "a token of this server"),
            (format!("x\ngrl_{letters}AAAAAAA"), "a token of this server"),
        ];
        for (text, expected) in cases {
            assert_eq!(what(&text), Some((expected, 2)), "{text}");
        }
    }

    #[test]
    fn words_examples_and_marked_lines_pass() {
        let marked = format!("token = ghp_{} # {MARKER}\n", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        for text in [
            "AKIAIOSFODNN7EXAMPLE",
            "-----BEGIN PRIVATE KEY-----",
            "starts with ghp_ or xoxb- or sk-ant-…",
            "task-ant-hill-with-a-very-long-name-indeed",
            &marked,
        ] {
            assert_eq!(what(text), None, "{text}");
        }
        let second = format!("{marked}ghp_{}", "z1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        assert_eq!(what(&second), Some(("a GitHub token", 2)));
    }

    #[test]
    fn the_installations_own_secrets_are_found_even_on_a_marked_line() {
        let known = KnownSecrets::default();
        known.set(vec![b"short".to_vec(), b"our-own-secret".to_vec()]);
        let text = format!("short\n\nx our-own-secret {MARKER}");
        let finding = find("f", text.as_bytes(), known.get().as_deref()).unwrap();
        assert_eq!((finding.line, finding.is_known), (3, true));
        let refusal = format!("{:?} {known:?}", refusal(&finding));
        assert!(!refusal.contains("our-own-secret"), "{refusal}");
    }
}
