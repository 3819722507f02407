//! Services that steps and checks have: up before, ended after, told when they fail.

mod support;

use greenroom_domain::ErrorCode;
use support::{FakeProvider, Reply, Room};
use tokio::sync::mpsc;

const RECIPE: &str = r#"
[[services]]
name = "db"
run = "postgres"
ready = { command = "pg_isready", within_seconds = 1 }
[[services]]
name = "unused"
run = "unused"
[[services]]
name = "queue"
run = "rabbit"
[[steps]]
name = "schema"
run = "migrate"
services = ["queue", "db"]
"#;

async fn build(
    program: fn(&str) -> Reply,
) -> (Room, Result<greenroom_image::ImageManifest, greenroom_image::BuildFailure>) {
    let room = Room::new(FakeProvider::new(program), &[(".greenroom/environment.toml", RECIPE)]).await;
    let built = room.builder.build(room.request(), mpsc::channel(256).0).await;
    (room, built)
}

#[tokio::test]
async fn a_step_has_the_services_it_names_in_the_recipes_order() {
    let (room, built) = build(|script| match script {
        "postgres" | "rabbit" => Reply::Hang("listening\n"),
        _ => Reply::Exit("", 0),
    })
    .await;
    let manifest = built.unwrap();
    assert_eq!(room.provider.take_scripts(), ["postgres", "pg_isready", "rabbit", "migrate"]);
    assert_eq!(room.provider.seen.lock().unwrap().cancelled, 2, "both were ended before the layer was kept");
    assert_eq!(manifest.services.len(), 3);
    assert!(room.log(manifest.id).contains("== service db is up\n"));
}

#[tokio::test]
async fn a_service_that_ends_or_never_gets_ready_fails_the_step_with_its_output() {
    let (room, built) = build(|script| match script {
        "postgres" => Reply::Exit("could not bind\n", 1),
        "pg_isready" => Reply::Exit("", 2),
        _ => Reply::Exit("", 0),
    })
    .await;
    let failure = built.unwrap_err();
    assert_eq!((failure.problem.code, failure.step.as_deref()), (ErrorCode::ServiceFailed, Some("schema")));
    assert!(failure.problem.message.starts_with("The service \"db\" ended before it was up"));
    assert_eq!(failure.problem.detail.as_deref(), Some("could not bind\n"));
    assert_eq!((room.leftovers(), room.provider.alive()), (0, 0));

    let (room, built) = build(|script| match script {
        "postgres" => Reply::Hang("starting\n"),
        "pg_isready" => Reply::Exit("", 2),
        _ => Reply::Exit("", 0),
    })
    .await;
    let problem = built.unwrap_err().problem;
    assert_eq!(problem.message, "The service \"db\" was not up within 1 s.");
    assert_eq!(room.provider.seen.lock().unwrap().cancelled, 1);
    assert_eq!((room.leftovers(), room.provider.alive()), (0, 0));
}
