//! The web page, embedded when the crate is built. Without a built page (a fresh clone) it says how to build it.
//!
//! Addresses of pages all answer `index.html`, which routes by itself; `/api` and `/git` never do. Files under
//! `/assets/` carry their content's hash in their names and are kept for ever; the rest is checked by ETag.

use crate::error::{ApiError, no_such_route};
use async_compression::Level;
use async_compression::tokio::write::{BrotliEncoder, GzipEncoder};
use axum::body::Body;
use axum::extract::Request;
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use rust_embed::{Embed, EmbeddedFile};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use tokio::io::AsyncWriteExt;

#[derive(Embed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Dist;

const INDEX: &str = "index.html";
/// Smaller files gain nothing.
const COMPRESS_FROM: usize = 1024;

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Greenroom</title>\
    <p>This server was built without its web page.\
    <p>Build the page with <code>cargo xtask demo</code>, or in <code>web/</code> with \
    <code>npm ci &amp;&amp; npm run build</code>, then build the server again.\
    <p>The API is at <a href=\"/api/v1/openapi.json\">/api/v1</a> as always.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Encoding {
    Brotli,
    Gzip,
}

/// The fallback of the router.
pub(crate) async fn page_or_asset(request: Request) -> Response {
    let path = request.uri().path();
    if is_of_programs(path) {
        return ApiError(no_such_route()).into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = crate::error::method_not_allowed(request).await.into_response();
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let asked = path.trim_start_matches('/');
    match Dist::get(asked).filter(|_| asked != INDEX) {
        Some(file) => answer(asked, file, request.headers()).await,
        None if is_page(path) => index(request.headers()).await,
        None => (StatusCode::NOT_FOUND, "There is no such file.\n").into_response(),
    }
}

fn is_of_programs(path: &str) -> bool {
    matches!(path.split('/').nth(1), Some("api" | "git" | "metrics" | "healthz" | "readyz"))
}

/// A page's address has no extension, unless it ends with a name that people gave; a missing file must not answer the
/// page.
fn is_page(path: &str) -> bool {
    let names = ["/sessions/", "/changes/", "/repositories/"];
    let last = path.rsplit('/').next().unwrap_or_default();
    names.iter().any(|name| path.starts_with(name))
        || (!path.starts_with("/assets/") && (last == INDEX || !last.contains('.')))
}

async fn index(headers: &HeaderMap) -> Response {
    match Dist::get(INDEX) {
        Some(file) => answer(INDEX, file, headers).await,
        None => Html(NOT_BUILT).into_response(),
    }
}

async fn answer(path: &str, file: EmbeddedFile, asked: &HeaderMap) -> Response {
    let encoding = chosen(asked).filter(|_| is_worth_compressing(&file));
    let etag = etag(&file, encoding);
    let mut response = if is_known(asked, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        whole(path, file, encoding).await
    };
    let headers = response.headers_mut();
    let keep = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert(ETAG, etag);
    }
    response
}

async fn whole(path: &str, file: EmbeddedFile, encoding: Option<Encoding>) -> Response {
    let kind = content_type(&file);
    let body = match encoding {
        Some(encoding) => compressed(path, &file, encoding).await,
        None => Bytes::from(file.data.into_owned()),
    };
    let mut response = Body::from(body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, kind);
    if let Some(encoding) = encoding {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    response
}

fn content_type(file: &EmbeddedFile) -> HeaderValue {
    let kind = file.metadata.mimetype();
    let is_text = kind.starts_with("text/") || kind.ends_with("javascript");
    let named = if is_text { format!("{kind}; charset=utf-8") } else { kind.to_owned() };
    HeaderValue::try_from(named).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

fn is_worth_compressing(file: &EmbeddedFile) -> bool {
    let kind = file.metadata.mimetype();
    let is_packed = (kind.starts_with("image/") && kind != "image/svg+xml") || kind.starts_with("font/");
    file.data.len() >= COMPRESS_FROM && !is_packed
}

fn etag(file: &EmbeddedFile, encoding: Option<Encoding>) -> String {
    let digest: String =
        file.metadata.sha256_hash().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digest}-{}\"", encoding.map_or("plain", Encoding::name))
}

