//! Builds against a provider whose programs are closures: what is run, reused, kept, told and cleaned away.

mod support;

use greenroom_domain::ErrorCode;
use greenroom_image::{BuildEvent, ImageManifest, SandboxSetup, build_fence, runtime_version};
use greenroom_sandbox::{ExitReason, SandboxProvider};
use support::{FakeProvider, Handle, Reply, Room, eventually};
use tokio::sync::mpsc;

const RECIPE: &str = r#"
[[steps]]
name = "dependencies"
run = "install"
[[steps]]
name = "schema"
run = "migrate"
[[checks]]
name = "tests"
run = "test"
optional = true
[env]
PATH = "/opt/tool:${PATH}"
[egress]
allow = ["registry.example.com"]
"#;

const FILES: [(&str, &str); 3] = [
    (".greenroom/environment.toml", RECIPE),
    ("AGENTS.md", "Be brief."),
    (".greenroom/skills/deploy/SKILL.md", "---\nname: deploy\ndescription: ship it\n---\n"),
];

fn events() -> (mpsc::Sender<BuildEvent>, mpsc::Receiver<BuildEvent>) {
    mpsc::channel(256)
}

fn all_well(_: &str) -> Reply {
    Reply::Exit("fine\n", 0)
}

#[tokio::test]
async fn a_build_makes_a_layer_per_step_and_a_manifest_to_start_from() {
    let room = Room::new(FakeProvider::new(all_well), &FILES).await;
    let request = room.request();
    let (sender, mut progress) = events();
    let manifest = room.builder.build(request.clone(), sender).await.unwrap();

    assert_eq!(room.provider.take_scripts(), ["install", "migrate", "test"]);
    let names: Vec<&str> = manifest.layers.iter().map(|layer| layer.step.as_str()).collect();
    assert_eq!(names, ["clone", "dependencies", "schema", "checks", "finish"]);
    assert_eq!(manifest.instructions.agents_md.as_deref(), Some("Be brief."));
    assert_eq!(manifest.instructions.skills[0].description, "ship it");
    assert_eq!(manifest.egress_allow, ["registry.example.com"]);
    assert!(manifest.checks[0].has_passed());

    let runtime = runtime_version(&Handle(room.provider.clone()).capabilities());
    let directory = room.builder.layers.image_directory(request.image);
    assert_eq!(ImageManifest::read(&directory, request.image, &runtime).unwrap(), manifest);
    let parts = manifest.claim_parts(&room.builder.layers, &SandboxSetup::default()).unwrap();
    assert_eq!(parts.layers.len(), 5);
    assert!(
        parts.env.iter().any(|(name, value)| name == "PATH" && value.starts_with("/opt/tool:/usr/local"))
    );

    let first = progress.recv().await.unwrap();
    assert!(matches!(first, BuildEvent::Planned { parts, .. } if parts.len() == 5));
    assert!(room.log(request.image).contains("== dependencies\nfine\n"));
    assert_eq!((room.leftovers(), room.provider.alive()), (0, 0));
}

#[tokio::test]
async fn every_sandbox_stands_on_the_layers_before_it_under_the_images_fence() {
    let room = Room::new(FakeProvider::new(all_well), &FILES).await;
    let request = room.request();
    room.builder.build(request.clone(), events().0).await.unwrap();
    let seen = room.provider.seen.lock().unwrap();
    let depths: Vec<usize> = seen.claims.iter().map(|claim| claim.layers.len()).collect();
    assert_eq!(depths, [0, 1, 2, 3, 4]);
    assert!(seen.claims.iter().all(|claim| claim.fence == build_fence(request.image)));
    assert_eq!(seen.files, request.setup.files);
}

#[tokio::test]
async fn a_second_build_of_the_same_commit_runs_nothing() {
    let room = Room::new(FakeProvider::new(all_well), &FILES).await;
    let first = room.builder.build(room.request(), events().0).await.unwrap();
    room.provider.take_scripts();
    let (sender, mut progress) = events();
    let second = room.builder.build(room.request(), sender).await.unwrap();
    assert!(room.provider.take_scripts().is_empty());
    assert_eq!(second.layers, first.layers);
    assert_eq!(second.checks, first.checks);
    assert!(second.parts.iter().all(|step| step.is_reused));
    progress.recv().await;
    assert_eq!(progress.recv().await, Some(BuildEvent::Reused { step: "clone".into() }));
}

