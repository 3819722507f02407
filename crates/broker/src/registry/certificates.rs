//! Certificates that the installation trusts beyond its system's: certificates only, never a key that lies in the same
//! file.

use super::{Certificates, RegistryInputs, RegistrySettings};
use std::path::PathBuf;

/// Where the host's environment names files of certificates.
pub(super) const VARIABLES: &[&str] = &[
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "GIT_SSL_CAINFO",
];
pub(super) const SYSTEM_BUNDLES: &[&str] = &[
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/cert.pem",
];
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The system's, and what the installation names. The two may overlap: a program with roots of its own (Node) trusts
/// nothing of the system's, so an authority that the system knows too must still be named to it.
/// `trust` writes them where programs look.
pub(super) fn add(inputs: &RegistryInputs, settings: &mut RegistrySettings) {
    let system = certificates(&inputs.system_certificates);
    let mut extra: Vec<String> = Vec::new();
    for certificate in inputs.extra_certificates.iter().flat_map(|file| certificates(file)) {
        if !extra.contains(&certificate) {
            extra.push(certificate);
        }
    }
    settings.certificates = Certificates { system, extra };
}

/// Files that a setting of npm (`cafile=`) or pip (`cert =`) names.
pub(super) fn named_by(texts: &[String], key: &str) -> Vec<PathBuf> {
    let value = |line: &str| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| PathBuf::from(value.trim().trim_matches(['"', '\''])))
    };
    texts.iter().flat_map(|text| text.lines()).filter_map(value).collect()
}

fn certificates(file: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(file);
    let mut rest = text.as_ref();
    let mut found = Vec::new();
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let Some((body, next)) = after.split_once(END) else { break };
        let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=\r\n".contains(&b);
        if body.bytes().all(is_base64) {
            found.push(format!("{BEGIN}{body}{END}\n"));
        }
        rest = next;
    }
    found
}
