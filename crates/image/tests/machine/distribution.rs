//! A registry of images in this process: the pulling side of the OCI distribution protocol, with digests, an index of
//! platforms and tokens that have to be asked for.

use axum::Router;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// What it hands out to anybody, for one repository.
const TOKEN: &str = "for-team-sample";

#[derive(Debug, Default)]
struct Contents {
    /// By digest, with its media type.
    blobs: HashMap<String, (String, Vec<u8>)>,
    tags: HashMap<String, String>,
    fetched: Vec<String>,
}

/// Serves `team/sample`. Ends with the value.
#[derive(Debug)]
pub struct Distribution {
    pub address: SocketAddr,
    contents: Arc<Mutex<Contents>>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Shared {
    address: SocketAddr,
    contents: Arc<Mutex<Contents>>,
}

impl Distribution {
    pub async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let contents = Arc::new(Mutex::new(Contents::default()));
        let router = Router::new()
            .route("/v2/", get(greet))
            .route("/token", get(token))
            .route("/v2/team/sample/{kind}/{name}", get(answer))
            .with_state(Shared { address, contents: Arc::clone(&contents) });
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, contents, server }
    }

    pub fn image(&self, tag: &str) -> String {
        format!("{}/team/sample:{tag}", self.address)
    }

    /// Puts an image of these layers under the tag.
    pub fn push(&self, tag: &str, layers: &[&Path], env: &[&str]) {
        let mut contents = self.contents();
        let layers: Vec<Value> = layers
            .iter()
            .map(|path| {
                let bytes = std::fs::read(path).unwrap();
                let kind = if bytes.starts_with(&[0x1f, 0x8b]) { LAYER_GZIP } else { LAYER };
                contents.add(kind, bytes)
            })
            .collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": { "Env": env },
            "rootfs": { "type": "layers", "diff_ids": [] }, "history": [],
        });
        let config = contents.add(CONFIG, config.to_string().into_bytes());
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let mut ours = contents.add(MANIFEST, manifest.to_string().into_bytes());
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        ours["platform"] = json!({ "architecture": architecture, "os": "linux" });
        let mut other = ours.clone();
        other["platform"] = json!({ "architecture": "s390x", "os": "linux" });
        other["digest"] = json!(digest(b"never asked for"));
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [other, ours] });
        let index = contents.add(INDEX, index.to_string().into_bytes());
        contents.tags.insert(tag.to_owned(), index["digest"].as_str().unwrap().to_owned());
    }

    /// Layers that were fetched so far.
    pub fn layers_fetched(&self) -> usize {
        let contents = self.contents();
        let is_layer =
            |name: &&String| contents.blobs.get(*name).is_some_and(|(kind, _)| kind.starts_with(LAYER));
        contents.fetched.iter().filter(is_layer).count()
    }

    /// From now on every layer is another than its digest says.
    pub fn falsify(&self) {
        for (kind, bytes) in self.contents().blobs.values_mut() {
            if kind.starts_with(LAYER) {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            }
        }
    }

    pub fn stop(&self) {
        self.server.abort();
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap()
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Contents {
    /// Answers the descriptor.
    fn add(&mut self, kind: &str, bytes: Vec<u8>) -> Value {
        let (digest, size) = (digest(&bytes), bytes.len());
        self.blobs.insert(digest.clone(), (kind.to_owned(), bytes));
        json!({ "mediaType": kind, "digest": digest, "size": size })
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn refused(address: SocketAddr) -> Response {
    let challenge = format!(
        "Bearer realm=\"http://{address}/token\",service=\"sample\",scope=\"repository:team/sample:pull\""
    );
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
}

fn is_known(headers: &HeaderMap) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| value.as_bytes() == format!("Bearer {TOKEN}").as_bytes())
}

async fn greet(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if is_known(&headers) { StatusCode::OK.into_response() } else { refused(shared.address) }
}

async fn token(Query(asked): Query<HashMap<String, String>>) -> Response {
    let is_ours = asked.get("scope").is_some_and(|scope| scope == "repository:team/sample:pull");
    if is_ours && asked.get("service").is_some_and(|service| service == "sample") {
        axum::Json(json!({ "token": TOKEN, "expires_in": 300 })).into_response()
    } else {
        StatusCode::FORBIDDEN.into_response()
    }
}

async fn answer(
    State(shared): State<Shared>,
    UrlPath((kind, name)): UrlPath<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if !is_known(&headers) {
        return refused(shared.address);
    }
    let mut contents = shared.contents.lock().unwrap();
    let digest = if kind == "manifests" { contents.tags.get(&name).cloned() } else { None }.unwrap_or(name);
    contents.fetched.push(digest.clone());
    match contents.blobs.get(&digest) {
        None => StatusCode::NOT_FOUND.into_response(),
        Some((kind, bytes)) => {
            let about = [("content-type", kind.clone()), ("docker-content-digest", digest)];
            (about, bytes.clone()).into_response()
        }
    }
}
