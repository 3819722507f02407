//! apt: sources in both of their formats and the settings of retries; proxies are the broker's business. Rewritten at the
//! paths that they have on the host, because a sandbox over the host's root would otherwise read the originals.

use super::{RegistryInputs, RegistrySettings};

const PLAIN_OPTIONS: &[&str] = &["acquire::retries", "acquire::check-valid-until", "acquire::forceipv4"];

pub(super) fn add(inputs: &RegistryInputs, settings: &mut RegistrySettings) {
    for (path, text) in inputs.apt.iter().filter(|(path, _)| is_read_by_apt(path)) {
        let is_options = path.contains("/apt.conf");
        let cleaned = match is_options {
            true => options(text),
            false => sources(text, settings),
        };
        // What holds nothing of ours and had nothing to hide stays as the base has it.
        if !is_options || holds_urls(text) {
            settings.files.push((path.clone(), cleaned.into_bytes()));
        }
    }
}

/// Word by word: everything with `://` in it is a URL that is cleaned, or the whole line goes.
fn sources(text: &str, settings: &mut RegistrySettings) -> String {
    // A comment's line goes as a whole: an empty one would end its stanza.
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let lines = lines.map(|line| line.split('#').next().unwrap_or_default().trim_end());
    let cleaned = lines.filter_map(|line| {
        // Keys that lie in the file itself, and continuation lines, are kept as they are.
        let words = line.split(' ').map(|word| match word.contains("://") {
            true => mirror(word, settings),
            false => Some(word.to_owned()),
        });
        words.collect::<Option<Vec<String>>>().map(|words| words.join(" "))
    });
    cleaned.fold(String::new(), |text, line| text + &line + "\n")
}

/// `URIs:http://…` without a space is allowed too, as are transports such as `mirror+http://`.
fn mirror(word: &str, settings: &mut RegistrySettings) -> Option<String> {
    let (key, rest) = match word.strip_prefix("URIs:") {
        Some(rest) => ("URIs:", rest),
        None => ("", word),
    };
    let (transport, rest) = match rest.split_once('+') {
        Some((transport @ ("mirror" | "tor"), rest)) => (format!("{transport}+"), rest),
        _ => (String::new(), rest),
    };
    settings.mirror(rest).map(|clean| format!("{key}{transport}{clean}"))
}

/// Single-line options of the list. Others (hooks, proxies, certificates of a client) are left out.
fn options(text: &str) -> String {
    let is_plain = |line: &&str| {
        let name = line.split([' ', '\t']).next().unwrap_or_default().to_ascii_lowercase();
        PLAIN_OPTIONS.contains(&name.as_str()) && line.ends_with(';') && !line.contains("://")
    };
    let kept = text.lines().map(str::trim).filter(is_plain);
    kept.fold(String::new(), |text, line| text + line + "\n")
}

/// Comments aside.
fn holds_urls(text: &str) -> bool {
    let mut lines = text.lines().map(|line| line.trim().to_ascii_lowercase());
    let words = ["://", "proxy", "login", "password", "sslkey"];
    lines.any(|line| !line.starts_with(['#', '/']) && words.iter().any(|word| line.contains(word)))
}

fn is_read_by_apt(path: &str) -> bool {
    !path.contains("/sources.list.d/") || path.ends_with(".list") || path.ends_with(".sources")
}
