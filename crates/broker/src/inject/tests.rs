//! What is added to which request, and what is not.

use super::*;

const PLACEHOLDER: &str = "greenroom-placeholder-0123456789abcdef";

fn injection(how: Inject, target: &str) -> Arc<Injection> {
    let targets = vec![InjectionTarget::parse(target).unwrap()];
    Arc::new(Injection::new("TOKEN", targets, how, PLACEHOLDER, SecretText::new("s3cr3t-value")).unwrap())
}

fn apply(one: &Arc<Injection>, path: &str, given: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        headers.append(*name, value.parse().unwrap());
    }
    let host = Host::parse("api.corp").unwrap();
    Injections(std::slice::from_ref(one)).apply(&host, 443, true, path, &mut headers);
    headers
}

#[test]
fn a_header_is_set_where_the_client_sent_none_or_the_placeholder() {
    let bearer = injection(Inject::Bearer, "api.corp");
    assert_eq!(apply(&bearer, "/", &[])["authorization"], "Bearer s3cr3t-value");
    let placed = format!("token {PLACEHOLDER}");
    assert_eq!(apply(&bearer, "/", &[("authorization", &placed)])["authorization"], "Bearer s3cr3t-value");
    assert_eq!(apply(&bearer, "/", &[("authorization", "Bearer mine")])["authorization"], "Bearer mine");
    let basic = injection(Inject::Basic { user: "ann".into() }, "api.corp");
    assert_eq!(apply(&basic, "/", &[])["authorization"], "Basic YW5uOnMzY3IzdC12YWx1ZQ==");
    let own = injection(Inject::Header { name: "x-api-key".parse().unwrap() }, "api.corp");
    assert_eq!(apply(&own, "/", &[])["x-api-key"], "s3cr3t-value");
}

#[test]
fn a_placeholder_is_replaced_in_every_header_but_those_that_lead() {
    let anywhere = injection(Inject::Placeholder, "api.corp");
    let encoded = format!("Basic {}", BASE64_STANDARD.encode(format!("ann:{PLACEHOLDER}")));
    let given = [("x-a", &*format!("k={PLACEHOLDER};")), ("host", PLACEHOLDER), ("authorization", &encoded)];
    let headers = apply(&anywhere, "/", &given);
    assert_eq!(headers["x-a"], "k=s3cr3t-value;");
    assert_eq!(headers["host"], PLACEHOLDER);
    assert_eq!(headers["authorization"], "Basic YW5uOnMzY3IzdC12YWx1ZQ==");
    assert!(apply(&anywhere, "/", &[]).is_empty());
}

#[test]
fn a_target_is_one_host_port_protocol_and_path() {
    let one = injection(Inject::Bearer, "https://api.corp/v1/");
    assert!(apply(&one, "/v1/x", &[]).contains_key("authorization"));
    assert!(apply(&one, "/v1", &[]).contains_key("authorization"));
    assert!(!apply(&one, "/v12", &[]).contains_key("authorization"));
    for disguised in [
        "/v1/../v2",
        "/v1/%2e%2e/v2",
        "/v1/.%252e/v2",
        "/v1/..;x/v2",
        "/v1/..%2fv2",
        "/v1\\..\\v2",
        "/v1/./x",
    ] {
        assert!(!apply(&one, disguised, &[]).contains_key("authorization"), "{disguised}");
    }
    assert!(apply(&one, "/v1/a..b?x=/../", &[]).contains_key("authorization"));
    let list = [one];
    let injections = Injections(&list);
    let host = |text: &str| Host::parse(text).unwrap();
    assert!(injections.concern(&host("API.corp."), 443, true));
    for (name, port, is_tls) in
        [("api.corp", 443, false), ("api.corp", 8443, true), ("x.api.corp", 443, true)]
    {
        assert!(!injections.concern(&host(name), port, is_tls), "{name}:{port}");
    }
    assert_eq!(
        injections.alias(&host("token.secret.greenroom.internal")).unwrap().to_string(),
        "api.corp/v1/"
    );
    for bad in ["*.corp", "*", "ftp://x", "a b", "https://x/y?z", "u:p@x"] {
        assert!(InjectionTarget::parse(bad).is_none(), "{bad}");
    }
    assert_eq!(InjectionTarget::parse("http://m.corp:4873").unwrap().to_string(), "http://m.corp:4873");
}

#[test]
fn every_form_of_a_secret_is_masked() {
    let one = injection(Inject::Basic { user: "ann".into() }, "api.corp");
    let list = [one];
    let mask = Injections(&list).mask(&Host::parse("api.corp").unwrap(), 443, true).unwrap();
    for text in ["s3cr3t-value", "czNjcjN0LXZhbHVl", "s3cr3t%2Dvalue", "YW5uOnMzY3IzdC12YWx1ZQ=="] {
        assert_eq!(mask.whole(text.as_bytes()), "*".repeat(text.len()).as_bytes(), "{text}");
    }
}

#[test]
fn a_value_that_would_break_a_header_is_refused_and_nothing_prints_one() {
    let target = InjectionTarget::parse("api.corp").unwrap();
    let bad = SecretText::new("a\r\nX: y");
    assert!(Injection::new("T", vec![target], Inject::Bearer, "", bad).is_none());
    assert!(!format!("{:?}", injection(Inject::Bearer, "api.corp")).contains("s3cr3t"));
}
