//! What a provider said instead of an answer: HTTP errors and error events of all three protocols, turned into our
//! `Error`s. Messages of others are bounded and never hold the key.

use crate::provider::Error;
use crate::secret::Secret;
use http::HeaderMap;
use http::header::RETRY_AFTER;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// Bytes of an error's body that are read, and characters of its message that are shown.
pub(crate) const BODY_LIMIT: usize = 64 * 1024;
const MESSAGE_LIMIT: usize = 500;
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(3600);

/// Parts of messages and codes by which providers say that the conversation is too long.
const OVERFLOW_SIGNS: &[&str] = &[
    "context_length_exceeded",
    "exceed_context_size",
    "prompt is too long",
    "prompt too long",
    "maximum context length",
    "context window",
    "context length",
    "context limit",
    "available context size",
    "input is too long",
    "too many input tokens",
    "request_too_large",
    "input token count",
];

/// By which they say that a model cannot call tools.
const TOOLLESS_SIGNS: &[&str] = &[
    "does not support tools",
    "support tool use",
    "tools are not supported",
    "not support function calling",
];

/// By which they say that the account has nothing left.
const CREDIT_SIGNS: &[&str] =
    &["insufficient_quota", "billing_error", "credit balance is too low", "insufficient credits"];

/// By which they say, with a status of a bad request, that the key is none.
const KEY_SIGNS: &[&str] = &["api key not valid", "api_key_invalid"];

/// An error as the provider worded it.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    /// `error.type` and `error.code`, joined by a space.
    pub(crate) kind: String,
    pub(crate) message: String,
    /// An HTTP status inside the body: of an error that comes in a stream.
    status: Option<u16>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// Understands `{"error": {"type", "code", "status", "message", "details"}}`, a list of such, `{"error": "…"}`, `{"message": "…"}`, `{"detail": …}`.
    pub(crate) fn from_value(value: &Value) -> Self {
        let value = value.get(0).unwrap_or(value);
        let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let message = text(error)
            .or_else(|| error.get("message").and_then(text))
            .or_else(|| value.get("message").and_then(text))
            .or_else(|| value.get("detail").map(|detail| text(detail).unwrap_or_else(|| detail.to_string())))
            .unwrap_or_default();
        let kinds = ["type", "code", "status"].iter().filter_map(|key| error.get(*key).and_then(text));
        let status = error["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        Self {
            kind: kinds.collect::<Vec<_>>().join(" "),
            message,
            status: status.filter(|status| (400..600).contains(status)),
            retry_after: error["details"].as_array().into_iter().flatten().find_map(retry_delay),
        }
    }

    fn from_body(body: &[u8]) -> Self {
        if let Ok(value) = serde_json::from_slice::<Value>(body) {
            return Self::from_value(&value);
        }
        let text = String::from_utf8_lossy(body);
        let is_page = text.trim_start().starts_with('<');
        let message =
            if is_page { "it sent a web page instead of an answer".to_owned() } else { text.into_owned() };
        Self { message, ..Self::default() }
    }

    /// The error for an HTTP status, or for the status that an error event inside a stream stands for.
    pub(crate) fn into_error(
        self,
        status: u16,
        retry_after: Option<Duration>,
        key: Option<&Secret>,
    ) -> Error {
        let retry_after = retry_after.or(self.retry_after);
        match status {
            400..500 if status == 402 || self.says(CREDIT_SIGNS) => {
                Error::OutOfCredit { message: self.shown(status, key) }
            }
            400..500 if self.says(TOOLLESS_SIGNS) => Error::WithoutTools { message: self.shown(status, key) },
            400 if self.says(KEY_SIGNS) => Error::KeyRefused { status },
            401 | 403 => Error::KeyRefused { status },
            429 => Error::RateLimited { retry_after },
            408 | 409 | 500.. => Error::Overloaded { status, retry_after },
            400 | 413 | 422 if self.is_overflow() => {
                Error::ContextOverflow { message: self.shown(status, key) }
            }
            413 => Error::ContextOverflow { message: self.shown(status, key) },
            _ => Error::Invalid { status, message: self.shown(status, key) },
        }
    }

    /// The error for an error event inside a stream, where only the kind tells what happened.
    pub(crate) fn into_stream_error(self) -> Error {
        let kind = self.kind.to_lowercase();
        let has = |sign: &str| kind.contains(sign);
        let status = if let Some(status) = self.status {
            status
        } else if has("overloaded") || has("unavailable") {
            529
        } else if has("rate_limit") || has("insufficient_quota") || has("resource_exhausted") {
            429
        } else if has("authentication") || has("unauthenticated") || has("invalid_api_key") {
            401
        } else if has("permission") {
            403
        } else if has("not_found") {
            404
        } else if has("timeout") || has("deadline_exceeded") {
            504
        } else if has("invalid") || self.is_overflow() {
            400
        } else {
            500
        };
        self.into_error(status, None, None)
    }

    fn is_overflow(&self) -> bool {
        self.says(OVERFLOW_SIGNS)
    }

    fn says(&self, signs: &[&str]) -> bool {
        let said = format!("{} {}", self.kind, self.message).to_lowercase();
        signs.iter().any(|sign| said.contains(sign))
    }

    fn shown(&self, status: u16, key: Option<&Secret>) -> String {
        let message = if self.message.trim().is_empty() { &self.kind } else { &self.message };
        let message = key.map_or_else(|| message.clone(), |key| key.redact(message));
        let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = words.trim_end_matches('.');
        match words.char_indices().nth(MESSAGE_LIMIT) {
            _ if words.is_empty() && (300..400).contains(&status) => {
                "it answered with a redirect; check the address".to_owned()
            }
            _ if words.is_empty() => "it gave no reason".to_owned(),
            Some((end, _)) => format!("{}…", &words[..end]),
            None => words.to_owned(),
        }
    }
}