#[tokio::test]
async fn a_devcontainer_is_built_and_what_it_leaves_open_is_said() {
    let path = ".devcontainer/devcontainer.json";
    let text = r#"{"features": {"x": {}}, "postCreateCommand": "make", "forwardPorts": [3000], /* */ }"#;
    let room = Room::new(FakeProvider::new(all_well), &[(path, text), ("Cargo.toml", "")]).await;
    let request = room.request();
    let manifest = room.builder.build(request.clone(), events().0).await.unwrap();
    assert_eq!(room.provider.take_scripts()[0], "make\n");
    assert_eq!(manifest.ports[0].port, 3000);
    assert_eq!(manifest.checks.len(), 2, "detection knows how to build and test");
    assert!(
        room.log(request.image).contains("== .devcontainer/devcontainer.json: features are not installed")
    );

    room.push(&[(path, r#"{"remoteEnv": {"A": "1"}}"#)]);
    let manifest = room.builder.build(room.request(), events().0).await.unwrap();
    assert_eq!(manifest.steps[0].name, "rust dependencies");
    assert_eq!(manifest.env["A"], "1");
    room.push(&[(".greenroom/environment.toml", "")]);
    let manifest = room.builder.build(room.request(), events().0).await.unwrap();
    assert!(manifest.steps.is_empty(), "a recipe of its own wins");
}

#[tokio::test]
async fn another_set_up_reuses_nothing() {
    let room = Room::new(FakeProvider::new(all_well), &FILES).await;
    let first = room.builder.build(room.request(), events().0).await.unwrap();
    let mut other_setup = room.request();
    other_setup.previous = Some(std::sync::Arc::new(first));
    other_setup.setup.env.push(("A".into(), "1".into()));
    let rebuilt = room.builder.build(other_setup, events().0).await.unwrap();
    assert!(rebuilt.parts.iter().all(|part| !part.is_reused));
}

#[tokio::test]
async fn a_failing_step_is_named_with_its_last_lines_and_leaves_the_good_image() {
    let room = Room::new(FakeProvider::new(all_well), &FILES).await;
    let good = room.builder.build(room.request(), events().0).await.unwrap();
    let broken = FakeProvider::new(|script| match script {
        "migrate" => Reply::Exit("creating\nno such table: people\n", 3),
        _ => Reply::Exit("", 0),
    });
    let mut builder = room.builder.clone();
    builder.sandboxes = std::sync::Arc::new(Handle(broken.clone()));
    room.push(&[("README.md", "x")]);
    let request = room.request();
    let layers = builder.layers.list().unwrap().len();
    let failure = builder.build(request.clone(), events().0).await.unwrap_err();

    assert_eq!(failure.step.as_deref(), Some("schema"));
    assert_eq!(failure.problem.code, ErrorCode::StepFailed);
    assert_eq!(failure.problem.message, "The step \"schema\" failed with exit code 3.");
    assert!(failure.problem.detail.unwrap().ends_with("no such table: people\n"));
    assert!(failure.problem.hint.is_some());
    assert_eq!(
        builder.layers.list().unwrap().len(),
        layers + 2,
        "clone and dependencies are kept for the next try"
    );
    assert_eq!((room.leftovers(), broken.alive()), (0, 0));
    assert!(room.log(request.image).contains("no such table"));
    assert!(good.claim_parts(&builder.layers, &SandboxSetup::default()).is_ok());
    let runtime = good.runtime_version;
    assert!(ImageManifest::read(&builder.layers.image_directory(good.id), good.id, &runtime).is_ok());
    assert!(
        ImageManifest::read(&builder.layers.image_directory(request.image), request.image, &runtime).is_err()
    );
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let provider = FakeProvider::new(|script| match script {
        "install" => Reply::Exit("bash: line 1: pnpm: command not found\n", 127),
        _ => Reply::Exit("", 0),
    });
    let room = Room::new(provider, &FILES).await;
    let failure = room.builder.build(room.request(), events().0).await.unwrap_err();
    assert_eq!(failure.problem.message, "The step \"dependencies\" needs pnpm, which is not in the sandbox.");
}

#[tokio::test]
async fn a_failing_check_fails_the_build_unless_it_is_optional() {
    let provider = || {
        FakeProvider::new(|script| match script {
            "test" => Reply::Exit("1 failed\n", 1),
            _ => Reply::Exit("", 0),
        })
    };
    let room = Room::new(provider(), &FILES).await;
    let manifest = room.builder.build(room.request(), events().0).await.unwrap();
    assert_eq!(manifest.checks[0].outcome, ExitReason::Code { code: 1 });
    let strict = RECIPE.replace("optional = true", "");
    let room = Room::new(provider(), &[(".greenroom/environment.toml", &strict)]).await;
    let failure = room.builder.build(room.request(), events().0).await.unwrap_err();
    assert_eq!((failure.problem.code, failure.step.as_deref()), (ErrorCode::CheckFailed, Some("tests")));
    assert_eq!((room.leftovers(), room.provider.alive()), (0, 0));
}

#[tokio::test]
async fn a_clone_that_fails_says_what_git_said() {
    let provider = FakeProvider::new(|_| Reply::Exit("fatal: unable to access\n", 128));
    let room = Room::new(provider, &FILES).await;
    let failure = room.builder.build(room.request(), events().0).await.unwrap_err();
    assert_eq!((failure.problem.code, failure.step.as_deref()), (ErrorCode::CloneFailed, Some("clone")));
    assert_eq!(failure.problem.detail.as_deref(), Some("fatal: unable to access\n"));
    assert!(room.builder.layers.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_broken_recipe_or_missing_branch_is_refused_before_any_sandbox() {
    let room = Room::new(FakeProvider::new(all_well), &[(".greenroom/environment.toml", "steps = 1")]).await;
    let failure = room.builder.build(room.request(), events().0).await.unwrap_err();
    assert_eq!((failure.problem.code, failure.step), (ErrorCode::RecipeInvalid, None));
    let mut request = room.request();
    request.branch = "other".parse().unwrap();
    let failure = room.builder.build(request, events().0).await.unwrap_err();
    assert_eq!(failure.problem.message, "The repository sample has no commit on its branch other.");
    assert!(room.provider.seen.lock().unwrap().claims.is_empty());
}

#[tokio::test]
async fn a_sandbox_that_is_lost_fails_the_build() {
    let provider = FakeProvider::new(|script| match script {
        "install" => Reply::Lost,
        _ => Reply::Exit("", 0),
    });
    let room = Room::new(provider, &FILES).await;
    let failure = room.builder.build(room.request(), events().0).await.unwrap_err();
    assert_eq!(failure.problem.code, ErrorCode::SandboxLost);
    assert_eq!(failure.problem.detail.as_deref(), Some("before the end\n"));
    assert_eq!((room.leftovers(), room.provider.alive()), (0, 0));
}

fn hanging() -> std::sync::Arc<FakeProvider> {
    FakeProvider::new(|script| match script {
        "install" => Reply::Hang("waiting\n"),
        _ => Reply::Exit("", 0),
    })
}

#[tokio::test]
async fn a_cancelled_build_cleans_up_before_it_answers() {
    let room = Room::new(hanging(), &FILES).await;
    let (sender, mut progress) = events();
    let request = room.request();
    let build = room.builder.build(request.clone(), sender);
    let cancel = async {
        while !matches!(progress.recv().await.unwrap(), BuildEvent::Output { step, .. } if step == "dependencies")
        {
        }
        request.cancel.cancel();
    };
    let (result, ()) = tokio::join!(build, cancel);
    assert_eq!(result.unwrap_err().problem.code, ErrorCode::Interrupted);
    assert_eq!((room.leftovers(), room.provider.alive()), (0, 0));
}

#[tokio::test]
async fn a_dropped_build_cleans_up_by_itself() {
    let room = Room::new(hanging(), &FILES).await;
    let (sender, mut progress) = events();
    tokio::select! {
        _ = room.builder.build(room.request(), sender) => panic!("it hangs"),
        () = async {
            while !matches!(progress.recv().await.unwrap(), BuildEvent::Output { step, .. } if step == "dependencies") {}
        } => {}
    }
    eventually("nothing is left", || room.leftovers() == 0 && room.provider.alive() == 0).await;
}

#[tokio::test]
async fn a_flood_of_output_is_bounded_and_a_reader_that_sleeps_holds_nothing_up() {
    let provider = FakeProvider::new(|script| match script {
        "install" => Reply::Flood(200),
        _ => Reply::Exit("", 0),
    });
    let room = Room::new(provider, &FILES).await;
    let (sender, progress) = mpsc::channel(32);
    let request = room.request();
    room.builder.build(request.clone(), sender).await.unwrap();
    let log = room.log(request.image);
    assert!(log.len() < 9 * 1024 * 1024 && log.contains("(more output was dropped)"));
    drop(progress);
}
