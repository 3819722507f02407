//! The rules for each single value of a recipe. A complaint is a sentence without its full stop.

use super::text::shorten;
use super::{RecipeBase, limit};

type Verdict = Result<(), String>;

/// Names that the build gives to its own parts.
const RESERVED: [&str; 4] = ["base", "checks", "clone", "finish"];

pub(crate) fn name(name: &str) -> Verdict {
    if name.trim().is_empty()
        || name.chars().count() > limit::NAME_CHARS
        || name.chars().any(char::is_control)
    {
        return Err(format!("a name must have 1 to {} printable characters", limit::NAME_CHARS));
    }
    if RESERVED.contains(&name) {
        return Err(format!("the name {name:?} is kept for the build's own part"));
    }
    Ok(())
}

pub(crate) fn run(run: &str) -> Verdict {
    if run.trim().is_empty() {
        return Err("`run` is empty".into());
    }
    if run.len() > limit::RUN_BYTES {
        return Err(format!("`run` is longer than {} KiB; put it into a script", limit::RUN_BYTES / 1024));
    }
    no_nul("`run`", run)
}

pub(super) fn input(pattern: &str) -> Verdict {
    let told = shorten(pattern);
    if pattern.is_empty() || pattern.chars().count() > limit::INPUT_CHARS {
        return Err(format!("an input must have 1 to {} characters", limit::INPUT_CHARS));
    }
    if pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
        return Err(format!("the input {told:?} must be a path inside the repository"));
    }
    glob(pattern).map(drop).map_err(|_| format!("the input {told:?} is not a valid glob"))
}

/// `*` stays within a directory, `**` does not.
pub(crate) fn glob(pattern: &str) -> Result<globset::GlobMatcher, globset::Error> {
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    Ok(globset::GlobBuilder::new(pattern).literal_separator(true).build()?.compile_matcher())
}

pub(crate) fn variable(name: &str, value: &str) -> Verdict {
    let told = shorten(name);
    let first_is_letter = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let rest_is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !first_is_letter || !rest_is_word || name.len() > limit::NAME_CHARS {
        return Err(format!("{told:?} is not a name for an environment variable"));
    }
    if name.starts_with("GREENROOM_") {
        return Err(format!("{told} cannot be set: names with GREENROOM_ are the platform's own"));
    }
    if value.len() > limit::ENV_VALUE_BYTES {
        return Err(format!("the value of {told} is longer than {} KiB", limit::ENV_VALUE_BYTES / 1024));
    }
    no_nul(&told, value)
}

pub(super) fn egress(entry: &str) -> Verdict {
    let told = shorten(entry);
    let (host, port) = match entry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (entry, None),
    };
    if port.is_some_and(|port| !is_port(port)) {
        return Err(format!("the port of {told:?} must be a number between 1 and 65535"));
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    if is_host_name(name) {
        return Ok(());
    }
    Err(format!("{told:?} is not a host name such as \"registry.example.com\" or \"*.example.org:8443\""))
}

/// A name under which an admin declared a secret.
pub(super) fn secret(name: &str) -> Verdict {
    let is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if is_word && (1..=limit::NAME_CHARS).contains(&name.len()) {
        return Ok(());
    }
    Err(format!("{:?} is not the name of a secret", shorten(name)))
}

pub(crate) fn base(text: &str) -> Result<RecipeBase, String> {
    let told = shorten(text);
    let of = |allowed: &[u8], value: &str| {
        let is_start = value.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || allowed.contains(&b);
        is_start && value.len() <= limit::BASE_CHARS && value.bytes().all(is_plain)
    };
    match text.split_once(':') {
        None if text == "host" => Ok(RecipeBase::Host),
        Some(("oci", reference)) if of(b"._-/:@", reference) && !reference.contains("..") => {
            Ok(RecipeBase::Oci { reference: reference.to_owned() })
        }
        Some(("archive", file)) if of(b"._-", file) => Ok(RecipeBase::Archive { file: file.to_owned() }),
        Some(("mmdebstrap", suite)) if of(b".-", suite) && suite.len() <= 32 => {
            Ok(RecipeBase::Debian { suite: suite.to_owned() })
        }
        _ => Err(format!(
            "the base {told:?} is none of \"host\", \"oci:IMAGE\", \"archive:FILE\", \"mmdebstrap:SUITE\""
        )),
    }
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// By name only: an address would bypass the check of names, so a last label of digits is refused.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last_is_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && !last_is_number && name.split('.').all(label)
}

fn no_nul(what: &str, text: &str) -> Verdict {
    if text.contains('\0') { Err(format!("{what} holds a NUL character")) } else { Ok(()) }
}
