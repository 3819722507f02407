//! The installation's own certificate authority. It vouches, towards our sandboxes only, for the hosts whose TLS is
//! ended here because an administrator declared a secret for them. Its key comes from and goes to the vault; the
//! certificates of hosts live in memory, are short-lived and share one key of this process.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use zeroize::Zeroizing;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const VALID: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Certificates are made anew long before they end.
const KEPT: Duration = Duration::from_secs(10 * 24 * 60 * 60);
const MOST_KEPT: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("the installation's authority cannot be read: {0}")]
    Damaged(String),
    #[error("a certificate cannot be made: {0}")]
    Making(String),
}

/// The two parts as they are kept.
pub struct AuthorityPem {
    pub key: Zeroizing<String>,
    pub certificate: String,
}

impl fmt::Debug for AuthorityPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorityPem(…)")
    }
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    leaf_key: KeyPair,
    provider: Arc<CryptoProvider>,
    kept: Mutex<HashMap<String, (SystemTime, Arc<ServerConfig>)>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(…)")
    }
}

impl Authority {
    /// A new key and its certificate, valid for ten years.
    pub fn generate(now: SystemTime) -> Result<AuthorityPem, AuthorityError> {
        let key = KeyPair::generate().map_err(making)?;
        let mut params = params()?;
        params.not_before = (now - DAY).into();
        params.not_after = (now + DAY * 3650).into();
        let certificate = params.self_signed(&key).map_err(making)?.pem();
        Ok(AuthorityPem { key: Zeroizing::new(key.serialize_pem()), certificate })
    }

    pub fn open(pem: &AuthorityPem) -> Result<Self, AuthorityError> {
        let damaged = |error: rcgen::Error| AuthorityError::Damaged(error.to_string());
        let key = KeyPair::from_pem(&pem.key).map_err(damaged)?;
        Ok(Self {
            issuer: Issuer::new(params()?, key),
            certificate: pem.certificate.clone(),
            leaf_key: KeyPair::generate().map_err(making)?,
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            kept: Mutex::default(),
        })
    }

    /// The public part, which sandboxes trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// What a TLS server that is this host needs. HTTP/1.1 only.
    pub(crate) fn server(&self, host: &str, now: SystemTime) -> Result<Arc<ServerConfig>, AuthorityError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |made: &SystemTime| now.duration_since(*made).is_ok_and(|age| age < KEPT);
        if let Some((made, config)) = kept.get(host)
            && is_fresh(made)
        {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make(host, now)?);
        if kept.len() >= MOST_KEPT {
            let oldest = kept.iter().min_by_key(|(_, (made, _))| *made).map(|(host, _)| host.clone());
            oldest.map(|host| kept.remove(&host));
        }
        kept.insert(host.to_owned(), (now, config.clone()));
        Ok(config)
    }

    fn make(&self, host: &str, now: SystemTime) -> Result<ServerConfig, AuthorityError> {
        let mut params = CertificateParams::new(Vec::new()).map_err(making)?;
        params.not_before = (now - DAY).into();
        params.not_after = (now + VALID).into();
        params.distinguished_name.push(DnType::CommonName, host.chars().take(64).collect::<String>());
        params.subject_alt_names = vec![match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.try_into().map_err(making)?),
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer).map_err(making)?;
        let chain = vec![CertificateDer::from(leaf.der().to_vec())];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| AuthorityError::Making(error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The same each time: only the key tells installations apart.
fn params() -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(making)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Greenroom installation authority");
    Ok(params)
}

// Taken by value so that it can stand in `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn making(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Making(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_kept_and_their_number_is_bounded() {
        let now = SystemTime::now();
        let authority = Authority::open(&Authority::generate(now).unwrap()).unwrap();
        let first = authority.server("a.corp", now).unwrap();
        assert!(Arc::ptr_eq(&first, &authority.server("a.corp", now).unwrap()));
        assert!(!Arc::ptr_eq(&first, &authority.server("a.corp", now + KEPT).unwrap()), "made anew in time");
        for n in 0..MOST_KEPT + 10 {
            authority.server(&format!("{n}.corp"), now).unwrap();
        }
        assert_eq!(authority.kept.lock().unwrap().len(), MOST_KEPT);
    }

    #[test]
    fn a_broken_key_is_said_to_be() {
        let pem = AuthorityPem { key: Zeroizing::new("x".into()), certificate: String::new() };
        assert!(matches!(Authority::open(&pem), Err(AuthorityError::Damaged(_))));
    }
}
