//! Images that leave one machine and enter another: refused where they cannot run, used where they can.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod machine;
mod support;

use greenroom_domain::{ErrorCode, ExchangeName, Problem};
use greenroom_image::{
    BuildFailure, BuildRequest, Exchanged, Here, ImageManifest, LayerStore, export, runtime_version,
};
use greenroom_sandbox::SandboxProvider;
use machine::{Machine, tree};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{FakeProvider, Handle, Reply, Room};
use tokio::sync::mpsc;

const RECIPE: &str =
    "[[steps]]\nname = \"install\"\nrun = \"install\"\n[[checks]]\nname = \"tests\"\nrun = \"test\"\n";
const FILES: [(&str, &str); 1] = [(".greenroom/environment.toml", RECIPE)];

fn name() -> ExchangeName {
    "there".parse().unwrap()
}

/// As a person copies the directory to another machine.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("blobs")).unwrap();
    for file in files(from) {
        std::fs::copy(from.join(&file), to.join(&file)).unwrap();
    }
}

fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let names = |directory: &Path| -> Vec<PathBuf> {
        directory
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect()
    };
    let all = names(directory).into_iter().chain(names(&directory.join("blobs")));
    all.map(|path| path.strip_prefix(directory).unwrap().to_owned()).collect()
}

/// A repository with an image that was exported, and a machine that never built one.
struct Move {
    room: Room,
    image: ImageManifest,
    directory: PathBuf,
    elsewhere: tempfile::TempDir,
}

impl Move {
    async fn new() -> Self {
        let room = Room::new(FakeProvider::new(|_| Reply::Writes("made/file")), &FILES).await;
        let image = room.builder.build(room.request(), mpsc::channel(256).0).await.unwrap();
        let from =
            export(&room.builder.layers, &image, &"sample".parse().unwrap(), &name()).unwrap().directory;
        let elsewhere = tempfile::tempdir().unwrap();
        let directory = elsewhere.path().join("exchange/there");
        copy(&from, &directory);
        let mut moved = Self { room, image, directory, elsewhere };
        moved.room.builder.layers = LayerStore::open(moved.elsewhere.path()).unwrap();
        moved.room.provider.take_scripts();
        moved
    }

    fn here(&self) -> Here {
        Here {
            repository: "sample".parse().unwrap(),
            branch: "main".parse().unwrap(),
            runtime_version: runtime_version(&Handle(self.room.provider.clone()).capabilities()),
            base_fingerprint: self.room.builder.base_fingerprint.clone(),
        }
    }

    fn open(&self, here: &Here) -> Result<Exchanged, Problem> {
        Exchanged::open(&self.room.builder.layers, &name(), here)
    }

    fn refused(&self, here: &Here) -> Problem {
        self.open(here).unwrap_err()
    }

    async fn import(&self, request: BuildRequest) -> Result<ImageManifest, BuildFailure> {
        let exchanged = self.open(&self.here()).unwrap();
        let plan = self.room.builder.plan_import(request, exchanged).await?;
        self.room.builder.run(plan, mpsc::channel(256).0).await
    }

    /// Changes what is told of the image.
    fn tell(&self, field: &str, value: Value) {
        let path = self.directory.join("image.json");
        let mut image: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        image[field] = value;
        std::fs::write(path, image.to_string()).unwrap();
    }
}

fn is_one_sentence(problem: &Problem, code: ErrorCode) {
    assert_eq!(problem.code, code, "{problem:?}");
    assert!(problem.message.ends_with('.') && problem.hint.is_some(), "{problem:?}");
}

#[tokio::test]
async fn an_imported_image_is_published_as_a_build_is_and_runs_nothing() {
    let moved = Move::new().await;
    let request = moved.room.request();
    let image = moved.import(request.clone()).await.unwrap();
    assert!(moved.room.provider.seen.lock().unwrap().scripts.is_empty());
    let steps =
        |image: &ImageManifest| image.layers.iter().map(|layer| layer.step.clone()).collect::<Vec<_>>();
    assert_eq!(
        (image.id, &image.commit, steps(&image)),
        (request.image, &moved.image.commit, steps(&moved.image))
    );
    assert_eq!((&image.checks, &image.steps), (&moved.image.checks, &moved.image.steps));
    let read = |image: &ImageManifest| {
        let directory = moved.room.builder.layers.image_directory(image.id);
        ImageManifest::read(&directory, image.id, &moved.here().runtime_version).unwrap()
    };
    assert_eq!(read(&image), image);
    assert!(moved.room.log(request.image).contains("== install (imported)"));
    assert_eq!(moved.room.builder.layers.storage().builds().read_dir().unwrap().count(), 0);
    // Once more: the layers are there already.
    let again = moved.import(moved.room.request()).await.unwrap();
    assert_eq!(again.layers, image.layers);
    assert!(again.parts.iter().all(|part| part.is_reused));
}

