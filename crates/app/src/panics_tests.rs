//! What is left when work in a task of its own panics: nothing that waits for ever. Turns: `turns::panics`.
#![allow(clippy::unwrap_used, reason = "only tests use it")]

use crate::services::Services;
use crate::testing::{Bounds, PANICS, World, until};
use greenroom_domain::event::SandboxPhase;
use greenroom_domain::{ErrorCode, Event};
use greenroom_image::recipe::Service;
use greenroom_wire::Exec;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_claim_that_panics_fails_as_any_other_and_the_next_use_claims_again() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    world.sandboxes.panics.store(1, Ordering::Relaxed);
    let body = || Exec { command: "true".into(), timeout_ms: None };
    let refused = world.app.exec(&world.admin, session, body()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Internal);
    assert!(refused.message.contains("starting a sandbox panicked"), "{refused}");
    let is_told = |event: &Event| matches!(event, Event::SandboxChanged { state: SandboxPhase::Failed, .. });
    assert!(world.log(session).await.iter().any(|entry| is_told(&entry.event)));
    world.app.exec(&world.admin, session, body()).await.unwrap();
}

#[tokio::test]
async fn a_warm_sandbox_that_panics_on_its_way_leaves_the_pool_and_another_is_made() {
    let world = World::start(Bounds::pool(1, 1, 1)).await;
    world.sandboxes.panics.store(1, Ordering::Relaxed);
    let row = world.add_repository("sample").await;
    until("one was tried", async || world.sandboxes.panics.load(Ordering::Relaxed) == 0).await;
    until("it is out of the pool", async || world.settled(&[&row]).await == [0]).await;
    // The pause after a failure is over.
    world.inner().pool.forgive();
    world.inner().pool.wake();
    world.wait_for_ready(&[&row], &[1]).await;
}

#[tokio::test]
async fn who_waits_for_a_service_hears_that_nobody_looks_after_it() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    world.use_sandbox(&world.admin, session).await;
    let image = world.inner().newest_image(row.id).await.unwrap().unwrap();
    let mut manifest = (*world.inner().manifest(image).await.unwrap()).clone();
    manifest.services = vec![Service {
        name: "db".into(),
        run: PANICS.into(),
        ready: None,
        env: Default::default(),
        restart: true,
    }];
    let sandbox = world.inner().workspaces.ready_sandbox(session).unwrap();
    let services = Services::new(&manifest, sandbox, None);
    let problem = services.up(&["db".to_owned()]).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::ServiceFailed);
    assert!(problem.message.contains("is not looked after any more"), "{problem}");
}

#[tokio::test]
async fn a_delivery_that_panics_is_tried_again() {
    let world = World::start(Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    world.inner().outbox.panics.store(2, Ordering::Relaxed);
    let session = world.session(&world.admin, &row).await;
    let inner = world.inner();
    until("the directory knows it", async || inner.directory.session(session).await.unwrap().is_some()).await;
    until("nothing waits", async || inner.outbox.waiting_count() == 0).await;
    assert_eq!(inner.outbox.panics.load(Ordering::Relaxed), 0);
}
