//! How much of the disk images take, and what goes when it is too much.

use crate::support::{Server, assert_problem, git, until, write};
use greenroom_domain::SessionId;
use serde_json::Value;
use std::path::Path;

/// Of each image one layer of 400 MiB, made anew when `lock` changes.
const RECIPE: &str = "[[steps]]\nname = \"big\"\nrun = \"fallocate -l 400M /opt/big\"\ninputs = [\"lock\"]\n";
const LIMIT: u64 = 1 << 30;

struct Room {
    server: Server,
    clone: tempfile::TempDir,
    _data: tempfile::TempDir,
}

impl Room {
    fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        let settings = "layers_gib = 1\nimages_kept = 9\nimage_schedule_minutes = 0\n[pool]\nmost = 0\n";
        std::fs::write(data.join("greenroom.toml"), settings).unwrap();
        let server = Server::start_in(&data);
        server.add_repository("sample", &[(".greenroom/environment.toml", RECIPE), ("lock", "1")]);
        let clone = tempfile::tempdir().unwrap();
        let token = server.member("pusher");
        git(clone.path(), &["clone", "-q", &server.clone_url("pusher", &token, "sample"), "."]);
        Self { server, clone, _data: directory }
    }

    fn here(&self) -> &Path {
        self.clone.path()
    }

    /// Builds an image of a commit with another lock; answers what became of it.
    fn build(&self, lock: &str) -> Value {
        write(self.here(), "lock", lock);
        crate::support::commit_all(self.here());
        git(self.here(), &["push", "-q", "origin", "HEAD"]);
        let id = self.server.json(&["image", "build", "sample"])["id"].as_str().unwrap().to_owned();
        until("the build is over", || {
            let image = self.server.json(&["image", "show", &id]);
            (image["state"] != "building").then_some(image)
        })
    }

    fn images(&self) -> Vec<String> {
        let listed = self.server.json(&["image", "list", "sample"]);
        let ready = listed.as_array().unwrap().iter().filter(|image| image["state"] == "ready");
        ready.map(|image| image["id"].as_str().unwrap().to_owned()).collect()
    }

    fn session(&self) -> SessionId {
        let session = self.server.create_session("sample", None).unwrap().id;
        self.server.exec(session, "true");
        session
    }

    fn layers_bytes(&self) -> u64 {
        let disk = self.server.wait(self.server.client().machine_resources()).unwrap().disk;
        assert_eq!(disk.layers_limit_bytes, LIMIT);
        disk.layers_bytes
    }
}

#[test]
fn beyond_their_part_of_the_disk_the_oldest_images_that_nobody_uses_go_and_no_others() {
    let room = Room::open();
    let first = room.images();
    let on_first = room.session();
    let second = room.build("2")["id"].clone();
    assert_eq!(room.images().len(), 2);
    assert!(room.layers_bytes() > 800 << 20);
    let third = room.build("3")["id"].clone();
    until("the second image has gone", || (room.images().len() == 2).then_some(()));
    assert_eq!(room.images(), [third.as_str().unwrap(), &first[0]], "{second} was used by nobody");
    until("and its layers", || (room.layers_bytes() < LIMIT).then_some(()));
    assert_eq!(room.server.exec(on_first, "stat -c %s /opt/big").output, "419430400\n");

    // What is in use stays, also when it is too much; then nothing is built, and it is said.
    let on_third = room.session();
    assert_eq!(room.build("4")["state"], "ready");
    let refused = room.build("5");
    assert_problem(&refused["problem"], "disk_full");
    assert_eq!(room.images().len(), 3);
    room.server.cli(&["session", "delete", &on_third.to_string()]);
    assert_eq!(room.build("6")["state"], "ready");
    assert!(!room.images().contains(&third.as_str().unwrap().to_owned()));
    assert_eq!(room.server.exec(on_first, "stat -c %s /opt/big").output, "419430400\n");
}
