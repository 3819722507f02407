//! Which registries are asked for images. A recipe is untrusted text, and any name in it could be a machine of the network
//! that only the server reaches: so the well-known ones, and those that the installation names.

use oci_client::client::ClientProtocol;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

const WELL_KNOWN: [&str; 10] = [
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "ghcr.io",
    "quay.io",
    "mcr.microsoft.com",
    "gcr.io",
    "public.ecr.aws",
    "registry.gitlab.com",
    "registry.k8s.io",
];

/// `host` or `host:port`, as it stands before the first `/` of an image's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryHost(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a registry: expected a host, or a host and a port, such as registry.example.com:5000")]
pub struct NotARegistry(String);

impl FromStr for RegistryHost {
    type Err = NotARegistry;
    fn from_str(text: &str) -> Result<Self, NotARegistry> {
        let (host, port) = text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        let is_label = |label: &str| {
            let is_fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            (1..=63).contains(&label.len()) && label.bytes().all(is_fine) && !label.starts_with('-')
        };
        let is_host = host.len() <= 253 && host.split('.').all(is_label);
        // Without a dot or a port it would be read as the first part of a path.
        let is_told_apart = host.contains('.') || port.is_some() || host == "localhost";
        let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        if is_host && is_port && is_told_apart {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotARegistry(text.to_owned()))
        }
    }
}

impl TryFrom<String> for RegistryHost {
    type Error = NotARegistry;
    fn try_from(text: String) -> Result<Self, NotARegistry> {
        text.parse()
    }
}

impl From<RegistryHost> for String {
    fn from(host: RegistryHost) -> Self {
        host.0
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RegistryHost {
    /// Docker speaks plain HTTP with these, too.
    fn is_loopback(&self) -> bool {
        let address = self.0.parse::<SocketAddr>().map(|address| address.ip());
        let address = address.or_else(|_| self.0.parse::<IpAddr>());
        let name = self.0.split(':').next().unwrap_or_default();
        address.map_or(name == "localhost", |address| address.is_loopback())
    }
}

/// The well-known registries and the installation's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    own: Vec<RegistryHost>,
}

impl Registries {
    pub fn with(own: Vec<RegistryHost>) -> Self {
        Self { own }
    }

    /// `registry` as an image's name resolves to it.
    pub(super) fn check(&self, registry: &str) -> Result<(), String> {
        if WELL_KNOWN.contains(&registry) || self.own.iter().any(|own| own.0 == registry) {
            return Ok(());
        }
        let names: Vec<&str> = WELL_KNOWN.into_iter().chain(self.own.iter().map(|own| &*own.0)).collect();
        Err(format!(
            "{registry} is not among the registries that are asked ({}); an admin adds one by the setting image_registries",
            names.join(", ")
        ))
    }

    /// TLS, but on loopback.
    pub(super) fn protocol(&self) -> ClientProtocol {
        let plain = self.own.iter().filter(|own| own.is_loopback());
        ClientProtocol::HttpsExcept(plain.map(ToString::to_string).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(names: &[&str]) -> Registries {
        Registries::with(names.iter().map(|name| name.parse().unwrap()).collect())
    }

    #[test]
    fn only_well_known_registries_and_the_installations_own_are_asked() {
        for name in ["169.254.169.254", "localhost:5000", "registry.internal", "127.0.0.1"] {
            assert!(Registries::default().check(name).unwrap_err().contains("image_registries"));
        }
        let registries = own(&["registry.internal"]);
        assert_eq!(registries.check("registry.internal"), Ok(()));
        assert_eq!(registries.check("docker.io"), Ok(()));
        assert!(registries.check("registry.internal:5000").unwrap_err().contains("registry.internal)"));
    }

    #[test]
    fn only_loopback_is_spoken_to_without_tls() {
        let registries = own(&["localhost:5000", "127.0.0.1:1", "10.0.0.1:5000", "registry.example.com"]);
        let ClientProtocol::HttpsExcept(plain) = registries.protocol() else { panic!("TLS is the rule") };
        assert_eq!(plain, ["localhost:5000", "127.0.0.1:1"]);
    }

    #[test]
    fn what_is_no_host_is_no_registry() {
        for bad in ["", "registry", "https://a.b", "a.b/c", "A.b", "a.b:0", "a.b:x", "-a.b", "a..b", "u@a.b"]
        {
            assert_eq!(bad.parse::<RegistryHost>(), Err(NotARegistry(bad.to_owned())));
        }
    }
}
