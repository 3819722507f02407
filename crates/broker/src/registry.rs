//! The registry settings of the serving user, made fit for sandboxes: which mirrors npm, pip, cargo, Go and apt use and
//! which certificates they trust. Only settings that are known to be harmless are carried over, by name; every URL loses
//! its user, password, query and fragment. So no token, password or key of the user's files comes along.
//!
//! Credentials are read apart (`credentials`), never leave this process in any setting, and are added by the broker to
//! requests that go to the very host, port, protocol and path that they were configured for. A mirror that hides a token
//! in a URL's *path* is not recognised.

mod apt;
mod cargo;
mod certificates;
mod credentials;
mod npm;
mod pip;

use crate::{
    host::{AllowRule, Host, HostPattern},
    inject::Injection,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use url::Url;

const NPMRC: &str = "/etc/greenroom/npmrc";
const PIP_CONF: &str = "/etc/pip.conf";
/// Cargo looks upwards from the working directory, so this one is found by every user in every directory.
const CARGO_CONFIG: &str = "/.cargo/config.toml";
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// What a sandbox is given so that its package managers find the installation's mirrors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Absolute paths inside the sandbox.
    pub files: Vec<(String, Vec<u8>)>,
    pub env: Vec<(String, String)>,
    pub certificates: Certificates,
    /// The mirrors. They may be on a private network: the machine's administrator configured them.
    pub hosts: Vec<AllowRule>,
    /// What mirrors ask for, added on the way out.
    pub credentials: Vec<Arc<Injection>>,
}

/// PEM blocks, certificates only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    pub system: Vec<String>,
    /// Those that the installation names, whether or not the system has them too.
    pub extra: Vec<String>,
}

/// What the settings are made from. Everything may be absent.
#[derive(Clone, Default)]
pub struct RegistryInputs {
    /// The environment of the serving process.
    pub env: BTreeMap<String, String>,
    /// User's after global: later ones win.
    pub npmrc: Vec<String>,
    pub pip_conf: Vec<String>,
    pub cargo_config: Vec<String>,
    /// `sources.list`, `sources.list.d/*` and `apt.conf.d/*`, with their paths.
    pub apt: Vec<(String, String)>,
    /// `auth.conf` and `auth.conf.d/*` of apt.
    pub apt_auth: Vec<String>,
    pub netrc: Vec<String>,
    pub cargo_credentials: Vec<String>,
    /// PEM files that the environment or a setting names, in addition to the system's.
    pub extra_certificates: Vec<Vec<u8>>,
    pub system_certificates: Vec<u8>,
}

impl std::fmt::Debug for RegistryInputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegistryInputs(…)") // holds what must not be printed
    }
}

/// Pure: the same inputs give the same settings.
pub fn settings(inputs: &RegistryInputs) -> RegistrySettings {
    let mut settings = RegistrySettings::default();
    npm::add(inputs, &mut settings);
    pip::add(inputs, &mut settings);
    cargo::add(inputs, &mut settings);
    apt::add(inputs, &mut settings);
    add_go(inputs, &mut settings);
    certificates::add(inputs, &mut settings);
    settings.hosts.sort_by_key(ToString::to_string);
    settings.hosts.dedup();
    credentials::add(inputs, &mut settings);
    settings
}

/// Reads the serving user's environment and files. Files that are missing, unreadable or too large are left out.
pub fn collect() -> RegistrySettings {
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    settings(&read_inputs(env, Path::new("/")))
}

/// `root` stands for `/` of the system's files; tests pass a directory.
fn read_inputs(env: BTreeMap<String, String>, root: &Path) -> RegistryInputs {
    let home = env.get("HOME").map(PathBuf::from);
    let of_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let named = |name: &str| env.get(name).map(PathBuf::from);
    let system = |path: &str| Some(root.join(path));
    let cargo_home = named("CARGO_HOME").or_else(|| of_home(".cargo"));
    let in_cargo_home = |name: &str| cargo_home.as_ref().map(|home| home.join(name));
    let texts = |paths: Vec<Option<PathBuf>>| -> Vec<String> {
        paths.into_iter().flatten().filter_map(|path| read_text(&path)).collect()
    };
    let npm_global = named("NPM_CONFIG_GLOBALCONFIG").or_else(|| named("npm_config_globalconfig"));
    let npm_user = named("NPM_CONFIG_USERCONFIG").or_else(|| named("npm_config_userconfig"));
    let npmrc = texts(vec![
        system("etc/npmrc"),
        system("usr/etc/npmrc"),
        system("usr/local/etc/npmrc"),
        npm_global,
        npm_user.or_else(|| of_home(".npmrc")),
    ]);
    let pip_conf = texts(vec![
        system("etc/pip.conf"),
        of_home(".pip/pip.conf"),
        of_home(".config/pip/pip.conf"),
        named("PIP_CONFIG_FILE"),
    ]);
    let certificate_files = certificates::VARIABLES
        .iter()
        .filter_map(|name| named(name))
        .chain(certificates::named_by(&npmrc, "cafile"))
        .chain(certificates::named_by(&pip_conf, "cert"));
    RegistryInputs {
        cargo_config: texts(vec![in_cargo_home("config"), in_cargo_home("config.toml")]),
        cargo_credentials: texts(vec![in_cargo_home("credentials"), in_cargo_home("credentials.toml")]),
        apt: read_apt(root),
        apt_auth: read_all(root, &["etc/apt/auth.conf"], &["etc/apt/auth.conf.d"]),
        netrc: texts(vec![named("NETRC").or_else(|| of_home(".netrc"))]),
        extra_certificates: certificate_files.filter_map(|path| read_bytes(&path)).collect(),
        system_certificates: certificates::SYSTEM_BUNDLES
            .iter()
            .find_map(|path| read_bytes(&root.join(path)))
            .unwrap_or_default(),
        npmrc,
        pip_conf,
        env,
    }
}

