//! npm, yarn and pnpm: `.npmrc` and `npm_config_*`. Registries and how to talk to them; never `_auth`, `_authToken`,
//! `_password`, `username`, keys or certificates of a client.

use super::{NPMRC, RegistryInputs, RegistrySettings, is_plain_value, is_system_path};
use std::{collections::BTreeMap, fmt::Write};

const PLAIN_KEYS: &[&str] = &[
    "strict-ssl",
    "fetch-retries",
    "fetch-retry-factor",
    "fetch-retry-mintimeout",
    "fetch-retry-maxtimeout",
    "fetch-timeout",
    "maxsockets",
    "replace-registry-host",
    "omit-lockfile-registry-resolved",
    "fund",
    "audit",
    "update-notifier",
];
/// Directories of the base system, which stay readable inside.
const PATH_KEYS: &[&str] = &["nodedir"];

pub(super) fn add(inputs: &RegistryInputs, settings: &mut RegistrySettings) {
    let mut entries = BTreeMap::new();
    for line in inputs.npmrc.iter().flat_map(|text| text.lines()) {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some((key, value)) = line.split_once('=') {
            keep(key.trim(), value, &mut entries, settings);
        }
    }
    for (name, value) in &inputs.env {
        let lower = name.to_ascii_lowercase();
        if let Some(key) = lower.strip_prefix("npm_config_") {
            keep(&key.replace('_', "-"), value, &mut entries, settings);
        }
    }
    if entries.is_empty() {
        return;
    }
    let text = entries.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key}={value}");
        text
    });
    settings.files.push((NPMRC.into(), text.into_bytes()));
    settings.env.push(("NPM_CONFIG_GLOBALCONFIG".into(), NPMRC.into()));
}

fn keep(key: &str, value: &str, entries: &mut BTreeMap<String, String>, settings: &mut RegistrySettings) {
    let value = value.trim().trim_matches(['"', '\'']);
    let is_scope = key.starts_with('@')
        && key.strip_suffix(":registry").is_some_and(|scope| scope[1..].chars().all(is_scope_letter));
    let kept = if key == "registry" || is_scope {
        settings.mirror(value)
    } else if PATH_KEYS.contains(&key) {
        Some(value.to_owned()).filter(|value| is_system_path(value))
    } else {
        Some(value.to_owned()).filter(|value| PLAIN_KEYS.contains(&key) && is_plain_value(value))
    };
    if let Some(kept) = kept {
        entries.insert(key.to_owned(), kept);
    }
}

fn is_scope_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}
