//! A host as a client names it, and the patterns that a rule may hold against it.

use greenroom_domain::{ErrorCode, Problem};
use std::{fmt, net::IpAddr};

/// Lower case, without a trailing dot; an address when it is written as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Letters, digits, `-` and `_` in labels of at most 63, or an IP address (version 6 also in brackets). What a resolver
    /// would take for an address in another spelling (`127.1`, `0x7f.0.0.1`, `192.0.2.1.`) is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse() {
            return Some(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            let is_fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(is_fine) && !label.starts_with('-')
        };
        let is_number = |label: &str| {
            let is_hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
            label.bytes().all(|b| b.is_ascii_digit())
                || label.strip_prefix("0x").or(label.strip_prefix("0X")).is_some_and(is_hex)
        };
        let ends_in_number = name.rsplit('.').next().is_some_and(is_number);
        let is_name = name.len() <= 253 && name.split('.').all(is_label) && !ends_in_number;
        is_name.then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    Exact(Host),
    /// `*.example.com`: any name below, not the name itself.
    Below(String),
    /// `*`: every name, no address.
    AnyName,
}

impl HostPattern {
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("*") {
            Some("") => Some(Self::AnyName),
            Some(rest) => match Host::parse(rest.strip_prefix('.')?)? {
                Host::Name(name) => Some(Self::Below(name)),
                Host::Address(_) => None,
            },
            None => Host::parse(text).map(Self::Exact),
        }
    }

    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(exact), host) => exact == host,
            (Self::Below(suffix), Host::Name(name)) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Self::AnyName, Host::Name(_)) => true,
            (Self::Below(_) | Self::AnyName, Host::Address(_)) => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => write!(f, "{host}"),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::AnyName => f.write_str("*"),
        }
    }
}

/// One thing that may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowRule {
    pub host: HostPattern,
    /// `None`: 80 and 443.
    pub port: Option<u16>,
    /// Also when the name leads to an address of a private network. Holds only for an exact host, and only an
    /// administrator's rule may say it: text from a repository never does (`parse` leaves it off).
    pub allow_private: bool,
}

impl AllowRule {
    /// `host`, `host:port`, `*.domain`, `*.domain:port` or `*`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let text = text.trim();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port @ 1..)) => Some(port),
            Some(_) => return Err(invalid(text)),
        };
        let host = HostPattern::parse(host).ok_or_else(|| invalid(text))?;
        Ok(Self { host, port, allow_private: false })
    }

    /// The same rule, made by an administrator for a host on a private network.
    pub fn private(self) -> Self {
        Self { allow_private: true, ..self }
    }

    pub(crate) fn admits(&self, host: &Host, port: u16) -> bool {
        let is_port = match self.port {
            Some(own) => own == port,
            None => matches!(port, 80 | 443),
        };
        is_port && self.host.matches(host)
    }

    fn admits_private(&self, host: &Host, port: u16) -> bool {
        self.allow_private && matches!(self.host, HostPattern::Exact(_)) && self.admits(host, port)
    }
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

/// What the rules say about one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Refused,
    Public,
    /// Public or private addresses.
    Anywhere,
}

pub(crate) fn verdict(rules: &[AllowRule], host: &Host, port: u16) -> Verdict {
    if rules.iter().any(|rule| rule.admits_private(host, port)) {
        Verdict::Anywhere
    } else if rules.iter().any(|rule| rule.admits(host, port)) {
        Verdict::Public
    } else {
        Verdict::Refused
    }
}

fn invalid(text: &str) -> Problem {
    let shown: String = text.chars().take(80).collect();
    Problem::new(ErrorCode::RecipeInvalid, format!("{shown:?} is not a host that egress can be allowed to."))
        .hint("Write a host (example.com), a host and port (example.com:8443) or everything below (*.example.com).")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &str, host: &str, port: u16) -> bool {
        AllowRule::parse(rule).unwrap().admits(&Host::parse(host).unwrap(), port)
    }

    #[test]
    fn patterns_match_what_they_say_and_nothing_beside() {
        assert!(allows("example.com", "EXAMPLE.com.", 443));
        assert!(allows("example.com", "example.com", 80));
        assert!(!allows("example.com", "example.com", 22));
        assert!(allows("example.com:22", "example.com", 22));
        assert!(!allows("example.com:22", "example.com", 443));
        assert!(allows("*.example.com", "a.b.example.com", 443));
        assert!(!allows("*.example.com", "example.com", 443));
        assert!(!allows("*.example.com", "badexample.com", 443));
        assert!(!allows("example.com", "example.com.evil.org", 443));
        assert!(allows("*", "anything.org", 443));
        assert!(!allows("*", "127.0.0.1", 443));
        assert!(allows("[::1]:8080", "[::1]", 8080));
        assert!(allows("10.0.0.1:22", "10.0.0.1", 22));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for bad in
            ["", ":80", "a..b", "a b", "*x.com", "*.", "*.1.2.3.4", "a:0", "a:99999", "http://a", "-a.com"]
        {
            assert!(AllowRule::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn private_addresses_need_an_exact_rule_of_an_administrator() {
        let host = Host::parse("mirror.corp").unwrap();
        let wide = AllowRule::parse("*.corp").unwrap().private();
        assert_eq!(verdict(&[wide], &host, 443), Verdict::Public);
        let exact = AllowRule::parse("mirror.corp").unwrap();
        assert_eq!(verdict(std::slice::from_ref(&exact), &host, 443), Verdict::Public);
        assert_eq!(verdict(&[exact.private()], &host, 443), Verdict::Anywhere);
        assert_eq!(verdict(&[], &host, 443), Verdict::Refused);
    }
}
