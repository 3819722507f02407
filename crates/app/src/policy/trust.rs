//! The installation's certificate authority, kept in the vault, and what sandboxes are given so that they trust it.

use crate::Result;
use greenroom_broker::registry::RegistrySettings;
use greenroom_broker::{Authority, AuthorityPem, trust};
use greenroom_domain::{ErrorCode, Problem};
use greenroom_sandbox::ReadOnlyBind;
use greenroom_vault::{Secret, Vault};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

const KEY: &str = "authority/key";
/// Its value is public.
pub(crate) const CERTIFICATE: &str = "authority/certificate";

/// Public parts only, beside the authority itself, which the broker needs.
#[derive(Clone, Debug)]
pub struct Trust {
    pub authority: Arc<Authority>,
    pub(crate) bind: ReadOnlyBind,
    pub(crate) env: Vec<(String, String)>,
}

impl Trust {
    /// Makes the authority at the first start. Writes `<data>/trust`. Blocking.
    pub fn open(vault: &Vault, data: &Path, registry: &RegistrySettings) -> Result<Self> {
        let authority = Authority::open(&stored_or_new(vault)?).map_err(|error| unusable(&error))?;
        let directory = data.join("trust");
        let env = trust::write(&directory, &registry.certificates, authority.certificate_pem())
            .map_err(|error| unusable(&error))?;
        let bind = ReadOnlyBind { source: directory, target: trust::TRUST.to_owned() };
        Ok(Self { authority: Arc::new(authority), bind, env })
    }
}

fn stored_or_new(vault: &Vault) -> Result<AuthorityPem> {
    let text = |name: &str| -> Result<Option<String>> {
        Ok(vault.get(name)?.and_then(|secret| secret.text().map(str::to_owned)))
    };
    if let (Some(key), Some(certificate)) = (text(KEY)?, text(CERTIFICATE)?) {
        return Ok(AuthorityPem { key: key.into(), certificate });
    }
    let pem = Authority::generate(SystemTime::now()).map_err(|error| unusable(&error))?;
    vault.put(CERTIFICATE, &Secret::from(pem.certificate.as_str()))?;
    vault.put(KEY, &Secret::from(pem.key.as_str()))?;
    Ok(pem)
}

fn unusable(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::SettingsInvalid, format!("The installation's authority cannot be used: {error}."))
        .hint("Put the vault of this data directory back, or remove it to begin with new secrets.")
}
