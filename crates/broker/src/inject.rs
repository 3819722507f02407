//! Secrets that are added to requests on their way out: to which hosts, how, and what of them must not come back. The
//! sandbox holds a placeholder at most. Decided by `app`, through `PolicySource`.

use crate::{
    host::{AllowRule, Host, HostPattern},
    mask::Mask,
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// What every placeholder begins with.
pub const PLACEHOLDER_PREFIX: &str = "greenroom-placeholder-";
/// `http://<name>.secret.greenroom.internal/…` leads to the secret's first host, over TLS that the broker makes.
const ALIAS_SUFFIX: &str = ".secret.greenroom.internal";
/// What decides where a request goes, or how long it is, never holds a placeholder's value.
const FIXED: &[HeaderName] =
    &[header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE];

/// Text that nothing prints and that is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Arc<Zeroizing<String>>);

impl SecretText {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// One place that a secret is sent to. Nothing else ever gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionTarget {
    pub host: Host,
    pub port: u16,
    /// Over TLS, which the broker ends towards the sandbox and makes towards the host.
    pub is_tls: bool,
    /// Only for paths that begin so; empty for all.
    pub path: String,
}

impl InjectionTarget {
    /// `host`, `host:port` or `https://host…`: over TLS. `http://host…`: in plain text, because it was asked for so.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (rest, is_tls) = match text.split_once("://") {
            Some(("https", rest)) => (rest, true),
            Some(("http", rest)) => (rest, false),
            Some(_) => return None,
            None => (text, true),
        };
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) if !path.is_empty() => (authority, format!("/{path}")),
            Some((authority, _)) => (authority, String::new()),
            None => (rest, String::new()),
        };
        let rule = AllowRule::parse(authority).ok()?;
        let HostPattern::Exact(host) = rule.host else { return None };
        let port = rule.port.unwrap_or(if is_tls { 443 } else { 80 });
        let is_path = path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
        is_path.then_some(Self { host, port, is_tls, path })
    }

    /// What must be allowed for it to be of use.
    pub fn rule(&self) -> AllowRule {
        let host = HostPattern::Exact(self.host.clone());
        AllowRule { host, port: Some(self.port), allow_private: false }
    }

    fn admits(&self, host: &Host, port: u16, is_tls: bool) -> bool {
        self.is_tls == is_tls && self.port == port && self.host == *host
    }

    fn has_path(&self, path: &str) -> bool {
        let prefix = self.path.trim_end_matches('/');
        let is_below =
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
        is_below && (prefix.is_empty() || !leads_upwards(path))
    }
}

/// Whether a server may take the path for another than it looks: it has segments of dots, or separators in disguise.
fn leads_upwards(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
    // A second round, because some servers decode twice.
    let twice = percent_encoding::percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
    let separators = |text: &str| text.matches('/').count();
    twice.contains('\\')
        || separators(&twice) != separators(path)
        || twice.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

impl fmt::Display for InjectionTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, standard) = if self.is_tls { ("", 443) } else { ("http://", 80) };
        write!(f, "{scheme}{}", self.host)?;
        if self.port != standard {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

/// How a secret enters a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inject {
    /// `Authorization: Bearer <value>`
    Bearer,
    /// `Authorization: Basic <user:value in base64>`
    Basic { user: String },
    /// `Authorization: Basic <value: in base64>`, for hosts whose user name is the secret.
    BasicUser,
    /// A header of its own, for example `X-Api-Key: <value>`.
    Header { name: HeaderName },
    /// Wherever a header's value holds the placeholder, a password of basic authentication included.
    Placeholder,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Injection {
    name: String,
    targets: Vec<InjectionTarget>,
    how: Inject,
    placeholder: String,
    value: SecretText,
    /// What the header is set to; unused with `Placeholder`.
    header: SecretText,
}

impl fmt::Debug for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injection").field("name", &self.name).field("how", &self.how).finish_non_exhaustive()
    }
}

