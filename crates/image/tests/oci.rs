//! Images on a base from a registry, pulled over the real protocol from one in this process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod machine;

use greenroom_domain::ErrorCode;
use greenroom_image::manifest::ImageBase;
use greenroom_image::{ImageManifest, Registries};
use greenroom_sandbox::ExitReason;
use machine::Machine;
use machine::distribution::Distribution;
use machine::root::save;
use tempfile::TempDir;

const ENV: [&str; 2] = ["PATH=/usr/bin:/bin", "SAMPLE=from the image"];

/// A registry that has `team/sample:1`, and a machine that may ask it.
async fn begin(path: &str, text: impl Fn(&str) -> String) -> (Distribution, Machine, TempDir) {
    let place = tempfile::tempdir().unwrap();
    save(place.path(), &place.path().join("unused.tar"));
    let registry = Distribution::serve().await;
    let layers = [place.path().join("save/one.tar"), place.path().join("save/two.tar")];
    registry.push("1", &[&layers[0], &layers[1]], &ENV);
    let files = [(path.to_owned(), text(&registry.image("1")).into_bytes())];
    let mut machine = Machine::new(&files).await;
    machine.builder.registries = Registries::with(vec![registry.address.to_string().parse().unwrap()]);
    (registry, machine, place)
}

fn recipe(image: &str) -> String {
    format!(
        "base = \"oci:{image}\"\n[[steps]]\nname = \"write\"\nrun = \"cat /etc/new > /etc/made\"\ninputs = [\"none\"]\n"
    )
}

fn key(image: &ImageManifest) -> &str {
    match &image.base {
        ImageBase::Unpacked { key, .. } => key.as_str(),
        ImageBase::Host => panic!("it stands on the host's root"),
    }
}

fn reused(image: &ImageManifest) -> Vec<&str> {
    image.parts.iter().filter(|part| part.is_reused).map(|part| &*part.name).collect()
}

#[tokio::test]
async fn an_image_stands_on_one_of_a_registry() {
    let (registry, machine, place) = begin(".greenroom/environment.toml", recipe).await;
    let first = machine.built(None).await;
    let script =
        "cat /etc/made /etc/kept && ! test -e /etc/gone && ! test -e /usr/bin/python3 && echo \"$SAMPLE\"";
    let (exit, output) = machine.run(&first, script).await;
    assert_eq!(exit, ExitReason::Code { code: 0 }, "{output}\n{}", machine.log(&first));
    assert_eq!(output, "new\nkept\nfrom the image\n");
    assert_eq!(registry.layers_fetched(), 2);

    machine.push(&[("README.md", "changed")]);
    let second = machine.built(Some(&first)).await;
    assert_eq!((reused(&second), registry.layers_fetched()), (vec!["base", "write"], 2));

    registry.push("1", &[&place.path().join("save/one.tar")], &ENV);
    let moved = machine.build(Some(&second)).await.unwrap_err();
    assert_eq!(moved.step.as_deref(), Some("write"), "the tag leads to an image without /etc/new now");
    registry.push("1", &[&place.path().join("save/one.tar"), &place.path().join("save/two.tar")], &["A=1"]);
    let third = machine.built(Some(&second)).await;
    assert_ne!(key(&third), key(&second));

    registry.stop();
    machine.push(&[("README.md", "again")]);
    let without = machine.built(Some(&third)).await;
    assert_eq!(key(&without), key(&third));
    assert!(machine.log(&without).contains("the base of the last image is used"));
    let refused = machine.build(None).await.unwrap_err();
    assert_eq!((refused.problem.code, refused.step.as_deref()), (ErrorCode::BaseUnavailable, Some("base")));
}

#[tokio::test]
async fn a_layer_that_is_not_what_its_digest_says_is_refused() {
    let (registry, machine, _place) = begin(".greenroom/environment.toml", recipe).await;
    registry.falsify();
    let refused = machine.build(None).await.unwrap_err();
    assert_eq!((refused.problem.code, refused.step.as_deref()), (ErrorCode::BaseUnavailable, Some("base")));
    assert!(machine.builder.layers.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_devcontainers_image_comes_from_its_registry() {
    let (registry, machine, _place) = begin(".devcontainer/devcontainer.json", |image| {
        format!(r#"{{ "image": "{image}", "onCreateCommand": "cat /etc/new > /etc/made", "containerEnv": {{ "SAMPLE": "own" }} }}"#)
    })
    .await;
    let image = machine.built(None).await;
    let (exit, output) =
        machine.run(&image, "cat /etc/made && echo \"$SAMPLE\" && ! test -e /usr/bin/python3").await;
    assert_eq!((exit, &*output), (ExitReason::Code { code: 0 }, "new\nown\n"), "{}", machine.log(&image));
    assert_eq!(registry.layers_fetched(), 2);
}
