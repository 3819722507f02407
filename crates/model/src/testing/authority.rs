//! A private certificate authority for one test server.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::io;
use std::sync::Arc;

pub(super) struct Authority {
    pub(super) root: CertificateDer<'static>,
    pub(super) root_pem: String,
    pub(super) server: Arc<ServerConfig>,
}

impl Authority {
    /// Certificates for `localhost` and `127.0.0.1`.
    pub(super) fn new(http2: bool) -> io::Result<Self> {
        Self::make(http2).map_err(io::Error::other)
    }

    fn make(http2: bool) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Greenroom test authority");
        let key = KeyPair::generate()?;
        let root = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        let leaf_key = KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names)?.signed_by(&leaf_key, &issuer)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        if http2 {
            server.alpn_protocols.insert(0, b"h2".to_vec());
        }
        Ok(Self { root: root.der().clone(), root_pem: root.pem(), server: Arc::new(server) })
    }
}
