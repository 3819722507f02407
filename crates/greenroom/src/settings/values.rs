//! Values of settings that are more than a number or a word: read from text, refused with a reason.

use greenroom_client::Address;
use greenroom_domain::permission::{self, Action, Rule};
use greenroom_sandboxd::MAX_BLANKS;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;
use url::Url;

/// Directives of `tracing_subscriber::EnvFilter`, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LogFilter(pub(super) String);

impl FromStr for LogFilter {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        tracing_subscriber::EnvFilter::try_new(text)
            .map_err(|error| format!("{text:?} names no levels: {error}"))?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for LogFilter {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LogFilter> for String {
    fn from(filter: LogFilter) -> Self {
        filter.0
    }
}

/// Of a collector: http or https, with a host, without a query or credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct CollectorUrl(pub(crate) Url);

impl FromStr for CollectorUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let url: Url = text.parse().map_err(|error| format!("{text:?} is not a URL: {error}"))?;
        let is_plain = url.query().is_none() && url.username().is_empty() && url.password().is_none();
        if matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain {
            return Ok(Self(url));
        }
        Err("a collector's address is http:// or https://, host, port and path".to_owned())
    }
}

impl TryFrom<String> for CollectorUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CollectorUrl> for String {
    fn from(url: CollectorUrl) -> Self {
        url.0.into()
    }
}

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Origin(Address);

impl FromStr for Origin {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let address: Address = text.parse().map_err(|error| format!("{error}"))?;
        if address.to_string() != address.origin() {
            return Err(format!("{text:?} has a path; an origin is scheme, host and port"));
        }
        Ok(Self(address))
    }
}

impl TryFrom<String> for Origin {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An amount that is neither negative nor absurd.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub(crate) struct Dollars(pub(super) f64);

impl TryFrom<f64> for Dollars {
    type Error = &'static str;
    fn try_from(amount: f64) -> Result<Self, &'static str> {
        if (0.0..=1e6).contains(&amount) { Ok(Self(amount)) } else { Err("expected 0 to 1000000 dollars") }
    }
}

impl From<Dollars> for f64 {
    fn from(dollars: Dollars) -> Self {
        dollars.0
    }
}

impl FromStr for Dollars {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let amount: f64 = text.parse().map_err(|_| format!("{text:?} is not an amount"))?;
        Self::try_from(amount).map_err(str::to_owned)
    }
}

/// A size that a volume can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct VolumeGib(u32);

impl VolumeGib {
    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.0) << 30
    }
}

impl TryFrom<u32> for VolumeGib {
    type Error = &'static str;
    fn try_from(gib: u32) -> Result<Self, &'static str> {
        if (2..=1024).contains(&gib) { Ok(Self(gib)) } else { Err("expected 2 to 1024 GiB") }
    }
}

impl From<VolumeGib> for u32 {
    fn from(size: VolumeGib) -> Self {
        size.0
    }
}

impl FromStr for VolumeGib {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let gib: u32 = text.parse().map_err(|_| format!("{text:?} is not a whole number of GiB"))?;
        Self::try_from(gib).map_err(str::to_owned)
    }
}

/// Minutes, at most a week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct Wait(u32);

impl Wait {
    pub(crate) fn duration(self) -> Duration {
        Duration::from_secs(60 * u64::from(self.0))
    }
}

impl TryFrom<u32> for Wait {
    type Error = &'static str;
    fn try_from(minutes: u32) -> Result<Self, &'static str> {
        if minutes <= 7 * 24 * 60 { Ok(Self(minutes)) } else { Err("expected 0 to 10080 minutes") }
    }
}

impl From<Wait> for u32 {
    fn from(wait: Wait) -> Self {
        wait.0
    }
}

impl FromStr for Wait {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let minutes: u32 = text.parse().map_err(|_| format!("{text:?} is not a whole number of minutes"))?;
        Self::try_from(minutes).map_err(str::to_owned)
    }
}

/// As text `ACTION PERMISSION [PATTERN]`, in the file a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Rule", into = "Rule")]
pub(crate) struct RuleSetting(pub(crate) Rule);

impl TryFrom<Rule> for RuleSetting {
    type Error = String;
    fn try_from(rule: Rule) -> Result<Self, String> {
        permission::check(std::slice::from_ref(&rule))?;
        Ok(Self(rule))
    }
}

impl From<RuleSetting> for Rule {
    fn from(rule: RuleSetting) -> Self {
        rule.0
    }
}

impl FromStr for RuleSetting {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.trim().splitn(3, ' ');
        let action = match words.next() {
            Some("allow") => Action::Allow,
            Some("ask") => Action::Ask,
            Some("deny") => Action::Deny,
            _ => return Err(format!("{text:?} does not begin with allow, ask or deny")),
        };
        let permission = words.next().unwrap_or_default().to_owned();
        let pattern = words.next().unwrap_or("*").to_owned();
        Self::try_from(Rule { permission, pattern, action })
    }
}

/// As many blanks as can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct Blanks(u32);

impl TryFrom<u32> for Blanks {
    type Error = &'static str;
    fn try_from(count: u32) -> Result<Self, &'static str> {
        if count as usize <= MAX_BLANKS { Ok(Self(count)) } else { Err("expected 0 to 128 blanks") }
    }
}

impl From<Blanks> for u32 {
    fn from(blanks: Blanks) -> Self {
        blanks.0
    }
}

impl FromStr for Blanks {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let count: u32 = text.parse().map_err(|_| format!("{text:?} is not a number of blanks"))?;
        Self::try_from(count).map_err(str::to_owned)
    }
}

/// An address, or a network such as 10.0.0.0/8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Proxy(pub(crate) IpNet);

impl FromStr for Proxy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network
            .map(Self)
            .map_err(|_| format!("{text:?} is neither an address nor a network such as 10.0.0.0/8"))
    }
}

impl TryFrom<String> for Proxy {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Proxy> for String {
    fn from(proxy: Proxy) -> Self {
        proxy.0.to_string()
    }
}
