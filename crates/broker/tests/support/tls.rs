//! A TLS server with an authority of its own, and TLS clients as sandboxes have them.

use super::{World, read_all};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::sync::{Arc, Mutex, atomic::AtomicUsize, atomic::Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// A root, and what a server needs to be one of `names`.
pub fn identity(names: &[&str]) -> (CertificateDer<'static>, Arc<rustls::ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    (root, Arc::new(config))
}

/// Answers every request with `extra` header lines, and with the request's own head as header `X-Echo` and body.
#[derive(Debug)]
pub struct Echo {
    pub port: u16,
    pub root: CertificateDer<'static>,
    pub seen: Arc<Mutex<String>>,
    pub connections: Arc<AtomicUsize>,
}

pub async fn echo(names: &[&str], extra: &'static str) -> Echo {
    let (root, config) = identity(names);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, connections) = (Arc::<Mutex<String>>::default(), Arc::<AtomicUsize>::default());
    let (kept, counted) = (seen.clone(), connections.clone());
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, kept, counted) = (acceptor.clone(), kept.clone(), counted.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                counted.fetch_add(1, Ordering::SeqCst);
                answer_all(stream, &kept, extra).await;
            });
        }
    });
    Echo { port, root, seen, connections }
}

/// Keep-alive, requests without a body.
async fn answer_all(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Mutex<String>, extra: &str) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
        seen.lock().unwrap().push_str(&text);
        let line = text.trim_end().replace("\r\n", "|");
        let answer = format!(
            "HTTP/1.1 200 Fine\r\nX-Echo: {line}\r\n{extra}Content-Length: {}\r\n\r\n{text}",
            text.len()
        );
        // In two parts, so that what is sought may be cut.
        let middle = answer.len() - text.len() / 2;
        for part in [&answer[..middle], &answer[middle..]] {
            if stream.write_all(part.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl World {
    /// TLS over a stream as a program in the sandbox makes it, trusting the installation's authority alone.
    pub async fn tls<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        name: &str,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<S>> {
        let root = CertificateDer::from_pem_slice(self.authority.certificate_pem().as_bytes()).unwrap();
        let mut config = (*greenroom_broker::client(vec![root])).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from(name.to_owned()).unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// One request over TLS to a port, and its whole answer.
    pub async fn ask_tls(&self, port: u16, name: &str, head: &str) -> String {
        let mut stream = self.tls(self.connect(port), name).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream.write_all(head.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&read_all(&mut stream).await).into_owned()
    }
}
