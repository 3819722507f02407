//! cargo: source replacement and registries of `config.toml`, without tokens and credential providers, and mirrors of
//! rustup. Build settings (targets, linkers, flags) are the repository's business and stay out.

use super::{CARGO_CONFIG, RegistryInputs, RegistrySettings};
use toml::{Table, Value};

const HTTP_KEYS: &[&str] = &["timeout", "multiplexing", "check-revoke", "low-speed-limit", "ssl-version"];
const NET_KEYS: &[&str] = &["retry", "git-fetch-with-cli"];
const SOURCE_KEYS: &[&str] = &["replace-with", "directory", "local-registry", "branch", "tag", "rev"];
const URL_VARIABLES: &[&str] = &["RUSTUP_DIST_SERVER", "RUSTUP_UPDATE_ROOT"];

pub(super) fn add(inputs: &RegistryInputs, settings: &mut RegistrySettings) {
    let mut kept = Table::new();
    for text in &inputs.cargo_config {
        let Ok(config) = text.parse::<Table>() else { continue };
        add_sources(&config, &mut kept, settings);
        add_registries(&config, &mut kept, settings);
        add_plain(&config, "http", HTTP_KEYS, &mut kept);
        add_plain(&config, "net", NET_KEYS, &mut kept);
        add_plain(&config, "registry", &["default"], &mut kept);
    }
    if !kept.is_empty() {
        settings.files.push((CARGO_CONFIG.into(), kept.to_string().into_bytes()));
    }
    for (name, value) in &inputs.env {
        let is_index = name.starts_with("CARGO_REGISTRIES_") && name.ends_with("_INDEX");
        if is_index || URL_VARIABLES.contains(&name.as_str()) {
            let clean = settings.mirror(value);
            settings.env.extend(clean.map(|clean| (name.clone(), clean)));
        }
    }
}

fn add_sources(config: &Table, kept: &mut Table, settings: &mut RegistrySettings) {
    for (name, source) in tables(config, "source") {
        let mut clean = Table::new();
        for (key, value) in source {
            let Some(text) = value.as_str() else { continue };
            let text = match key.as_str() {
                "registry" | "git" => settings.mirror(text),
                key => Some(text.to_owned()).filter(|_| SOURCE_KEYS.contains(&key)),
            };
            clean.extend(text.map(|text| (key.clone(), Value::String(text))));
        }
        put(kept, "source", name, clean);
    }
}

fn add_registries(config: &Table, kept: &mut Table, settings: &mut RegistrySettings) {
    for (name, registry) in tables(config, "registries") {
        let index = registry.get("index").and_then(Value::as_str).and_then(|text| settings.mirror(text));
        if let Some(index) = index {
            put(kept, "registries", name, Table::from_iter([("index".to_owned(), Value::String(index))]));
        }
    }
}

fn add_plain(config: &Table, section: &str, keys: &[&str], kept: &mut Table) {
    let Some(Value::Table(found)) = config.get(section) else { return };
    let is_plain = |value: &Value| match value {
        Value::String(text) => super::is_plain_value(text),
        other => other.is_bool() || other.is_integer(),
    };
    for (key, value) in found.iter().filter(|(key, value)| keys.contains(&key.as_str()) && is_plain(value)) {
        let table = kept.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(table) = table {
            table.insert(key.clone(), value.clone());
        }
    }
}

pub(super) fn tables<'a>(config: &'a Table, section: &str) -> impl Iterator<Item = (&'a String, &'a Table)> {
    let found = config.get(section).and_then(Value::as_table).into_iter().flatten();
    found.filter_map(|(name, value)| Some((name, value.as_table()?)))
}

fn put(kept: &mut Table, section: &str, name: &str, table: Table) {
    let of_section = kept.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(of_section) = of_section
        && !table.is_empty()
    {
        of_section.insert(name.to_owned(), Value::Table(table));
    }
}
