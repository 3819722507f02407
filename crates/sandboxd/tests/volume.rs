//! The volume of its own file: made, mounted where nobody else sees it, bounded, found again after a kill. As root only;
//! the whole program enters a mount namespace of its own before its first thread starts, as the server does.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unsafe_code, reason = "a function that runs before main")]

mod support;

use greenroom_sandbox::contract::{self, Subject};
use greenroom_sandbox::{ClaimSpec, Exit, ExitReason, Resources};
use greenroom_sandboxd::{LocalSettings, Mode, Volume, VolumeError, VolumeSettings};
use std::path::Path;

extern "C" fn enter() {
    greenroom_sandboxd::enter_private_mounts();
}

// SAFETY: the C library calls what stands in this section once, with the program's only thread, before main.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTER: extern "C" fn() = enter;

const GIB: u64 = 1 << 30;

fn settings() -> VolumeSettings {
    VolumeSettings { size_bytes: Some(4 * GIB) }
}

/// None where this user cannot mount; the test has nothing to say then.
fn volume(data: &Path) -> Option<Volume> {
    if std::fs::read_dir("/root").is_err() {
        return None;
    }
    let volume = Volume::open(data, &settings()).unwrap();
    assert!(volume.capability().is_available, "{:?}", volume.capability());
    Some(volume)
}

#[test]
fn a_volume_is_made_once_and_found_again() {
    let data = tempfile::tempdir().unwrap();
    let Some(first) = volume(data.path()) else { return };
    assert_eq!(first.root(), data.path().join("volume"));
    std::fs::write(first.root().join("kept"), "here").unwrap();
    drop(first);
    assert!(!data.path().join("volume/kept").exists(), "it is unmounted with its last handle");
    let again = volume(data.path()).unwrap();
    assert_eq!(std::fs::read(again.root().join("kept")).unwrap(), b"here");
    assert!(!data.path().join("volume.new").exists());
}

#[tokio::test]
async fn the_end_of_a_volume_comes_with_its_last_clone() {
    let data = tempfile::tempdir().unwrap();
    let Some(volume) = volume(data.path()) else { return };
    let storage = volume.storage().unwrap();
    let mut end = std::pin::pin!(volume.end().wait());
    drop(volume);
    tokio::select! {
        biased;
        () = &mut end => panic!("the storage still uses it"),
        () = std::future::ready(()) => {}
    }
    drop(storage);
    tokio::time::timeout(contract::PATIENCE, end).await.expect("in time");
    assert!(!data.path().join("volume/layers").exists());
}

#[test]
fn nobody_outside_sees_the_mount() {
    let data = tempfile::tempdir().unwrap();
    let Some(_volume) = volume(data.path()) else { return };
    let name = data.path().to_str().unwrap();
    let sees = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap().contains(name);
    assert!(sees("self"));
    assert!(!sees("1"));
}

/// The kernel ends a mount when nothing uses it any more, and writes its last blocks then.
fn until_detached(file: &Path) {
    let name = file.to_str().unwrap();
    let is_attached = || {
        let files = std::fs::read_dir("/sys/block").unwrap().flatten();
        let mut backing =
            files.filter_map(|device| std::fs::read_to_string(device.path().join("loop/backing_file")).ok());
        backing.any(|backing| backing.trim_end().ends_with(name))
    };
    let began = std::time::Instant::now();
    while is_attached() {
        assert!(began.elapsed() < contract::PATIENCE, "the kernel still has {name}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_damaged_volume_is_an_error_with_a_remedy_and_stays_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    let Some(whole) = volume(data.path()) else { return };
    drop(whole);
    let file = data.path().join("volume.btrfs");
    until_detached(&file);
    let length = std::fs::metadata(&file).unwrap().len();
    std::fs::write(&file, vec![7; 1 << 20]).unwrap();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length).unwrap();
    let error = Volume::open(data.path(), &settings()).unwrap_err();
    assert!(matches!(error, VolumeError::Unusable { .. }), "{error}");
    assert!(error.remedy().unwrap().starts_with("mv "), "{error}");
    assert!(file.exists());
    assert!(!data.path().join("workspaces").exists());
}

#[test]
fn a_data_directory_that_was_begun_without_a_volume_goes_on_without() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(data.path().join("workspaces/session")).unwrap();
    let volume = Volume::open(data.path(), &settings()).unwrap();
    assert_eq!(volume.root(), data.path());
    let capability = volume.capability();
    assert!(!capability.is_available && capability.remedy.is_some(), "{capability:?}");
    assert!(!data.path().join("volume.btrfs").exists());
}