#[tokio::test]
async fn keys_from_outside_are_not_taken_and_no_build_goes_on_from_an_import() {
    let moved = Move::new().await;
    let image = moved.import(moved.room.request()).await.unwrap();
    assert!(image.keys().all(|key| !moved.image.keys().any(|other| other == key)));
    let mut request = moved.room.request();
    // A second import finds the layers, which is another way to the manifest.
    let image = moved.import(moved.room.request()).await.map(Arc::new).unwrap();
    request.previous = Some(Arc::clone(&image));
    let built = moved.room.builder.build(request, mpsc::channel(256).0).await.unwrap();
    assert_eq!(moved.room.provider.take_scripts(), ["install", "test"]);
    assert!(built.keys().all(|key| !image.keys().any(|other| other == key)));
}

/// Overlay refuses a layer that lies in a chain twice.
#[tokio::test]
async fn the_same_bytes_in_two_places_are_two_layers() {
    let moved = Move::new().await;
    let path = moved.directory.join("image.json");
    let told: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let layer = told["layers"][0].clone();
    moved.tell("layers", json!([layer, layer]));
    let image = moved.import(moved.room.request()).await.unwrap();
    assert_eq!(image.keys().collect::<BTreeSet<_>>().len(), 2);
}

#[tokio::test]
async fn what_this_machine_cannot_run_is_refused_with_the_reason() {
    let moved = Move::new().await;
    let (here, fit) = (moved.here(), ErrorCode::ImageUnfit);
    for (change, word) in [
        (Here { runtime_version: "overlay-9-root".into(), ..here.clone() }, "overlay-9-root"),
        (Here { base_fingerprint: "other".into(), ..here.clone() }, "programs of another machine"),
        (Here { repository: "other".parse().unwrap(), ..here.clone() }, "other"),
        (Here { branch: "other".parse().unwrap(), ..here.clone() }, "other"),
    ] {
        let problem = moved.refused(&change);
        is_one_sentence(&problem, fit);
        assert!(problem.message.contains(word), "{problem:?}");
    }
    moved.tell("commit", json!("b".repeat(40)));
    let problem = moved.import(moved.room.request()).await.unwrap_err().problem;
    is_one_sentence(&problem, fit);
    moved.tell("version", json!(2));
    let problem = moved.refused(&here);
    is_one_sentence(&problem, fit);
    assert!(problem.message.contains("format 2"), "{problem:?}");
}

