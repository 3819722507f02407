//! The OpenAPI document: made from the annotated handlers, committed at docs/openapi.json, served by the server.
//!
//! What every route has in common (who may call it, how any route can fail) is added here, once.

use crate::routes;
use greenroom_wire::{BuildFrame, ClientFrame, ErrorBody, Frame, SessionsFrame};
use std::sync::LazyLock;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Greenroom",
        description = "Sessions of background coding agents: repositories, prompts, live streams, changes.\n\n\
            Every error has the shape of `ErrorBody`; its codes are stable. Times are milliseconds since 1970-01-01 UTC. \
            A request by cookie that changes something also needs an `Origin` equal to the server's own and the header \
            `X-Greenroom: 1`; a program uses a token.",
    ),
    servers((url = "/", description = "This server")),
    components(schemas(ClientFrame, Frame, BuildFrame, SessionsFrame, ErrorBody)),
    security(("cookie" = []), ("token" = [])),
    modifiers(&SecuritySchemes),
)]
pub(crate) struct Document;

struct SecuritySchemes;

impl Modify for SecuritySchemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let cookie = ApiKey::Cookie(ApiKeyValue::new(crate::layers::SESSION_COOKIE));
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(cookie));
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("grt_…").build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
    }
}

// Ways to fail that every route has.
const OF_ALL: &[(&str, &str)] = &[
    ("400", "`invalid_request`"),
    ("403", "`origin_refused`, `not_allowed`"),
    ("429", "`too_many_requests`"),
    ("500", "`internal`"),
    ("503", "`shutting_down`"),
    ("504", "`deadline`"),
];
const OF_PRIVATE: &[(&str, &str)] = &[("401", "`not_signed_in`")];
const OF_BODIES: &[(&str, &str)] = &[("413", "`too_large`")];

fn add_common_parts(document: &mut utoipa::openapi::OpenApi) {
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        add_errors(operation, OF_ALL);
        if !is_public(operation) {
            add_errors(operation, OF_PRIVATE);
        }
        if operation.request_body.is_some() {
            add_errors(operation, OF_BODIES);
        }
        describe_successes(operation);
    }
}

/// The specification wants a description of every answer.
fn describe_successes(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = "Done.".into();
        }
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.get, &mut path.post, &mut path.put, &mut path.patch, &mut path.delete].into_iter().flatten()
}

/// `security(())` at the handler.
fn is_public(operation: &Operation) -> bool {
    operation.security.is_some()
}

/// A handler's own description of a status comes before the common one.
fn add_errors(operation: &mut Operation, errors: &[(&str, &str)]) {
    for (status, description) in errors {
        let known = &mut operation.responses.responses;
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        let response =
            ResponseBuilder::new().description(*description).content("application/json", content).build();
        known.entry((*status).to_owned()).or_insert_with(|| response.into());
    }
}

/// The document of this build.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = routes::table().split_for_parts().1;
    add_common_parts(&mut document);
    document
}

/// As it is served and committed.
pub(crate) fn as_text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let json = openapi().to_pretty_json().expect("the document is made of strings");
        json + "\n"
    });
    &TEXT
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

    #[test]
    fn the_committed_openapi_document_is_that_of_this_code() {
        if std::env::var_os("GREENROOM_UPDATE").is_some() {
            std::fs::write(COMMITTED, as_text()).unwrap();
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            committed == as_text(),
            "docs/openapi.json is not what the code says. Run `GREENROOM_UPDATE=1 cargo test -p greenroom-api openapi`."
        );
    }

    #[test]
    fn every_route_of_the_openapi_document_is_described_and_named_once() {
        let mut names = std::collections::HashSet::new();
        for (path, mut item) in openapi().paths.paths {
            for operation in operations(&mut item) {
                let name = operation.operation_id.clone().unwrap_or_default();
                assert!(operation.summary.is_some(), "{path} has no summary");
                assert!(names.insert(name.clone()), "{name} twice");
            }
        }
    }

    #[test]
    fn both_directions_of_the_socket_are_in_the_openapi_document() {
        let schemas = openapi().components.unwrap().schemas;
        for name in ["ClientFrame", "Frame", "Command", "Event", "ErrorCode"] {
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
