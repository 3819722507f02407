//! What the broker is given to reach the outside with.

use crate::{
    authority::Authority,
    dial::{Resolver, SystemResolver},
    proxy::UpstreamProxy,
};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Outside {
    pub resolver: Arc<dyn Resolver>,
    pub proxy: UpstreamProxy,
    /// Towards hosts whose TLS is ended here, and towards proxies that speak TLS.
    pub tls: Arc<ClientConfig>,
    /// `None`: no TLS is ended, and no secret leaves over TLS.
    pub authority: Option<Arc<Authority>>,
}

impl Outside {
    /// Resolves as the host does, trusts what it trusts and `extra` (PEM) beside, and dials as it does: through the
    /// proxy of its environment where there is one.
    pub fn of_host(extra: &[String], authority: Option<Arc<Authority>>) -> Self {
        let mut roots: Vec<CertificateDer<'static>> = rustls_native_certs::load_native_certs().certs;
        let parsed = extra.iter().filter_map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok());
        roots.extend(parsed);
        Self {
            resolver: Arc::new(SystemResolver),
            proxy: UpstreamProxy::from_environment(|name| std::env::var(name).ok()),
            tls: client(roots),
            authority,
        }
    }
}

/// HTTP/1.1 only, as the side towards the sandbox.
pub fn client(roots: Vec<CertificateDer<'static>>) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites of these versions")
        .with_root_certificates(store)
        .with_no_client_auth();
    Arc::new(config)
}