#[tokio::test]
async fn a_changed_byte_is_refused_and_nothing_of_it_is_published() {
    let mut moved = Move::new().await;
    let blobs: Vec<PathBuf> =
        files(&moved.directory).into_iter().filter(|path| path.starts_with("blobs")).collect();
    for blob in blobs {
        // A machine that has none of its layers: what is known already is not read again.
        let (elsewhere, path) = (tempfile::tempdir().unwrap(), moved.directory.join(blob));
        copy(&moved.directory, &elsewhere.path().join("exchange/there"));
        let path = elsewhere.path().join("exchange/there").join(path.strip_prefix(&moved.directory).unwrap());
        moved.room.builder.layers = LayerStore::open(elsewhere.path()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        // In zstd's own header, in the middle, and in the last byte.
        for at in [5, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let failure = moved.import(moved.room.request()).await.unwrap_err();
            is_one_sentence(&failure.problem, ErrorCode::ImageDamaged);
            assert!(failure.step.is_some());
        }
        let known = moved.room.builder.layers.list().unwrap().len();
        assert!(known < moved.image.layers.len(), "only those before it");
        assert_eq!(moved.room.builder.layers.storage().builds().read_dir().unwrap().count(), 0);
        std::fs::write(&path, whole).unwrap();
        moved.import(moved.room.request()).await.unwrap();
    }
}

#[tokio::test]
async fn a_description_that_no_export_wrote_is_refused() {
    let moved = Move::new().await;
    let here = moved.here();
    for (field, value) in [
        ("layers", json!([])),
        ("layers", json!([{ "name": "x", "blob": "../../../etc/passwd" }])),
        ("layers", json!([{ "name": "x", "blob": "0".repeat(64) }])),
        ("layers", json!([{ "name": "x\u{1b}[2J", "blob": "0".repeat(64) }])),
        ("checks", json!("x".repeat(2 * 1024 * 1024))),
    ] {
        let whole = std::fs::read(moved.directory.join("image.json")).unwrap();
        moved.tell(field, value);
        is_one_sentence(&moved.refused(&here), ErrorCode::ImageDamaged);
        std::fs::write(moved.directory.join("image.json"), whole).unwrap();
    }
    std::fs::remove_file(moved.directory.join("image.json")).unwrap();
    is_one_sentence(&moved.refused(&here), ErrorCode::FileUnknown);
}

#[tokio::test]
async fn the_same_image_is_the_same_blobs_and_another_does_not_overwrite_it() {
    let moved = Move::new().await;
    let sample = "sample".parse().unwrap();
    let first = LayerStore::open(&moved.room.directory.path().join("data")).unwrap();
    let again = |to: &str| export(&first, &moved.image, &sample, &to.parse().unwrap()).unwrap().directory;
    let there = again("there");
    assert_eq!(files(&there), files(&moved.directory));
    let elsewhere = again("elsewhere");
    for file in files(&there) {
        assert_eq!(std::fs::read(there.join(&file)).unwrap(), std::fs::read(elsewhere.join(&file)).unwrap());
    }
    let other = ImageManifest { id: moved.room.request().image, ..moved.image.clone() };
    let problem = export(&first, &other, &sample, &name()).unwrap_err();
    is_one_sentence(&problem, ErrorCode::NameTaken);
}

/// Exports the image and imports it where the machine has no layer, with the runtime that made it.
async fn moved(machine: &mut Machine, image: &ImageManifest, base_fingerprint: &str) -> ImageManifest {
    let sample = "sample".parse().unwrap();
    let from = export(&machine.builder.layers, image, &sample, &name()).unwrap().directory;
    let data = machine.directory.path().join("elsewhere");
    copy(&from, &data.join("exchange/there"));
    machine.builder.layers = LayerStore::open(&data).unwrap();
    let here = Here {
        repository: sample,
        branch: "main".parse().unwrap(),
        runtime_version: image.runtime_version.clone(),
        base_fingerprint: base_fingerprint.to_owned(),
    };
    let exchanged = Exchanged::open(&machine.builder.layers, &name(), &here).unwrap();
    let plan = machine.builder.plan_import(machine.request(None), exchanged).await.unwrap();
    machine.builder.run(plan, mpsc::channel(256).0).await.unwrap()
}

#[tokio::test]
async fn a_sandbox_of_the_imported_image_sees_the_same_files() {
    let text = tree::recipe(tree::SCRIPTS);
    let files = [(".greenroom/environment.toml", text.as_str()), ("lock", "1")];
    let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
    let mut machine = Machine::new(&files).await;
    let image = machine.built(None).await;
    let before = tree::listing(&machine, &image).await;
    tree::has_everything(&before);
    let imported = moved(&mut machine, &image, &image.base_fingerprint).await;
    assert_eq!(tree::listing(&machine, &imported).await, before);
    let (_, status) = machine.run(&imported, "git status --porcelain && git log -1 --format=%H").await;
    assert_eq!(status.trim(), image.commit.as_str(), "git finds nothing changed");
}

#[tokio::test]
async fn an_image_on_a_base_of_its_own_brings_it_to_a_host_with_other_programs() {
    let text =
        "base = \"archive:sample.tar\"\n[[steps]]\nname = \"write\"\nrun = \"cat /etc/new > /etc/made\"\n";
    let files = [(".greenroom/environment.toml".to_owned(), text.as_bytes().to_vec())];
    let mut machine = Machine::new(&files).await;
    let bases = machine.builder.layers.bases();
    std::fs::create_dir_all(&bases).unwrap();
    let place = tempfile::tempdir().unwrap();
    machine::root::save(place.path(), &bases.join("sample.tar"));
    let image = machine.built(None).await;
    let script = "cat /etc/made /etc/kept; echo \"$SAMPLE\"; ls -ln /root /etc/apt /etc/kept /etc/made /usr/bin; git status --porcelain | wc -l";
    let before = machine.run(&image, script).await;
    assert!(before.1.starts_with("new\nkept\nfrom the image\n"), "{}", before.1);
    let imported = moved(&mut machine, &image, "of other programs").await;
    assert_eq!(machine.run(&imported, script).await, before);
}
