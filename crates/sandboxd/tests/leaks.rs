//! Many claims leave nothing behind. Alone in its process, because it counts what the process holds.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use greenroom_sandbox::contract;
use support::{Traces, with_subject};

#[tokio::test(flavor = "multi_thread")]
async fn fifty_claims_leave_nothing_behind() {
    with_subject(async |subject| {
        let spec = subject.spec();
        // Before anything was taken, the most that is ever kept ready is there.
        let before = Traces::of(std::process::id());
        for _ in 0..50 {
            let sandbox = subject.claim_with(spec.clone()).await;
            assert_eq!(contract::run(&*sandbox, "echo here").await, "here\n");
            sandbox.destroy().await.unwrap();
        }
        let settled = async {
            while !Traces::of(std::process::id()).is_within(&before) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let settled = tokio::time::timeout(std::time::Duration::from_secs(20), settled).await;
        assert!(settled.is_ok(), "{before:?} became {:?}", Traces::of(std::process::id()));
    })
    .await;
}