/// The error for an answer whose status is not 200.
pub(crate) fn http_error(status: u16, headers: &HeaderMap, body: &[u8], key: Option<&Secret>) -> Error {
    Refusal::from_body(body).into_error(status, retry_after(headers, SystemTime::now()), key)
}

/// Google's `RetryInfo`: seconds with an `s` behind them.
fn retry_delay(detail: &Value) -> Option<Duration> {
    let seconds = detail["retryDelay"].as_str()?.strip_suffix('s')?.parse().ok()?;
    Some(Duration::try_from_secs_f64(seconds).ok()?.min(RETRY_AFTER_LIMIT))
}

/// `retry-after-ms`, or `retry-after` in seconds or as a date; at most an hour.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let from_number = |text: &str, scale: f64| {
        text.parse::<f64>().ok().and_then(|number| Duration::try_from_secs_f64(number * scale).ok())
    };
    let milliseconds = text("retry-after-ms").and_then(|text| from_number(text, 0.001));
    let given = milliseconds.or_else(|| {
        let text = text(RETRY_AFTER.as_str())?;
        from_number(text, 1.0).or_else(|| {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        })
    });
    given.map(|duration| duration.min(RETRY_AFTER_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> Error {
        http_error(status, &HeaderMap::new(), body.as_bytes(), Some(&Secret::new("sk-12345")))
    }

    #[test]
    fn statuses_and_bodies_of_all_providers_are_classified() {
        let invalid = |status, message: &str| Error::Invalid { status, message: message.into() };
        let cases = [
            (401, "{}", Error::KeyRefused { status: 401 }),
            (403, "", Error::KeyRefused { status: 403 }),
            (529, "{}", Error::Overloaded { status: 529, retry_after: None }),
            (502, "<html>", Error::Overloaded { status: 502, retry_after: None }),
            (404, r#"{"error":{"message":"no model x."}}"#, invalid(404, "no model x")),
            (400, r#"{"error":"bad  thing\n"}"#, invalid(400, "bad thing")),
            (422, r#"{"detail":[{"msg":"field"}]}"#, invalid(422, r#"[{"msg":"field"}]"#)),
            (404, "<html>nginx", invalid(404, "it sent a web page instead of an answer")),
            (302, "", invalid(302, "it answered with a redirect; check the address")),
            (400, "", invalid(400, "it gave no reason")),
            (400, r#"{"message":"key sk-12345 is odd"}"#, invalid(400, "key [key] is odd")),
            (
                429,
                r#"{"error":{"code":"insufficient_quota","message":"no credit"}}"#,
                Error::OutOfCredit { message: "no credit".into() },
            ),
            (
                402,
                r#"{"error":{"code":402,"message":"Insufficient credits"}}"#,
                Error::OutOfCredit { message: "Insufficient credits".into() },
            ),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#,
                Error::OutOfCredit { message: "Your credit balance is too low".into() },
            ),
            (
                400,
                r#"{"error":{"message":"gemma:2b does not support tools"}}"#,
                Error::WithoutTools { message: "gemma:2b does not support tools".into() },
            ),
            (
                400,
                r#"[{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"API key not valid."}}]"#,
                Error::KeyRefused { status: 400 },
            ),
            (
                429,
                r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"7.5s"}]}}"#,
                Error::RateLimited { retry_after: Some(Duration::from_millis(7_500)) },
            ),
        ];
        for (status, body, expected) in cases {
            assert_eq!(error(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_conversation_that_is_too_long_is_recognised_in_each_providers_words() {
        let said = [
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 208310 tokens > 200000 maximum"}}"#,
            r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}"#,
            r#"{"error":{"code":"context_length_exceeded","message":"Your input exceeds"}}"#,
            r#"{"error":{"message":"This model's maximum context length is 4097 tokens."}}"#,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#,
        ];
        for body in said {
            assert!(matches!(error(400, body), Error::ContextOverflow { .. }), "{body}");
        }
        assert!(matches!(error(413, "{}"), Error::ContextOverflow { .. }));
    }

    #[test]
    fn retry_after_is_read_as_milliseconds_seconds_or_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(read("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO));
        assert_eq!(read("retry-after", "999999999"), Some(Duration::from_secs(3600)));
        assert_eq!(read("retry-after", "-3"), None);
        assert_eq!(read("retry-after", "soon"), None);
    }

    #[test]
    fn long_messages_are_cut_on_a_character_boundary() {
        let body = format!(r#"{{"error":"{}"}}"#, "é".repeat(2000));
        let Error::Invalid { message, .. } = error(400, &body) else { panic!("not invalid") };
        assert_eq!(message.chars().count(), MESSAGE_LIMIT + 1);
    }
}
