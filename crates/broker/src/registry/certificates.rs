//! Certificates that the installation trusts beyond its system's: certificates only, never a key that lies in the same
//! file.

use super::{CA_BUNDLE, RegistryInputs, RegistrySettings};
use std::path::PathBuf;

/// Where the environment names files of certificates, for reading on the host and for writing into the sandbox.
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

pub(super) fn add(inputs: &RegistryInputs, settings: &mut RegistrySettings) {
    let mut bundle = certificates(&inputs.system_certificates);
    for file in &inputs.extra_certificates {
        for certificate in certificates(file) {
            if !bundle.contains(&certificate) {
                bundle.push(certificate);
            }
        }
    }
    // Naming the system's own file counts too: Node and Python bring roots of their own and do not look there by themselves.
    if inputs.extra_certificates.is_empty() || bundle.is_empty() {
        return;
    }
    let text = bundle.concat().into_bytes();
    settings.files.push((CA_BUNDLE.into(), text.clone()));
    settings.ca_bundle = Some(text);
    settings.env.extend(VARIABLES.iter().map(|name| ((*name).to_owned(), CA_BUNDLE.to_owned())));
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
