//! An import that meets a full disk, at every point at which it may: a small file system of the test's own, filled up to a
//! little less each time until the import fits.
#![allow(clippy::unwrap_used, reason = "only tests use it")]

use super::tests::{commit, exported, import, left};
use crate::attachments::Upload;
use crate::testing::{Bounds, World};
use greenroom_domain::{Command, CommandId, ErrorCode, Event};
use std::path::Path;

const DISK: &str = "size=24m";
const STEP: u64 = 96 * 1024;
/// In which the test runs again, with a file system that nobody else sees and that ends with it.
const INSIDE: &str = "GREENROOM_TEST_FULL_DISK";

fn run(program: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_import_that_meets_a_full_disk_leaves_nothing_and_gives_the_space_back() {
    let test = std::env::current_exe().unwrap();
    let namespaces = match rustix::process::geteuid().is_root() {
        true => &["--mount"][..],
        false => &["--user", "--map-root-user", "--mount"],
    };
    let output = std::process::Command::new("unshare")
        .args(namespaces)
        .arg(test)
        .args(["--exact", "--ignored", "--nocapture", "archive::full_disk::inside_its_own_file_system"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Bytes of what the import could leave: everything but the directory's database, which remembers the attempts' keys, and the
/// files that are kept in advance for sessions.
fn kept(data: &Path) -> u64 {
    let size = |path: &Path| std::fs::symlink_metadata(path).map_or(0, |found| found.len());
    let mut sum = 0;
    for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        let is_left_out = name.starts_with("greenroom.db") || name == ".spare" || name == "filler";
        sum += match entry.file_type().is_ok_and(|found| found.is_dir()) {
            _ if is_left_out => 0,
            true => kept(&path),
            false => size(&path),
        };
    }
    sum
}

fn fill(data: &Path, free: u64) {
    let space = rustix::fs::statvfs(data).unwrap();
    let left = space.f_bavail * space.f_frsize;
    let file = std::fs::File::create(data.join("filler")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, left.saturating_sub(free).max(1))
        .unwrap();
}

#[tokio::test]
#[ignore = "run by the test above, in a mount namespace of its own"]
async fn inside_its_own_file_system() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    run("mount", &["--make-rprivate", "/"]);
    run("mount", &["-t", "tmpfs", "-o", DISK, "none", data.path().to_str().unwrap()]);
    let world = World::start_on(data, Bounds::without_pool()).await;
    let row = world.add_repository("sample").await;
    let session = world.session(&world.admin, &row).await;
    let upload: Upload = Box::new(&[7; 900][..]);
    let file = world.app.attach(&world.admin, Some(session), "a.bin", None, upload).await.unwrap();
    let key: CommandId = "archive-it".parse().unwrap();
    let mut events = super::tests::one_turn(world.admin.as_author());
    if let Event::PromptAccepted { attachments, .. } = &mut events[0] {
        attachments.push(file);
    }
    world.inner().sessions().get(session).await.unwrap().record(events).await.unwrap();
    // What no compression makes smaller.
    let mut seed = 7_u64;
    let noise: String = (0..300_000)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b' ' + u8::try_from((seed >> 33) % 95).unwrap())
        })
        .collect();
    commit(&world, &row, session, &[("noise.txt", &noise)]);
    let archive = exported(&world, &world.admin, session).await;
    let archiving = greenroom_wire::SubmitCommand { key, command: Command::Archive {} };
    world.app.submit_command(&world.admin, session, archiving).await.unwrap();
    let data = world.data.path();
    let (before, bytes) = (left(&world, &row).await, kept(data));
    let mut refusals = vec![];
    for n in 1..60 {
        fill(data, n as u64 * STEP);
        let made = import(&world, &world.admin, n, None, &archive).await;
        std::fs::remove_file(data.join("filler")).unwrap();
        match made {
            Ok(made) => {
                assert!(refusals.len() > 3, "{refusals:?}");
                let (sessions, _, rest) = left(&world, &row).await;
                assert_eq!((sessions, rest), (before.0 + 1, before.2));
                world.app.session(&world.admin, made.id).await.unwrap();
                return;
            }
            Err(problem) => {
                assert_eq!(problem.code, ErrorCode::DiskFull, "{problem} {:?}", problem.detail);
                refusals.push(problem.message);
                assert_eq!(left(&world, &row).await, before, "{refusals:?}");
                let now = kept(data);
                assert!(now <= bytes + 16 * 1024, "{bytes} before, {now} after {refusals:?}");
            }
        }
    }
    panic!("it never fitted: {refusals:?}");
}
