//! The provider of this machine against the contract: as root, and as an ordinary user.

use greenroom_sandbox::contract::{self, Recorder, Subject};
use greenroom_sandboxd::{LocalProvider, LocalSettings, Mode};
use std::sync::Arc;

/// Each promise is a test of its own, with a provider of its own.
async fn with_subject<F: AsyncFnOnce(&Subject)>(promise: F) {
    let egress = Arc::new(Recorder::default());
    let provider = LocalProvider::start(LocalSettings { mode: mode() }, egress.clone()).await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let subject = Subject { provider: provider.clone(), scratch: scratch.path().to_owned(), egress };
    promise(&subject).await;
    greenroom_sandbox::SandboxProvider::shutdown(&*provider).await.unwrap();
}

/// `GREENROOM_TEST_MODE=user` takes the ordinary user's way even as root.
fn mode() -> Mode {
    match std::env::var("GREENROOM_TEST_MODE").as_deref() {
        Ok("user") => Mode::User,
        _ => Mode::Auto,
    }
}

macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            with_subject(async |subject| contract::$name(subject).await).await;
        })*
    };
}

promises! {
    a_run_gives_its_output_and_exit_code,
    a_run_sees_its_environment_directory_and_input,
    a_missing_program_is_not_started,
    a_call_never_runs_twice,
    output_past_the_limit_is_counted_and_dropped,
    files_are_written_read_and_listed,
    a_search_finds_names_and_lines,
    a_workspace_outlives_its_sandbox,
    a_suspended_sandbox_becomes_a_layer,
    an_older_owner_is_refused,
    a_destroyed_sandbox_is_forgotten,
    a_run_past_its_time_is_ended,
    a_cancelled_run_takes_its_grandchildren_along,
    a_background_process_does_not_hold_the_exit_up,
    a_link_to_a_host_path_stays_inside,
    there_is_no_interface_but_lo,
    connections_arrive_with_their_destination,
    memory_past_the_limit_ends_only_what_is_inside,
    a_fork_bomb_is_contained,
    nothing_inside_reaches_the_kernel_or_other_namespaces,
}