fn read_apt(root: &Path) -> Vec<(String, String)> {
    let mut paths = vec![PathBuf::from("etc/apt/sources.list"), PathBuf::from("etc/apt/apt.conf")];
    for directory in ["etc/apt/sources.list.d", "etc/apt/apt.conf.d"] {
        let entries = fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
        paths.extend(entries.map(|entry| Path::new(directory).join(entry.file_name())));
    }
    paths.sort();
    paths.truncate(200);
    let read = |path: PathBuf| Some((format!("/{}", path.display()), read_text(&root.join(&path))?));
    paths.into_iter().filter_map(read).collect()
}

fn read_all(root: &Path, files: &[&str], directories: &[&str]) -> Vec<String> {
    let mut paths: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    for directory in directories {
        let entries = fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
        paths.extend(entries.map(|entry| Path::new(directory).join(entry.file_name())));
    }
    paths.truncate(200);
    paths.into_iter().filter_map(|path| read_text(&root.join(path))).collect()
}

fn read_text(path: &Path) -> Option<String> {
    read_bytes(path).and_then(|bytes| String::from_utf8(bytes).ok())
}

fn read_bytes(path: &Path) -> Option<Vec<u8>> {
    let is_fine = fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() <= LARGEST_FILE);
    is_fine.then(|| fs::read(path).ok()).flatten()
}

const GO_LISTS: &[&str] = &["GOPROXY", "GONOPROXY", "GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GOSUMDB"];

fn add_go(inputs: &RegistryInputs, settings: &mut RegistrySettings) {
    for name in GO_LISTS {
        let Some(value) = inputs.env.get(*name) else { continue };
        // Entries are separated by a comma or a bar, and which of them it is means something.
        let cleaned: String =
            value.split_inclusive([',', '|']).map(|entry| settings.mirror_entry(entry)).collect();
        settings.env.push(((*name).to_owned(), cleaned));
    }
}

impl RegistrySettings {
    /// A mirror's URL without anything secret, its host allowed from now on. `None` for what is no URL of a host.
    fn mirror(&mut self, text: &str) -> Option<String> {
        let (clean, rule) = clean_url(text.trim())?;
        self.hosts.extend(rule);
        Some(clean)
    }

    /// An entry of a list: cleaned when it is a URL, kept when it is a plain word, dropped otherwise.
    fn mirror_entry(&mut self, entry: &str) -> String {
        let word = entry.trim_end_matches([',', '|']);
        let separator = &entry[word.len()..];
        let clean = self.mirror(word).or_else(|| {
            let is_plain = !word.contains("://") && !word.contains('@');
            is_plain.then(|| word.to_owned())
        });
        clean.map_or_else(String::new, |clean| format!("{clean}{separator}"))
    }

    /// Several URLs, separated by spaces or lines.
    fn mirrors(&mut self, text: &str) -> String {
        let clean: Vec<String> = text.split_whitespace().filter_map(|part| self.mirror(part)).collect();
        clean.join(" ")
    }
}

/// Takes user, password, query and fragment off; knows cargo's prefixes. The rule is `None` for a `file` URL.
fn clean_url(text: &str) -> Option<(String, Option<AllowRule>)> {
    let prefix = ["sparse+", "registry+", "git+"].into_iter().find(|prefix| text.starts_with(prefix));
    let mut url = Url::parse(&text[prefix.map_or(0, str::len)..]).ok()?;
    if !matches!(url.scheme(), "http" | "https" | "ssh" | "git" | "file") {
        return None;
    }
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    let port = url.port().or(match url.scheme() {
        "ssh" => Some(22),
        "git" => Some(9418),
        _ => url.port_or_known_default(),
    });
    let rule = url.host_str().and_then(Host::parse).map(|host| AllowRule {
        host: HostPattern::Exact(host),
        port,
        allow_private: true,
    });
    if rule.is_none() && url.scheme() != "file" {
        return None;
    }
    Some((format!("{}{url}", prefix.unwrap_or_default()), rule))
}

/// Whether a value that is no URL can be carried over: a short plain word or number.
fn is_plain_value(text: &str) -> bool {
    let is_fine = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ' | ',' | ':' | '*' | '[' | ']')
    };
    text.len() <= 200 && text.chars().all(is_fine)
}

/// A directory or file of the base system that every sandbox over it can read.
fn is_system_path(text: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    let is_below = ["/usr", "/opt"].iter().any(|top| text == *top || text.starts_with(&format!("{top}/")));
    is_below && !text.contains("..") && text.chars().all(is_fine)
}

#[cfg(test)]
mod tests;
