//! Attacks on the tools that look at a sandbox's files from outside: links that change while they are followed, pipes,
//! devices, names and trees of unusual shape.

use crate::world;
use crate::world::{PATIENCE, World, finish, shell, unique};
use greenroom_sandbox::Error;

/// Runs a script in the background until the sandbox ends.
async fn meanwhile(world: &World, script: &str) {
    let mut spec = shell(&unique("meanwhile"), script);
    spec.timeout_ms = 60_000;
    let mut events = world.first.exec(spec).await.unwrap();
    tokio::spawn(async move { while events.recv().await.is_some() {} });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_changes_while_it_is_read_leads_nowhere() {
    let world = world().await;
    let secret_file = world.facts["secret_file"].as_str().unwrap();
    let secret = world.facts["secret"].as_str().unwrap();
    let script = format!(
        "cd /workspace; echo own > own; mkdir -p real; echo own > real/file; mkdir -p away; ln -sfn {secret_file} away/file\n\
         while :; do ln -sfn own x; ln -sfn {secret_file} x; ln -sfn ../../../../../../..{secret_file} x; ln -sfn real d; ln -sfn away d; done"
    );
    meanwhile(&world, &script).await;
    let (mut own, mut rounds) = (0, 0);
    let began = std::time::Instant::now();
    // Until the race has run: on a slow machine every round may meet one and the same link.
    while rounds < 400 || (own == 0 && began.elapsed() < PATIENCE) {
        rounds += 1;
        for path in ["/workspace/x", "/workspace/d/file"] {
            if let Ok(content) = world.first.read_file(path, 0, 4096).await {
                assert!(
                    !String::from_utf8_lossy(&content.bytes).contains(secret),
                    "{path} gave the host's secret"
                );
                own += u32::from(content.bytes == b"own\n");
            }
        }
    }
    assert!(own > 0, "the sandbox's own file was never read: the race did not run");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_through_a_link_stays_inside() {
    let world = world().await;
    let target = world.scratch().join("data");
    let before = listing(&target);
    let script = format!(
        "cd /workspace; mkdir -p real; while :; do rm -rf d; ln -sfn {0} d; rm -f d; ln -sfn real d; done",
        target.display()
    );
    meanwhile(&world, &script).await;
    for n in 0..300 {
        // Either it lands in the sandbox, or it fails; the host sees nothing of it.
        let _ = world.first.write_file(&format!("/workspace/d/file-{n}"), b"planted").await;
    }
    assert_eq!(listing(&target), before);
    world.end().await;
}

fn listing(directory: &std::path::Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_refused_at_once() {
    let world = world().await;
    let script = "cd /workspace; mkfifo pipe; ln -s /dev/zero zero; ln -s /proc/self/mem mem; ln -s loop loop; mkdir dir; truncate -s 8T sparse";
    let (output, _) = finish(&*world.first, shell("things", script)).await;
    assert_eq!(output, "");
    for name in ["pipe", "loop", "dir", "mem"] {
        let path = format!("/workspace/{name}");
        let read = tokio::time::timeout(PATIENCE, world.first.read_file(&path, 0, 4096)).await.unwrap();
        assert!(
            matches!(read, Err(Error::File { .. } | Error::NotFound { .. } | Error::Invalid { .. })),
            "{path}: {read:?}"
        );
    }
    // Endless and enormous files are read as far as asked, not further.
    let sparse = world.first.read_file("/workspace/sparse", 0, 4096).await.unwrap();
    assert_eq!((sparse.bytes.len(), sparse.is_end), (4096, false));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_of_unusual_shape_can_be_listed_and_ended() {
    let world = world().await;
    let script = "import os\nos.chdir('/workspace')\nfor n in range(30000): open(f'f{n}','w').close()\n\
                  open('new\\nline \\x1b[31m \\udcff'.encode('utf-8','surrogateescape'),'w').close()\n\
                  for n in range(3000):\n  os.mkdir('d'*200); os.chdir('d'*200)\nprint('made')";
    let mut spec = shell("tree", "");
    spec.argv = ["/usr/bin/python3", "-c", script].map(str::to_owned).to_vec();
    spec.timeout_ms = 60_000;
    let (output, _) = finish(&*world.first, spec).await;
    assert_eq!(output, "made\n");
    let entries = world.first.list_dir("/workspace").await.unwrap();
    assert!((1000..=20_001).contains(&entries.len()), "{} entries", entries.len());
    let found = greenroom_sandbox::SearchQuery::Glob {
        root: "/workspace".into(),
        pattern: "**/f299*".into(),
        limit: 1000,
    };
    assert!(world.first.search(found).await.unwrap().matches >= 100);
    world.first.destroy().await.unwrap();
    world.is_responsive().await;
    world.end().await;
}

/// A search program is given the pattern and the tree of an attacker; it may be slow, but it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_in_a_hostile_tree_ends() {
    let world = world().await;
    let script = "cd /workspace; head -c 30000000 /dev/zero | tr '\\0' a > long; for i in $(seq 200); do ln -s .. up$i; done; echo '***[' > .gitignore";
    finish(&*world.first, shell("tree", script)).await;
    let query = greenroom_sandbox::SearchQuery::Grep {
        root: "/workspace".into(),
        pattern: "(a|aa)*b".into(),
        include: None,
        is_case_insensitive: true,
        context_lines: 50,
        limit: 1000,
    };
    let found =
        tokio::time::timeout(PATIENCE, world.first.search(query)).await.expect("a search has a deadline");
    assert!(found.map_or(true, |found| found.text.len() <= 1 << 20));
    world.end().await;
}
