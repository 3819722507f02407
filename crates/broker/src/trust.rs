//! What sandboxes trust: the host's roots, what the installation adds to them, and our own authority, in the formats that
//! programs read, and the environment that makes them found. One directory, bound read-only into every sandbox, so that
//! sandboxes over older images have it too. Public parts only.

use crate::registry::Certificates;
use base64::{Engine, prelude::BASE64_STANDARD};
use sha1::{Digest, Sha1};
use std::{fs, io, path::Path};

/// Where the directory lies inside a sandbox.
pub const TRUST: &str = "/etc/greenroom/trust";
const BUNDLE: &str = "ca-certificates.crt";
/// Beside the roots that Node brings along: reading all of them at every start would cost it milliseconds.
const EXTRA: &str = "extra-certificates.crt";
const JAVA: &str = "java.jks";
const APT: &str = "apt.conf";
/// wget speaks TLS by GnuTLS, which reads no variable.
const WGET: &str = "wgetrc";
const OF_BUNDLE: &[&str] = &[
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "NIX_SSL_CERT_FILE",
];
const OF_EXTRA: &[&str] = &["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// Writes the directory anew and answers the environment. `authority` is the PEM of our own certificate.
pub fn write(
    directory: &Path,
    certificates: &Certificates,
    authority: &str,
) -> io::Result<Vec<(String, String)>> {
    fs::create_dir_all(directory)?;
    let extra: Vec<&str> = certificates.extra.iter().map(String::as_str).chain([authority]).collect();
    let mut all: Vec<&str> = certificates.system.iter().map(String::as_str).collect();
    for certificate in &extra {
        if !all.contains(certificate) {
            all.push(certificate);
        }
    }
    put(directory, EXTRA, extra.concat().as_bytes())?;
    let mut env: Vec<(String, String)> = OF_EXTRA.iter().map(|name| variable(name, EXTRA)).collect();
    // Without the host's roots a bundle would take away what programs trust by themselves.
    if !certificates.system.is_empty() {
        put(directory, BUNDLE, all.concat().as_bytes())?;
        put(directory, JAVA, &java_store(&all))?;
        put(directory, APT, format!("Acquire::https::CAInfo \"{TRUST}/{BUNDLE}\";\n").as_bytes())?;
        env.extend(OF_BUNDLE.iter().map(|name| variable(name, BUNDLE)));
        put(directory, WGET, format!("ca_certificate = {TRUST}/{BUNDLE}\n").as_bytes())?;
        env.extend([variable("APT_CONFIG", APT), variable("WGETRC", WGET)]);
        let store = format!("-Djavax.net.ssl.trustStore={TRUST}/{JAVA}");
        env.push(("JAVA_TOOL_OPTIONS".into(), store));
    }
    Ok(env)
}

fn variable(name: &str, file: &str) -> (String, String) {
    (name.to_owned(), format!("{TRUST}/{file}"))
}

/// Sandboxes that run see the old file or the new one. Everybody inside may read it.
fn put(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    let temporary = directory.join(format!(".{name}"));
    fs::write(&temporary, bytes)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644))?;
    fs::rename(&temporary, directory.join(name))
}

/// A store of trusted certificates in Java's own format (JKS version 2), which every Java reads. The password only
/// seals it against accidents.
fn java_store(certificates: &[&str]) -> Vec<u8> {
    const PASSWORD: &str = "changeit";
    let ders: Vec<Vec<u8>> = certificates.iter().filter_map(|pem| der(pem)).collect();
    let mut store = Vec::new();
    store.extend(0xfeed_feed_u32.to_be_bytes());
    store.extend(2u32.to_be_bytes());
    store.extend(u32::try_from(ders.len()).unwrap_or(0).to_be_bytes());
    for (number, der) in ders.iter().enumerate() {
        store.extend(2u32.to_be_bytes()); // a trusted certificate
        text(&mut store, &format!("greenroom-{number}"));
        store.extend(0u64.to_be_bytes());
        text(&mut store, "X.509");
        store.extend(u32::try_from(der.len()).unwrap_or(0).to_be_bytes());
        store.extend(der);
    }
    let mut digest = Sha1::new();
    PASSWORD.encode_utf16().for_each(|unit| digest.update(unit.to_be_bytes()));
    digest.update(b"Mighty Aphrodite");
    digest.update(&store);
    store.extend(digest.finalize());
    store
}

fn text(store: &mut Vec<u8>, text: &str) {
    store.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    store.extend(text.as_bytes());
}

fn der(pem: &str) -> Option<Vec<u8>> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    BASE64_STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;
    use std::process::Command;

    #[test]
    fn every_format_holds_the_hosts_roots_and_ours() {
        let directory = tempfile::tempdir().unwrap();
        let pem = |n: u8| {
            format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                BASE64_STANDARD.encode([n; 30])
            )
        };
        let certificates = Certificates { system: vec![pem(1)], extra: vec![pem(2)] };
        let env = write(directory.path(), &certificates, &pem(3)).unwrap();
        let read = |name: &str| fs::read(directory.path().join(name)).unwrap();
        assert_eq!(String::from_utf8(read(BUNDLE)).unwrap(), [pem(1), pem(2), pem(3)].concat());
        assert_eq!(String::from_utf8(read(EXTRA)).unwrap(), [pem(2), pem(3)].concat());
        assert_eq!(read(JAVA).windows(30).filter(|part| *part == [3; 30]).count(), 1);
        assert!(
            env.contains(&variable("GIT_SSL_CAINFO", BUNDLE))
                && env.contains(&variable("NODE_EXTRA_CA_CERTS", EXTRA))
        );
        let bare = write(directory.path(), &Certificates::default(), &pem(3)).unwrap();
        assert!(bare.iter().all(|(name, _)| OF_EXTRA.contains(&name.as_str())), "{bare:?}");
    }

    #[test]
    fn java_reads_its_store() {
        let Ok(_) = Command::new("keytool").arg("-help").output() else { return };
        let directory = tempfile::tempdir().unwrap();
        let authority = || Authority::generate(std::time::SystemTime::now()).unwrap().certificate;
        let certificates = Certificates { system: vec![authority()], extra: vec![] };
        write(directory.path(), &certificates, &authority()).unwrap();
        let path = directory.path().join(JAVA);
        let list = ["-list", "-storepass", "changeit", "-keystore", path.to_str().unwrap()];
        let output = Command::new("keytool").args(list).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.matches("trustedCertEntry").count() == 2, "{said}");
    }
}
