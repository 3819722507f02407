//! What registries ask for, read from the same places as their settings: user and password in URLs, npm's `_authToken`,
//! `_auth` and `_password`, cargo's tokens, apt's `auth.conf`, `.netrc` for hosts that are mirrors. Each becomes an
//! injection for exactly the host, port, protocol and path it was configured for.

use super::{RegistryInputs, RegistrySettings};
use crate::{
    host::Host,
    inject::{Inject, Injection, InjectionTarget, PLACEHOLDER_PREFIX, SecretText},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use toml::{Table, Value};
use url::Url;

/// What a client sends that refuses to ask without a token of its own (cargo).
const TOKEN_PLACEHOLDER: &str = "greenroom-placeholder-registry";
const MOST: usize = 200;

pub(super) fn add(inputs: &RegistryInputs, settings: &mut RegistrySettings) {
    let mut found = Found::default();
    in_urls(inputs, &mut found);
    of_npm(inputs, &mut found);
    of_cargo(inputs, settings, &mut found);
    of_apt(inputs, &mut found);
    of_netrc(inputs, settings, &mut found);
    settings.credentials = found.injections;
}

#[derive(Default)]
struct Found {
    injections: Vec<Arc<Injection>>,
}

impl Found {
    /// The first for a target wins. `https` targets end TLS; `http` ones were configured in plain text.
    fn push(&mut self, url: &Url, how: Inject, value: &str) {
        let Some(target) = target(url) else { return };
        let is_known = self.injections.iter().any(|one| one.targets().contains(&target));
        if is_known || value.is_empty() || self.injections.len() >= MOST {
            return;
        }
        let name = format!("registry/{target}");
        let value = SecretText::new(value);
        let made = Injection::new(name, vec![target], how, TOKEN_PLACEHOLDER, value);
        self.injections.extend(made.map(Arc::new));
    }

    fn basic(&mut self, url: &Url, user: &str, password: &str) {
        self.push(url, Inject::Basic { user: user.to_owned() }, password);
    }
}

fn target(url: &Url) -> Option<InjectionTarget> {
    let is_tls = match url.scheme() {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let path = url.path().trim_end_matches('/').to_owned();
    Some(InjectionTarget {
        host: Host::parse(url.host_str()?)?,
        port: url.port_or_known_default()?,
        is_tls,
        path,
    })
}

/// Any URL of a setting or variable that carries a user.
fn in_urls(inputs: &RegistryInputs, found: &mut Found) {
    let is_setting = |name: &str| {
        let upper = name.to_ascii_uppercase();
        ["NPM_CONFIG_", "PIP_", "UV_", "CARGO_REGISTRIES_", "RUSTUP_", "GOPROXY"]
            .iter()
            .any(|prefix| upper.starts_with(prefix))
            && !upper.contains("PROXY_")
            && (upper == "GOPROXY" || !upper.ends_with("PROXY"))
    };
    let variables = inputs.env.iter().filter(|(name, _)| is_setting(name)).map(|(_, value)| value.as_str());
    let files = inputs.npmrc.iter().chain(&inputs.pip_conf).chain(&inputs.cargo_config);
    let apt = inputs.apt.iter().map(|(_, text)| text);
    for line in variables.chain(files.chain(apt).flat_map(|text| text.lines())) {
        let line = line.trim();
        let key = line.split_once('=').map_or("", |(key, _)| key).trim().to_ascii_lowercase();
        if line.starts_with(['#', ';'])
            || key.ends_with("proxy")
            || line.to_ascii_lowercase().contains("::proxy")
        {
            continue;
        }
        for word in line.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '|' | '=')) {
            let Some(from) = word.find("http://").or_else(|| word.find("https://")) else { continue };
            let Ok(url) = Url::parse(&word[from..]) else { continue };
            if url.username().is_empty() && url.password().is_none() {
                continue;
            }
            match (decoded(url.username()), url.password().map(decoded).filter(|text| !text.is_empty())) {
                (user, Some(password)) => found.basic(&url, &user, &password),
                (user, None) => found.push(&url, Inject::BasicUser, &user),
            }
        }
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[derive(Default)]
struct NpmAuth {
    token: Option<String>,
    auth: Option<String>,
    user: Option<String>,
    password: Option<String>,
}

/// `//host/path/:_authToken=…` and its like; a bare `_authToken` is of the default registry.
fn of_npm(inputs: &RegistryInputs, found: &mut Found) {
    let mut entries: BTreeMap<String, String> = BTreeMap::new();
    for line in inputs.npmrc.iter().flat_map(|text| text.lines()) {
        if let Some((key, value)) =
            line.trim().split_once('=').filter(|(key, _)| !key.starts_with(['#', ';']))
        {
            entries.insert(key.trim().to_owned(), value.to_owned());
        }
    }
    for (name, value) in &inputs.env {
        let is_npm = name.get(..11).is_some_and(|head| head.eq_ignore_ascii_case("npm_config_"));
        if is_npm {
            entries.insert(name[11..].to_owned(), value.clone());
        }
    }
    let mut registries: BTreeMap<String, NpmAuth> = BTreeMap::new();
    for (key, value) in &entries {
        let (registry, field) = match key.rsplit_once(':') {
            Some((registry, field)) if registry.starts_with("//") => (registry.to_owned(), field),
            _ => (String::new(), key.as_str()),
        };
        let value = expanded(value.trim().trim_matches(['"', '\'']), &inputs.env);
        let auth = registries.entry(registry).or_default();
        match field.to_ascii_lowercase().as_str() {
            "_authtoken" => auth.token = Some(value),
            "_auth" => auth.auth = Some(value),
            "username" => auth.user = Some(value),
            "_password" => {
                auth.password = BASE64_STANDARD.decode(value).ok().and_then(|v| String::from_utf8(v).ok());
            }
            _ => {}
        }
    }
    let schemes = npm_schemes(&entries);
    for (registry, auth) in registries {
        let default = || entries.get("registry").map_or("https://registry.npmjs.org/", |value| value.trim());
        let text = match registry.as_str() {
            "" => default().trim_matches(['"', '\'']).to_owned(),
            registry => {
                let host = registry.trim_start_matches('/').split('/').next().unwrap_or_default();
                format!("{}:{registry}", schemes.get(host).map_or("https", String::as_str))
            }
        };
        let Ok(url) = Url::parse(&text) else { continue };
        let pair = auth.auth.and_then(|auth| String::from_utf8(BASE64_STANDARD.decode(auth).ok()?).ok());
        if let Some(token) = auth.token {
            found.push(&url, Inject::Bearer, &token);
        } else if let Some((user, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) {
            found.basic(&url, user, password);
        } else if let (Some(user), Some(password)) = (auth.user, auth.password) {
            found.basic(&url, &user, &password);
        }
    }
}

/// npm leaves the protocol out of its keys: it is that of the registry with the same host.
fn npm_schemes(entries: &BTreeMap<String, String>) -> HashMap<String, String> {
    let is_registry = |key: &str| key == "registry" || key.ends_with(":registry") || key == "REGISTRY";
    let urls = entries.iter().filter(|(key, _)| is_registry(key)).filter_map(|(_, value)| {
        let url = Url::parse(value.trim().trim_matches(['"', '\''])).ok()?;
        let authority = url.port().map_or_else(
            || url.host_str().unwrap_or_default().to_owned(),
            |port| format!("{}:{port}", url.host_str().unwrap_or_default()),
        );
        Some((authority, url.scheme().to_owned()))
    });
    urls.collect()
}

/// `${NAME}`, as npm writes it.
fn expanded(text: &str, env: &BTreeMap<String, String>) -> String {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    match name {
        Some(name) => env.get(name.trim_end_matches('?')).cloned().unwrap_or_default(),
        None => text.to_owned(),
    }
}

/// cargo sends a token as it is, and only when it has one: sandboxes get a placeholder for each.
fn of_cargo(inputs: &RegistryInputs, settings: &mut RegistrySettings, found: &mut Found) {
    let tables = inputs.cargo_config.iter().chain(&inputs.cargo_credentials);
    let tables: Vec<Table> = tables.filter_map(|text| text.parse().ok()).collect();
    let mut names: BTreeMap<String, (Option<String>, Option<String>)> = BTreeMap::new();
    for (name, registry) in tables.iter().flat_map(|table| super::cargo::tables(table, "registries")) {
        let entry = names.entry(name.clone()).or_default();
        let text = |key: &str| registry.get(key).and_then(Value::as_str).map(str::to_owned);
        entry.0 = text("index").or_else(|| entry.0.take());
        entry.1 = text("token").or_else(|| entry.1.take());
    }
    for (name, (index, token)) in names {
        let upper = name.to_ascii_uppercase().replace('-', "_");
        let of_env = |what: &str| inputs.env.get(&format!("CARGO_REGISTRIES_{upper}_{what}")).cloned();
        let (Some(index), Some(token)) = (of_env("INDEX").or(index), of_env("TOKEN").or(token)) else {
            continue;
        };
        let text = index.trim_start_matches("sparse+").trim_start_matches("registry+");
        let Ok(mut url) = Url::parse(text) else { continue };
        // Downloads and publishing have paths of their own on the same host.
        url.set_path("");
        found.push(&url, Inject::Header { name: http::header::AUTHORIZATION }, &token);
        debug_assert!(TOKEN_PLACEHOLDER.starts_with(PLACEHOLDER_PREFIX));
        settings.env.push((format!("CARGO_REGISTRIES_{upper}_TOKEN"), TOKEN_PLACEHOLDER.to_owned()));
    }
}

/// `machine [http[s]://]host[:port][/path] login USER password PASSWORD`; https unless it says otherwise.
fn of_apt(inputs: &RegistryInputs, found: &mut Found) {
    for (machine, user, password) in inputs.apt_auth.iter().flat_map(|text| machines(text)) {
        let text = if machine.contains("://") { machine } else { format!("https://{machine}") };
        if let Ok(url) = Url::parse(&text) {
            found.basic(&url, &user, &password);
        }
    }
}

/// Only of hosts that are mirrors anyway: a `.netrc` holds what has nothing to do with packages too.
fn of_netrc(inputs: &RegistryInputs, settings: &RegistrySettings, found: &mut Found) {
    for (machine, user, password) in inputs.netrc.iter().flat_map(|text| machines(text)) {
        for rule in &settings.hosts {
            let scheme = if rule.port == Some(80) { "http" } else { "https" };
            let port = rule.port.unwrap_or(443);
            if rule.host.to_string() == machine
                && let Ok(url) = Url::parse(&format!("{scheme}://{machine}:{port}"))
            {
                found.basic(&url, &user, &password);
            }
        }
    }
}

fn machines(text: &str) -> Vec<(String, String, String)> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    let mut found: Vec<(String, String, String)> = Vec::new();
    for pair in words.chunks_exact(2) {
        match (pair[0], found.last_mut()) {
            ("machine", _) => found.push((pair[1].to_owned(), String::new(), String::new())),
            ("login", Some(last)) => last.1 = pair[1].to_owned(),
            ("password", Some(last)) => last.2 = pair[1].to_owned(),
            _ => {}
        }
    }
    found
}