impl Injection {
    /// `None` when the value cannot stand in a header.
    pub fn new(
        name: impl Into<String>,
        targets: Vec<InjectionTarget>,
        how: Inject,
        placeholder: impl Into<String>,
        value: SecretText,
    ) -> Option<Self> {
        let header = match &how {
            Inject::Bearer => format!("Bearer {}", value.expose()),
            Inject::Basic { user } => {
                let pair = Zeroizing::new(format!("{user}:{}", value.expose()));
                format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes()))
            }
            Inject::BasicUser => {
                let pair = Zeroizing::new(format!("{}:", value.expose()));
                format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes()))
            }
            Inject::Header { .. } | Inject::Placeholder => value.expose().to_owned(),
        };
        let header = SecretText::new(header);
        HeaderValue::from_str(header.expose()).ok()?;
        Some(Self { name: name.into(), targets, how, placeholder: placeholder.into(), value, header })
    }

    pub fn targets(&self) -> &[InjectionTarget] {
        &self.targets
    }

    pub fn placeholder(&self) -> &str {
        &self.placeholder
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the plain address that stands for the first host; none for registries.
    pub fn alias_of(name: &str) -> String {
        format!("{}{ALIAS_SUFFIX}", name.to_ascii_lowercase().replace('_', "-"))
    }

    /// The secret in every form in which somebody may repeat it.
    pub fn forms(&self) -> Vec<Vec<u8>> {
        forms(self.value.expose(), Some(self.header.expose()))
    }

    fn admits(&self, host: &Host, port: u16, is_tls: bool) -> bool {
        self.targets.iter().any(|target| target.admits(host, port, is_tls))
    }

    /// Whether the request holds the secret now.
    fn apply(&self, headers: &mut HeaderMap) -> bool {
        match &self.how {
            Inject::Bearer | Inject::Basic { .. } | Inject::BasicUser => {
                self.set(headers, &header::AUTHORIZATION)
            }
            Inject::Header { name } => self.set(headers, name),
            Inject::Placeholder => self.replace(headers),
        }
    }

    /// A value that the client chose itself stays.
    fn set(&self, headers: &mut HeaderMap, name: &HeaderName) -> bool {
        let is_ours = headers.get(name).is_none_or(|value| self.is_mentioned(value));
        if is_ours && let Some(value) = sensitive(self.header.expose()) {
            headers.insert(name.clone(), value);
        }
        is_ours
    }

    fn is_mentioned(&self, value: &HeaderValue) -> bool {
        let text = String::from_utf8_lossy(value.as_bytes());
        let holds = |text: &str| !self.placeholder.is_empty() && text.contains(&self.placeholder);
        holds(&text) || basic(&text).is_some_and(|pair| holds(&pair))
    }

    fn replace(&self, headers: &mut HeaderMap) -> bool {
        let mut has_replaced = false;
        for (name, value) in headers.iter_mut().filter(|(name, _)| !FIXED.contains(name)) {
            if !self.is_mentioned(value) {
                continue;
            }
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let filled = match basic(&text).filter(|_| name == header::AUTHORIZATION) {
                Some(pair) => {
                    let pair = Zeroizing::new(pair.replace(&self.placeholder, self.value.expose()));
                    format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes()))
                }
                None => text.replace(&self.placeholder, self.value.expose()),
            };
            if let Some(filled) = sensitive(&Zeroizing::new(filled)) {
                *value = filled;
                has_replaced = true;
            }
        }
        has_replaced
    }
}

/// A secret as it is, in base64, percent-encoded and as a JSON string has it.
pub fn forms(value: &str, header: Option<&str>) -> Vec<Vec<u8>> {
    let bytes = value.as_bytes();
    let mut forms = vec![
        value.to_owned(),
        BASE64_STANDARD.encode(bytes),
        BASE64_STANDARD_NO_PAD.encode(bytes),
        BASE64_URL_SAFE.encode(bytes),
        BASE64_URL_SAFE_NO_PAD.encode(bytes),
        percent_encode(bytes, NON_ALPHANUMERIC).to_string(),
        value.replace('\\', "\\\\").replace('"', "\\\""),
    ];
    forms.extend(header.and_then(|header| header.rsplit(' ').next()).map(str::to_owned));
    forms.into_iter().map(String::into_bytes).collect()
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// User and password of a basic authorization.
fn basic(text: &str) -> Option<String> {
    let (scheme, encoded) = text.split_once(' ')?;
    let bytes =
        scheme.eq_ignore_ascii_case("basic").then(|| BASE64_STANDARD.decode(encoded.trim()).ok())??;
    String::from_utf8(bytes).ok()
}

/// What a policy's secrets mean for one destination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injections<'a>(pub(crate) &'a [Arc<Injection>]);

impl Injections<'_> {
    pub(crate) fn concern(&self, host: &Host, port: u16, is_tls: bool) -> bool {
        self.0.iter().any(|one| one.admits(host, port, is_tls))
    }

    /// Where a plain address of ours leads.
    pub(crate) fn alias(&self, host: &Host) -> Option<InjectionTarget> {
        let Host::Name(name) = host else { return None };
        let is_named =
            |one: &&Arc<Injection>| !one.name.contains('/') && Injection::alias_of(&one.name) == *name;
        self.0.iter().find(is_named).and_then(|one| one.targets.first().cloned())
    }

    /// Adds what the destination is given. The longest path is the most exact and goes first.
    pub(crate) fn apply(
        &self,
        host: &Host,
        port: u16,
        is_tls: bool,
        path: &str,
        headers: &mut HeaderMap,
    ) -> bool {
        let mut fitting: Vec<(usize, &Arc<Injection>)> = Vec::new();
        for one in self.0 {
            let targets = one.targets.iter().filter(|target| target.admits(host, port, is_tls));
            let longest =
                targets.filter(|target| target.has_path(path)).map(|target| target.path.len()).max();
            fitting.extend(longest.map(|length| (length, one)));
        }
        fitting.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        fitting.into_iter().fold(false, |has_any, (_, one)| one.apply(headers) || has_any)
    }

    /// Everything that the destination may know, and must not say.
    pub(crate) fn mask(&self, host: &Host, port: u16, is_tls: bool) -> Option<Mask> {
        let known = self.0.iter().filter(|one| one.admits(host, port, is_tls));
        Mask::new(known.flat_map(|one| one.forms()))
    }
}

/// Whether a name is one of the plain addresses.
pub(crate) fn is_alias(host: &Host) -> bool {
    matches!(host, Host::Name(name) if name.ends_with(ALIAS_SUFFIX))
}

#[cfg(test)]
mod tests;
