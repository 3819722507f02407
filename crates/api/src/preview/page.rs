//! What a preview's address says instead of the preview: in words for people, as JSON for programs.

use super::Address;
use crate::error::status_of;
use axum::response::{Html, IntoResponse, Response};
use greenroom_domain::{ErrorCode, Problem};
use greenroom_wire::{ErrorBody, ErrorView};
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue};

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
/// Asks until the program answers, and only then loads anew: whoever reads or hears the page is not interrupted.
const WAITING: &str = "const again=async()=>{try{const answer=await fetch(location.href,{method:'HEAD',cache:'no-store'});\
    if(answer.status!==502)return location.reload()}catch{}setTimeout(again,2000)};setTimeout(again,1000)";
const STYLE: &str = "\
    :root{color-scheme:light dark}\
    body{margin:0;min-height:100vh;display:grid;place-items:center;background:light-dark(#f4f5ef,#0d1310);\
    color:light-dark(#15201a,#e5ece6);font:16px/1.55 ui-sans-serif,system-ui,sans-serif}\
    main{box-sizing:border-box;width:min(32rem,100vw);padding:2rem 1.25rem}\
    h1{font:600 1.5rem/1.25 ui-serif,Georgia,serif;margin:0 0 .75rem}\
    p{margin:.5rem 0}code,pre{font:.87em ui-monospace,Menlo,monospace}\
    pre{padding:.75rem;border-radius:8px;background:light-dark(#eceee5,#0a0f0d);overflow:auto;max-height:16rem}\
    small{color:light-dark(#5f6b63,#8d9a91)}\
    a{display:inline-block;margin-top:.75rem;padding:.6rem 1rem;border-radius:10px;text-decoration:none;font-weight:500;\
    background:light-dark(#0b5d3f,#57c596);color:light-dark(#fff,#05241a)}\
    a:focus-visible{outline:2px solid light-dark(#0b5d3f,#57c596);outline-offset:3px}";

pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("text/html")
}

pub(super) fn of(problem: &Problem, address: Address, product: &str, wants_page: bool) -> Response {
    // Without randomness the page stands still.
    let waits = wants_page && problem.code == ErrorCode::PortClosed;
    let nonce = if waits { super::grants::secret().ok() } else { None };
    let mut response = if wants_page {
        Html(in_words(problem, address, product, nonce.as_deref())).into_response()
    } else {
        axum::Json(in_json(problem)).into_response()
    };
    *response.status_mut() = status_of(problem);
    let headers = response.headers_mut();
    let policy = nonce.and_then(|nonce| {
        HeaderValue::try_from(format!("{POLICY}; connect-src 'self'; script-src 'nonce-{nonce}'")).ok()
    });
    headers.insert(CONTENT_SECURITY_POLICY, policy.unwrap_or(HeaderValue::from_static(POLICY)));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn in_json(problem: &Problem) -> ErrorBody {
    let request_id = crate::state::new_request_id().to_string();
    ErrorBody { error: ErrorView::of(problem.clone(), request_id) }
}

fn in_words(problem: &Problem, address: Address, product: &str, nonce: Option<&str>) -> String {
    let title = match problem.code {
        ErrorCode::PortClosed => format!("Nothing listens on port {} yet", address.port),
        ErrorCode::NotSignedIn => "This preview is not open to you".to_owned(),
        _ => "This preview cannot be shown".to_owned(),
    };
    // While a server inside is starting, the page finds it by itself.
    let waiting = nonce.map_or(String::new(), |nonce| {
        format!(
            "<p role=\"status\">This page opens by itself as soon as the program is up.</p><script nonce=\"{nonce}\">{WAITING}</script>"
        )
    });
    let hint = paragraph("p", problem.hint.as_deref());
    let detail = paragraph("pre", problem.detail.as_deref());
    let session = address.session;
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
        <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
        <title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1>\
        <p>{message}</p>{hint}{detail}{waiting}<p><small>{code}</small></p>\
        <a href=\"{product}/sessions/{session}?tab=details\">Go to the session</a></main>",
        title = escaped(&title),
        message = escaped(&problem.message),
        code = problem.code,
        product = escaped(product),
    )
}

fn paragraph(tag: &str, text: Option<&str>) -> String {
    text.map(|text| format!("<{tag}>{}</{tag}>", escaped(text))).unwrap_or_default()
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::SessionId;

    #[test]
    fn words_of_a_sandbox_are_text_never_markup() {
        let problem = Problem::new(ErrorCode::PortClosed, "<script>x</script>").hint("\"&").detail("<b>");
        let address = Address { session: SessionId::from_parts(1, 1), port: 3000 };
        let page = in_words(&problem, address, "http://localhost:1", None);
        assert!(!page.contains("<script") && !page.contains("<b>") && page.contains("&quot;&amp;"));
        assert!(page.contains("Nothing listens on port 3000 yet"));
    }

    #[test]
    fn only_a_page_that_waits_runs_a_script_and_only_its_own() {
        let address = Address { session: SessionId::from_parts(1, 1), port: 3000 };
        let answer = |code, wants_page| {
            of(&Problem::new(code, "No."), address, "http://localhost:1", wants_page).headers()
                [CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .to_owned()
        };
        let (one, other) = (answer(ErrorCode::PortClosed, true), answer(ErrorCode::PortClosed, true));
        assert!(one.contains("script-src 'nonce-") && one.starts_with(POLICY), "{one}");
        assert_ne!(one, other, "a nonce is used once");
        assert_eq!(answer(ErrorCode::PortClosed, false), POLICY);
        assert_eq!(answer(ErrorCode::Deadline, true), POLICY);
    }
}