fn is_known(asked: &HeaderMap, etag: &str) -> bool {
    let known = asked.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    known.split(',').any(|known| known.trim().trim_start_matches("W/") == etag)
}

fn chosen(asked: &HeaderMap) -> Option<Encoding> {
    let accepted = asked.get(ACCEPT_ENCODING)?.to_str().ok()?;
    let accepts = |name: &str| {
        let mut offers = accepted.split(',').map(str::trim);
        offers.any(|offer| offer.split(';').next() == Some(name) && !offer.ends_with("q=0"))
    };
    [Encoding::Brotli, Encoding::Gzip].into_iter().find(|encoding| accepts(encoding.name()))
}

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// As the page's build made it, else compressed once, when first asked for. The files are few and fixed, so this never grows.
async fn compressed(path: &str, file: &EmbeddedFile, encoding: Encoding) -> Bytes {
    static DONE: LazyLock<Mutex<HashMap<(String, Encoding), Bytes>>> = LazyLock::new(Mutex::default);
    let key = (path.to_owned(), encoding);
    let done = DONE.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    if let Some(done) = done {
        return done;
    }
    let built = (encoding == Encoding::Brotli).then(|| Dist::get(&format!("{path}.br"))).flatten();
    let made = match built {
        Some(built) => Bytes::from(built.data.into_owned()),
        None => Bytes::from(compress(&file.data, encoding).await),
    };
    DONE.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made.clone());
    made
}

async fn compress(data: &[u8], encoding: Encoding) -> Vec<u8> {
    let written = match encoding {
        Encoding::Brotli => {
            let mut encoder = BrotliEncoder::with_quality(Vec::new(), Level::Precise(5));
            (encoder.write_all(data).await.and(encoder.shutdown().await), encoder.into_inner())
        }
        Encoding::Gzip => {
            let mut encoder = GzipEncoder::new(Vec::new());
            (encoder.write_all(data).await.and(encoder.shutdown().await), encoder.into_inner())
        }
    };
    written.0.expect("writing to memory does not fail");
    written.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_built_is_embedded() {
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/dist/index.html");
        assert_eq!(Dist::get(INDEX).is_some(), std::path::Path::new(built).exists());
    }

    #[test]
    fn files_have_an_extension_and_pages_only_in_given_names() {
        for page in ["/", "/sessions/ses_01", "/repositories/left.pad", "/sign-in/link", "/index.html"] {
            assert!(is_page(page), "{page}");
        }
        for file in ["/assets/gone", "/favicon.ico", "/a/b.js"] {
            assert!(!is_page(file), "{file}");
        }
        assert!(is_of_programs("/api") && is_of_programs("/git/x") && !is_of_programs("/apiary"));
    }

    #[test]
    fn a_built_page_is_embedded() {
        let built = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/dist").join(INDEX);
        assert_eq!(Dist::get(INDEX).is_some(), built.exists());
    }

    #[tokio::test]
    async fn what_is_compressed_is_smaller() {
        let data = "the same words again ".repeat(1000);
        for encoding in [Encoding::Brotli, Encoding::Gzip] {
            let made = compress(data.as_bytes(), encoding).await;
            assert!(!made.is_empty() && made.len() < data.len() / 10, "{encoding:?}: {}", made.len());
        }
    }

    #[test]
    fn the_best_accepted_encoding_is_chosen() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            chosen(&headers)
        };
        assert_eq!(of("gzip, deflate, br"), Some(Encoding::Brotli));
        assert_eq!(of("gzip;q=0.5, br;q=0"), Some(Encoding::Gzip));
        assert_eq!(of("identity"), None);
    }
}