#[test]
fn a_disk_without_room_for_a_volume_is_a_stated_fallback() {
    let data = tempfile::tempdir().unwrap();
    let small = VolumeSettings { size_bytes: Some(GIB) };
    let volume = Volume::open(data.path(), &small).unwrap();
    assert_eq!(volume.root(), data.path());
    assert!(!volume.capability().is_available);
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "nothing half done is left");
}

/// The other half of the next test: opens a volume, says so, and waits to be killed.
#[test]
#[ignore = "started by another test"]
fn holder() {
    let Ok(data) = std::env::var("GREENROOM_TEST_HOLD") else { return };
    let volume = Volume::open(Path::new(&data), &settings()).unwrap();
    std::fs::write(volume.root().join("written"), "by a process that was killed").unwrap();
    std::fs::write(Path::new(&data).join("ready"), "").unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_holder_leaves_nothing_and_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    if std::fs::read_dir("/root").is_err() {
        return;
    }
    let mut holder = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "holder"])
        .env("GREENROOM_TEST_HOLD", data.path())
        .spawn()
        .unwrap();
    support::eventually("the holder has its volume", || data.path().join("ready").exists());
    holder.kill().unwrap();
    // At once, while the kernel may still be taking the other mount down.
    let again = volume(data.path()).unwrap();
    let text = std::fs::read_to_string(again.root().join("written")).unwrap();
    assert_eq!(text, "by a process that was killed");
    holder.wait().unwrap();
    drop(again);
    support::eventually("no loop device holds the file", || devices_of(data.path()) == 0);
}

fn devices_of(data: &Path) -> usize {
    let name = data.join("volume.btrfs");
    let backing =
        |device: std::fs::DirEntry| std::fs::read_to_string(device.path().join("loop/backing_file"));
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    devices.filter_map(|device| backing(device).ok()).filter(|text| Path::new(text.trim()) == name).count()
}

/// Workspaces on a volume of their own. Nothing to say for ordinary users.
async fn with_volume<F: AsyncFnOnce(&Subject)>(promise: F) {
    with_settings(LocalSettings::default(), promise).await;
}

async fn with_settings<F: AsyncFnOnce(&Subject)>(settings: LocalSettings, promise: F) {
    let data = tempfile::tempdir().unwrap();
    let Some(volume) = volume(data.path()) else { return };
    let storage = volume.storage().unwrap();
    let settings = LocalSettings { mode: Mode::Root, volume: Some(volume), ..settings };
    support::with_subject_in(&storage.root().join("workspaces"), settings, promise).await;
}

macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            with_volume(async |subject| contract::$name(subject).await).await;
        })*
    };
}

promises! {
    basics,
    a_run_that_only_reads_finds_no_other_way_to_change_a_file,
    a_snapshot_begins_any_number_of_workspaces_and_is_not_changed_by_them,
    a_workspace_that_holds_files_ignores_what_it_could_begin_from,
    a_snapshot_of_a_busy_sandbox_is_one_instant,
    a_snapshot_never_replaces_what_is_there,
}

