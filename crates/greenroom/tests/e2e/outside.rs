//! The outside of an installation: a proxy that answers for every host itself, over TLS with an authority of its own,
//! and repeats what it was sent.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub(crate) struct Outside {
    pub(crate) port: u16,
    /// PEM of who vouches for its hosts.
    pub(crate) root: String,
    seen: Arc<Mutex<String>>,
}

impl Outside {
    /// Is these hosts.
    pub(crate) fn start(names: &[&str]) -> Self {
        let (root, config) = identity(names);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::<Mutex<String>>::default();
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, kept) = (Arc::clone(&config), Arc::clone(&kept));
                std::thread::spawn(move || serve(stream, config, &kept));
            }
        });
        Self { port, root, seen }
    }

    /// Heads of all requests so far, each with the host it was for.
    pub(crate) fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }
}

fn identity(names: &[&str]) -> (String, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Another name than its leaf has by default: OpenSSL takes a leaf of its issuer's name for self-signed.
    params.distinguished_name.push(DnType::CommonName, "Authority of the outside");
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    (root, Arc::new(config))
}

/// A tunnel or a plain request, as a proxy gets them.
fn serve(mut stream: TcpStream, config: Arc<ServerConfig>, seen: &Mutex<String>) {
    let Some(head) = head(&mut stream) else { return };
    if !head.starts_with("CONNECT ") {
        return echo(&mut stream, &head, seen);
    }
    let host = head.split(' ').nth(1).unwrap_or_default().to_owned();
    if stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").is_err() {
        return;
    }
    let Ok(connection) = ServerConnection::new(config) else { return };
    let mut tls = StreamOwned::new(connection, stream);
    while let Some(head) = self::head(&mut tls) {
        echo(&mut tls, &format!("[{host}] {head}"), seen);
    }
}

fn head(stream: &mut impl Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn echo(stream: &mut impl Write, head: &str, seen: &Mutex<String>) {
    seen.lock().unwrap().push_str(head);
    let line = head.trim_end().replace("\r\n", "|");
    let answer = format!(
        "HTTP/1.1 200 OK\r\nX-Echo: {line}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{head}",
        head.len()
    );
    let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
}
