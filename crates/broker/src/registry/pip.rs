//! pip and uv: `pip.conf`, `PIP_*` and `UV_*`. Indexes and how to talk to them.

use super::{PIP_CONF, RegistryInputs, RegistrySettings, is_plain_value, is_system_path};
use std::{collections::BTreeMap, fmt::Write};

const INDEX_KEYS: &[&str] = &["index-url", "extra-index-url"];
const PLAIN_KEYS: &[&str] =
    &["trusted-host", "timeout", "default-timeout", "retries", "disable-pip-version-check", "no-index"];
const UV_INDEXES: &[&str] = &["UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX"];

pub(super) fn add(inputs: &RegistryInputs, settings: &mut RegistrySettings) {
    let mut entries = BTreeMap::new();
    for text in &inputs.pip_conf {
        for (key, value) in read(text) {
            if let Some(kept) = keep(&key, &value, settings) {
                entries.insert(key, kept);
            }
        }
    }
    if !entries.is_empty() {
        let text = entries.iter().fold("[global]\n".to_owned(), |mut text, (key, value)| {
            let _ = writeln!(text, "{key} = {value}");
            text
        });
        settings.files.push((PIP_CONF.into(), text.into_bytes()));
    }
    for (name, value) in &inputs.env {
        let kept = match name.strip_prefix("PIP_") {
            Some(key) => keep(&key.to_ascii_lowercase().replace('_', "-"), value, settings),
            None if UV_INDEXES.contains(&name.as_str()) => Some(settings.mirrors(value)),
            None => None,
        };
        if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
            settings.env.push((name.clone(), kept));
        }
    }
}

fn keep(key: &str, value: &str, settings: &mut RegistrySettings) -> Option<String> {
    let value = value.trim();
    if INDEX_KEYS.contains(&key) {
        return Some(settings.mirrors(value)).filter(|kept| !kept.is_empty());
    }
    if key == "find-links" {
        // Directories of the base system stay readable inside.
        let parts = value.split_whitespace();
        let kept: Vec<String> = parts
            .filter_map(
                |part| if is_system_path(part) { Some(part.to_owned()) } else { settings.mirror(part) },
            )
            .collect();
        return Some(kept.join(" ")).filter(|kept| !kept.is_empty());
    }
    Some(value.to_owned()).filter(|value| PLAIN_KEYS.contains(&key) && is_plain_value(value))
}

/// Keys of `[global]` and `[install]`; indented lines go on with the value before.
fn read(text: &str) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut is_wanted = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = trimmed.strip_prefix('[') {
            is_wanted = matches!(section.trim_end_matches(']'), "global" | "install" | "download");
        } else if !is_wanted {
        } else if line.starts_with(char::is_whitespace) {
            if let Some((_, value)) = entries.last_mut() {
                value.push(' ');
                value.push_str(trimmed);
            }
        } else if let Some((key, value)) = trimmed.split_once(['=', ':']) {
            entries.push((key.trim().to_ascii_lowercase().replace('_', "-"), value.trim().to_owned()));
        }
    }
    entries
}
