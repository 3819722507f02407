//! Images that leave one server and enter another.

use crate::support::{Server, assert_problem, path_text, problem_of, repository, until};
use greenroom_wire::ImportImage;
use serde_json::Value;
use std::path::{Path, PathBuf};

const RECIPE: &str = "[[steps]]\nname = \"made\"\nrun = \"echo made > /opt/made && date +%s%N >> /opt/made && chmod 4750 /opt/made\"\n";

struct Side {
    server: Server,
    _directory: tempfile::TempDir,
}

impl Side {
    fn with(source: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("greenroom.toml"), "image_schedule_minutes = 0\n[pool]\nmost = 0\n")
            .unwrap();
        let server = Server::start_in(&data);
        server.cli(&["repository", "add", "sample", path_text(source), "--wait"]);
        Self { server, _directory: directory }
    }

    fn there(&self) -> PathBuf {
        self.server.data().join("exchange/move")
    }

    fn images(&self) -> Vec<Value> {
        self.server.json(&["image", "list", "sample"]).as_array().unwrap().clone()
    }

    /// What a new session sees of what the step made.
    fn made(&self) -> String {
        let session = self.server.create_session("sample", None).unwrap().id;
        self.server
            .exec(session, "stat -c '%a %u:%g %Y' /opt/made; cat /opt/made; git status --porcelain")
            .output
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("blobs")).unwrap();
    for directory in ["", "blobs"] {
        for entry in from.join(directory).read_dir().unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                std::fs::copy(entry.path(), to.join(directory).join(entry.file_name())).unwrap();
            }
        }
    }
}

#[test]
fn an_image_goes_from_one_server_to_another_and_sessions_begin_on_it() {
    let source = repository(&[(".greenroom/environment.toml", RECIPE)]);
    let (here, there) = (Side::with(source.path()), Side::with(source.path()));
    let exported = here.server.json(&["image", "export", "sample", "--to", "move"]);
    assert_eq!(exported["directory"], path_text(&here.there()));
    assert_eq!(exported["image"], here.images()[0]["id"]);
    copy(&here.there(), &there.there());

    there.server.cli(&["image", "import", "sample", "--from", "move"]);
    let images = there.images();
    assert_eq!((images.len(), &images[0]["state"]), (2, &Value::from("ready")));
    assert_eq!(images[0]["commit"], here.images()[0]["commit"]);
    // The step writes the time, so that no other build has the same.
    assert_eq!(there.made(), here.made());
    let log = there.server.cli(&["image", "log", images[0]["id"].as_str().unwrap()]);
    assert!(log.contains("made (imported)"), "{log}");

    // A layer that was changed on the way, to where it is not known yet.
    let third = Side::with(source.path());
    copy(&here.there(), &third.there());
    for blob in third.there().join("blobs").read_dir().unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    let before = third.made();
    let newest = || third.images()[0].clone();
    let known = newest()["id"].clone();
    let body = ImportImage { from: "move".parse().unwrap() };
    third.server.wait(third.server.client().import_image(&"sample".parse().unwrap(), &body)).unwrap();
    let failed = until("the import is over", || Some(newest()).filter(|image| image["state"] != "building"));
    assert_ne!(failed["id"], known);
    assert_problem(&failed["problem"], "image_damaged");
    assert_eq!(third.made(), before, "the last good image stays in use");
}

#[test]
fn what_cannot_be_taken_is_refused_at_once_and_only_an_admin_may() {
    let source = repository(&[(".greenroom/environment.toml", RECIPE)]);
    let side = Side::with(source.path());
    let import = ["image", "import", "sample", "--from", "move"];
    assert_problem(&side.server.problem(&import), "file_unknown");
    side.server.cli(&["image", "export", "sample", "--to", "move"]);
    let told = side.there().join("image.json");
    let whole: Value = serde_json::from_slice(&std::fs::read(&told).unwrap()).unwrap();
    for (field, value) in [
        ("version", Value::from(2)),
        ("runtime_version", Value::from("overlay-9")),
        ("base_fingerprint", Value::from("other")),
        ("repository", Value::from("other")),
    ] {
        let mut image = whole.clone();
        image[field] = value;
        std::fs::write(&told, image.to_string()).unwrap();
        assert_problem(&side.server.problem(&import), "image_unfit");
    }
    let id = side.images()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(side.images().len(), 1, "nothing was begun");
    let token = side.server.member("mia");
    for arguments in [&import[..], &["image", "export", "sample", "--image", &id, "--to", "other"]] {
        let refused = side.server.cli_as(&token, &[&["--json"], arguments].concat());
        assert_problem(&problem_of(&refused), "not_allowed");
    }
    assert!(!side.server.data().join("exchange/other").exists());
}