async fn bounded(subject: &Subject, script: &str) -> (String, Exit) {
    let mut spec = subject.spec();
    spec.resources = Resources { disk_bytes: Some(64 << 20), ..Resources::default() };
    let neighbour = subject.claim().await;
    let bomber = subject.claim_with(spec).await;
    let mut bomb = contract::shell("bomb", script);
    bomb.timeout_ms = 120_000;
    let ended = contract::finish(&*bomber, bomb).await;
    contract::run(&*neighbour, "head -c 100000000 /dev/zero > /workspace/large && sync /workspace/large")
        .await;
    assert!(matches!(
        bomber.write_file("/workspace/more", &vec![1; 1 << 20]).await,
        Err(greenroom_sandbox::Error::DiskFull)
    ));
    contract::run(&*bomber, "rm -rf /workspace/bomb").await;
    neighbour.destroy().await.unwrap();
    bomber.destroy().await.unwrap();
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_bomb_fills_its_own_disk_only() {
    with_volume(async |subject| {
        let (output, exit) =
            bounded(subject, "mkdir /workspace/bomb; head -c 1000000000 /dev/zero > /workspace/bomb/bytes")
                .await;
        assert_ne!(exit.reason, ExitReason::Code { code: 0 }, "{output}");
        assert!(output.contains("quota") || output.contains("space"), "{output}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_says_nothing_gets_the_bound_of_the_settings() {
    let settings = LocalSettings { disk: 64 << 20, ..LocalSettings::default() };
    with_settings(settings, async |subject| {
        let sandbox = subject.claim().await;
        let large = contract::shell("large", "head -c 100000000 /dev/zero > /workspace/large");
        let (output, exit) = contract::finish(&*sandbox, large).await;
        assert_ne!(exit.reason, ExitReason::Code { code: 0 }, "{output}");
        contract::run(&*sandbox, "rm /workspace/large && head -c 30000000 /dev/zero > /workspace/fits").await;
        sandbox.destroy().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inode_bomb_fills_its_own_disk_only() {
    with_volume(async |subject| {
        let script = "mkdir /workspace/bomb; cd /workspace/bomb; \
            python3 -c 'for n in range(2000000): open(str(n), \"x\").write(\"x\" * 500)'";
        let (output, exit) = bounded(subject, script).await;
        assert_ne!(exit.reason, ExitReason::Code { code: 0 }, "{output}");
        assert!(output.contains("quota") || output.contains("space"), "{output}");
    })
    .await;
}

fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_moves_into_the_workspace_that_its_blank_was_furnished_with() {
    const EVERYWHERE: [&str; 6] =
        ["/workspace", "/usr", "/usr/local", "/opt", "/var/lib/dpkg", "/var/lib/apt"];
    with_volume(async |subject| {
        let spares = subject.scratch.parent().unwrap().join("spare");
        let listed = || -> Vec<u64> {
            spares.read_dir().unwrap().map(|spare| inode(&spare.unwrap().path())).collect()
        };
        let made = listed();
        // Two are for claims that bring their files, such as one whose workspace is there already.
        let all = greenroom_sandboxd::DEFAULT_BLANKS - 2;
        assert_eq!(made.len(), all);
        let mut bringing = subject.spec();
        std::fs::create_dir_all(&bringing.workspace.directory).unwrap();
        for _ in 0..2 {
            subject.claim_with(bringing.clone()).await.destroy().await.unwrap();
            assert_eq!(listed(), made, "no furniture is carried out");
            bringing = next(&bringing);
        }

        let spec = subject.spec();
        let first = subject.claim_with(spec.clone()).await;
        assert!(made.contains(&inode(&spec.workspace.directory)), "one of those made in advance");
        for directory in EVERYWHERE {
            let script = format!("echo first > {directory}/greenroom-test && ls {directory} | wc -l");
            contract::run(&*first, &script).await;
        }
        let layer = first.suspend().await.unwrap().directory;

        // Every volume of the image has a layer now, so each is mounted again.
        let mut spec = subject.spec();
        spec.layers = vec![layer];
        support::eventually("the one that was taken is replaced", || listed().len() == all);
        let made = listed();
        let second = subject.claim_with(spec.clone()).await;
        assert!(made.contains(&inode(&spec.workspace.directory)));
        for directory in EVERYWHERE {
            let file = format!("{directory}/greenroom-test");
            let script =
                format!("cat {file} && echo second > {file} && rm {file} && mkdir {file} && rmdir {file}");
            assert_eq!(contract::run(&*second, &script).await, "first\n");
        }
        second.destroy().await.unwrap();

        // What is in a workspace already stays, and nothing is moved over it.
        let again = subject.claim_with(next(&spec)).await;
        let gone = "! ls /opt/greenroom-test /workspace/greenroom-test 2> /dev/null";
        contract::run(&*again, gone).await;
        again.destroy().await.unwrap();
    })
    .await;
    with_volume(async |subject| {
        subject.provider.set_blanks(0).await.unwrap();
        let spares = subject.scratch.parent().unwrap().join("spare");
        support::eventually("those of ended blanks are removed", || {
            spares.read_dir().unwrap().next().is_none()
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blanks_that_a_start_does_not_wait_for_follow_by_themselves() {
    let settings = LocalSettings { blanks: 12, ..LocalSettings::default() };
    with_settings(settings, async |subject| {
        support::eventually("all that were asked for", || subject.provider.ready_blanks() == 12);
    })
    .await;
}

/// The same workspace for its next owner.
fn next(spec: &ClaimSpec) -> ClaimSpec {
    let mut next = spec.clone();
    next.id.push_str("-next");
    next.fence.generation += 1;
    next
}
