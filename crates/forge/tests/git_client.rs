//! The ordinary git program against the forge over HTTP: clone, fetch, push, and pushes refused in words.
#![allow(clippy::unwrap_used)]

mod support;

use greenroom_domain::{ErrorCode, PersonId};
use greenroom_forge::{Error, Forge, LocalForge, PushPolicy};
use std::path::Path;
use support::*;

/// Everything under a directory, as one string of bytes.
fn all_bytes(directory: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => bytes.extend(all_bytes(&path)),
            false => bytes.extend(std::fs::read(path).unwrap()),
        }
    }
    bytes
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

fn left_over(world: &World) -> Vec<String> {
    let names = std::fs::read_dir(world.bare().join("objects")).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("tmp_"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_git_clones_fetches_and_pushes_with_every_protocol_version() {
    let world = World::new().await;
    for version in ["0", "1", "2"] {
        let tree = world.scratch.path().join(format!("clone{version}"));
        let protocol = format!("protocol.version={version}");
        let url = world.server.url();
        git_ok(world.scratch.path(), &["-c", &protocol, "clone", "-q", &url, tree.to_str().unwrap()]).await;
        let branch = format!("topic{version}");
        git_ok(&tree, &["checkout", "-q", "-b", &branch]).await;
        let commit = commit_file(&tree, &format!("new{version}.txt"), "hello\n").await;
        git_ok(&tree, &["-c", &protocol, "push", "-q", "origin", &branch]).await;
        let head = world.forge.branch_head(repository_id(1), &branch.parse().unwrap()).await.unwrap();
        assert_eq!(head.unwrap().as_str(), commit);
        let other = world.clone_to(&format!("other{version}")).await;
        git_ok(&other, &["-c", &protocol, "fetch", "-q", "origin", &branch]).await;
        assert_eq!(git_ok(&other, &["rev-parse", "FETCH_HEAD"]).await, commit);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shallow_and_a_blobless_clone_work_and_can_push() {
    let world = World::new().await;
    let source = world.clone_to("source2").await;
    for n in 0..3 {
        commit_file(&source, "more.txt", &format!("{n}\n")).await;
    }
    git_ok(&source, &["push", "-q", "origin", "main"]).await;
    for (name, option) in [("shallow", "--depth=1"), ("blobless", "--filter=blob:none")] {
        git_ok(world.scratch.path(), &["clone", "-q", option, &world.server.url(), name]).await;
        let tree = world.scratch.path().join(name);
        git_ok(&tree, &["checkout", "-q", "-b", name]).await;
        commit_file(&tree, "own.txt", name).await;
        git_ok(&tree, &["push", "-q", "origin", name]).await;
    }
    let count = git_ok(&world.scratch.path().join("shallow"), &["rev-list", "--count", "HEAD"]).await;
    assert_eq!(count, "2");
    git_ok(&world.bare(), &["fsck", "--full", "--strict"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_deletions_and_large_pushes_of_a_person_work() {
    let world = World::new().await;
    let tree = world.clone_to("tree").await;
    git_ok(&tree, &["tag", "-a", "v1", "-m", "one"]).await;
    // More than git's post buffer: the request is probed first and then sent in chunks.
    let noise: String =
        (0u64..400_000).map(|n| format!("{:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    commit_file(&tree, "large.txt", &noise).await;
    git_ok(&tree, &["push", "-q", "origin", "main:topic", "v1"]).await;
    git_ok(&tree, &["push", "-q", "origin", ":topic"]).await;
    assert_eq!(world.forge.branch_head(repository_id(1), &"topic".parse().unwrap()).await.unwrap(), None);
    let refs = git_ok(&tree, &["ls-remote", "origin"]).await;
    assert!(refs.contains("refs/tags/v1^{}"), "{refs}");
    // Nothing new to send: an empty pack.
    git_ok(&tree, &["push", "-q", "origin", "origin/main:refs/heads/same"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_branch_of_a_person_only_moves_forward() {
    let world = World::new().await;
    let tree = world.clone_to("tree").await;
    git_ok(&tree, &["commit", "-q", "--amend", "-m", "Rewritten"]).await;
    let forced = git(&tree, &["push", "--force", "origin", "main"]).await;
    assert!(
        !forced.ok && forced.stderr.contains("the default branch main only moves forward"),
        "{}",
        forced.stderr
    );
    let deleted = git(&tree, &["push", "origin", ":main"]).await;
    assert!(deleted.stderr.contains("cannot be deleted"), "{}", deleted.stderr);
    git_ok(&tree, &["push", "-q", "--force", "origin", "main:topic"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_pushes_its_branch_and_is_told_in_words_what_it_may_not() {
    let world = World::new().await;
    world.server.allow(Some(session_policy("greenroom/one", &["Ann@example.com"])));
    let tree = world.clone_to("tree").await;
    commit_file(&tree, "a.txt", "a").await;
    git_ok(&tree, &["push", "-q", "origin", "HEAD:greenroom/one"]).await;
    git_ok(&tree, &["commit", "-q", "--amend", "-m", "Better"]).await;
    git_ok(&tree, &["push", "-q", "--force", "origin", "HEAD:greenroom/one"]).await;
    for (push, words) in [
        ("HEAD:main", "this session may push only its own branch, greenroom/one"),
        ("HEAD:refs/tags/v1", "may push only its own branch"),
        (":greenroom/one", "a session cannot delete its branch"),
        ("HEAD:refs/changes/1/head", "only branches and tags can be pushed"),
    ] {
        let ran = git(&tree, &["push", "origin", push]).await;
        assert!(!ran.ok && ran.stderr.contains(words), "{push}: {}", ran.stderr);
        assert!(ran.stderr.contains("[remote rejected]"), "{}", ran.stderr);
    }
    world.server.allow(None);
    assert!(!git(&tree, &["push", "origin", "HEAD:greenroom/two"]).await.ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_push_leaves_nothing_that_could_be_fetched() {
    let world = World::new().await;
    world.server.allow(Some(session_policy("greenroom/one", &["ann@example.com"])));
    let tree = world.clone_to("tree").await;
    let before = all_bytes(&world.bare().join("objects")).len();
    let commit = commit_file_as("mallory@example.com", &tree, "a.txt", "from somebody else").await;
    let ran = git(&tree, &["push", "origin", "HEAD:greenroom/one"]).await;
    assert!(!ran.ok && ran.stderr.contains("who neither prompted this session"), "{}", ran.stderr);
    assert!(ran.stderr.contains("remote: Authors and committers must be"), "{}", ran.stderr);
    let other = world.clone_to("other").await;
    let fetched = git(&other, &["fetch", "origin", &commit]).await;
    assert!(!fetched.ok, "the refused commit could be fetched");
    assert_eq!(left_over(&world), Vec::<String>::new());
    assert_eq!(all_bytes(&world.bare().join("objects")).len(), before);
    // The committer counts as well as the author.
    let ran = git_as(
        "mallory@example.com",
        &tree,
        ["commit", "-q", "--amend", "--author=Ann <ann@example.com>", "-m", "x"],
    );
    assert!(ran.await.ok);
    assert!(!git(&tree, &["push", "origin", "HEAD:greenroom/one"]).await.ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_over_the_limit_is_refused_with_the_limit() {
    let world = World::new().await;
    let mut policy = session_policy("one", &["ann@example.com"]);
    if let PushPolicy::Session { size_limit_bytes, .. } = &mut policy {
        *size_limit_bytes = 1_000_000;
    }
    world.server.allow(Some(policy));
    let tree = world.clone_to("tree").await;
    let noise: String =
        (0u64..400_000).map(|n| format!("{:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    commit_file(&tree, "large.txt", &noise).await;
    let ran = git(&tree, &["push", "origin", "HEAD:one"]).await;
    assert!(!ran.ok && ran.stderr.contains("larger than the limit of 1 MB"), "{}", ran.stderr);
    assert_eq!(left_over(&world), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_fsck_refuses_and_incomplete_packs_are_refused() {
    let world = World::new().await;
    let tree = world.clone_to("tree").await;
    let blob = git_ok(&tree, &["hash-object", "-w", "sum.txt"]).await;
    let mktree = format!("100644 blob {blob}\t.git\n");
    std::fs::write(tree.join("list"), mktree).unwrap();
    let made = tokio::process::Command::new("sh")
        .args(["-c", "git mktree < list"])
        .current_dir(&tree)
        .output()
        .await
        .unwrap();
    let bad = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let commit = git_ok(&tree, &["commit-tree", &bad, "-p", "HEAD", "-m", "bad"]).await;
    let ran = git(&tree, &["push", "origin", &format!("{commit}:refs/heads/bad")]).await;
    assert!(!ran.ok && ran.stderr.contains("remote unpack failed"), "{}", ran.stderr);
    // A branch that names a blob.
    let ran = git(&tree, &["push", "origin", &format!("{blob}:refs/heads/blob")]).await;
    assert!(!ran.ok, "{}", ran.stderr);
    assert_eq!(left_over(&world), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_pushes_to_a_branch_one_wins_and_nothing_breaks() {
    let world = World::new().await;
    let mut trees = Vec::new();
    for n in 0..6 {
        let tree = world.clone_to(&format!("tree{n}")).await;
        commit_file(&tree, "a.txt", &format!("{n}")).await;
        trees.push(tree);
    }
    let pushes = trees.iter().map(|tree| git(tree, &["push", "origin", "HEAD:main"]));
    let won = futures::future::join_all(pushes).await.iter().filter(|ran| ran.ok).count();
    assert_eq!(won, 1);
    let own = trees.iter().enumerate().map(|(n, tree)| async move {
        let target = format!("HEAD:branch{n}");
        git(tree, &["push", "origin", &target]).await
    });
    assert!(futures::future::join_all(own).await.iter().all(|ran| ran.ok));
    git_ok(&world.bare(), &["fsck", "--full", "--strict"]).await;
    assert_eq!(left_over(&world), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_are_made_from_trees_bare_ones_and_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let forge = LocalForge::open(&scratch.path().join("data")).unwrap();
    let tree = scratch.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    git_ok(&tree, &["init", "-q", "-b", "trunk"]).await;
    commit_file(&tree, "docs/a b.txt", "text").await;
    commit_file(&tree, "x", "y").await;
    git_ok(&tree, &["tag", "v1"]).await;
    git_ok(scratch.path(), &["clone", "-q", "--bare", "tree", "bare.git"]).await;
    let url = format!("file://{}", scratch.path().join("bare.git").display());
    let main = "trunk".parse().unwrap();
    for (n, source) in [(1, tree.to_str().unwrap()), (2, url.as_str())] {
        let id = repository_id(n);
        assert_eq!(forge.create_repository(id, Some(source)).await.unwrap(), main);
        assert_eq!(forge.create_repository(id, Some(source)).await.unwrap(), main, "a repeat is harmless");
        let head = forge.branch_head(id, &main).await.unwrap().unwrap();
        assert_eq!(forge.list_files(id, &head, "").await.unwrap(), ["docs/a b.txt", "x"]);
        assert_eq!(forge.list_files(id, &head, "docs").await.unwrap(), ["docs/a b.txt"]);
        assert_eq!(forge.list_files(id, &head, "none").await.unwrap(), Vec::<String>::new());
        assert_eq!(forge.read_file(id, &head, "docs/a b.txt", 10).await.unwrap().unwrap(), b"text");
        assert_eq!(forge.read_file(id, &head, "docs", 10).await.unwrap(), None);
        assert_eq!(forge.read_file(id, &head, "none", 10).await.unwrap(), None);
        assert!(forge.read_file(id, &head, "docs/a b.txt", 3).await.is_err());
        assert!(forge.read_file(id, &head, "../x", 3).await.is_err());
    }
    let empty = scratch.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    git_ok(&empty, &["init", "-q"]).await;
    for (n, source) in [(3, None), (4, empty.to_str())] {
        let branch = forge.create_repository(repository_id(n), source).await.unwrap();
        assert_eq!(branch.as_str(), "main");
        assert_eq!(forge.branch_head(repository_id(n), &branch).await.unwrap(), None);
    }
    forge.remove_repository(repository_id(1)).await.unwrap();
    forge.remove_repository(repository_id(1)).await.unwrap();
    let gone = forge.branch_head(repository_id(1), &main).await.unwrap_err();
    assert!(matches!(gone, Error::Refused(problem) if problem.code == ErrorCode::RepositoryUnknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_push_fills_an_empty_repository() {
    let scratch = tempfile::tempdir().unwrap();
    let forge = LocalForge::open(&scratch.path().join("data")).unwrap();
    forge.create_repository(repository_id(1), None).await.unwrap();
    let server = Server::start(forge.clone()).await;
    server.allow(Some(PushPolicy::Person(PersonId::from_parts(1, 1))));
    git_ok(scratch.path(), &["clone", "-q", &server.url(), "tree"]).await;
    let tree = scratch.path().join("tree");
    let commit = commit_file(&tree, "a", "b").await;
    git_ok(&tree, &["push", "-q", "origin", "HEAD:main"]).await;
    let head = forge.branch_head(repository_id(1), &"main".parse().unwrap()).await.unwrap();
    assert_eq!(head.unwrap().as_str(), commit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_cloned_leaves_nothing_and_no_secret() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let forge = LocalForge::open(&data).unwrap();
    let marker = scratch.path().join("ran");
    let ext = format!("ext::sh -c touch% {}", marker.display());
    let own = data.join("repositories");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let secret = format!("http://ann:hunter2secret@127.0.0.1:{port}/x.git");
    for source in ["/does/not/exist", "/tmp", &ext, own.to_str().unwrap(), &secret] {
        let error = forge.create_repository(repository_id(1), Some(source)).await.unwrap_err();
        let Error::Refused(problem) = &error else { panic!("{source}: {error}") };
        assert_eq!(problem.code, ErrorCode::CloneFailed);
        assert!(!format!("{error:?}").contains("hunter2secret"), "{error:?}");
    }
    assert!(!marker.exists());
    assert_eq!(std::fs::read_dir(data.join("repositories")).unwrap().count(), 0);
    assert!(!contains(&all_bytes(&data), "hunter2secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_url_reach_the_server_and_no_file() {
    let world = World::new().await;
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let forge = LocalForge::open(&data).unwrap();
    let (url, seen) = demand_credentials(&world).await;
    forge.create_repository(repository_id(1), Some(&url)).await.unwrap();
    let expected = "authorization: basic yw5uomh1bnrlcjjzzwnyzxq="; // ann:hunter2secret, lower-cased base64
    assert!(seen.lock().unwrap().to_ascii_lowercase().contains(expected), "never sent");
    let head = forge.branch_head(repository_id(1), &"main".parse().unwrap()).await.unwrap();
    assert!(head.is_some());
    assert!(!contains(&all_bytes(&data), "hunter2secret"));
    assert!(!contains(&all_bytes(&data), &url));
}

/// A server that answers 401 without credentials and otherwise passes on to the world's; and what it was sent.
async fn demand_credentials(world: &World) -> (String, std::sync::Arc<std::sync::Mutex<String>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let upstream = world.server.url();
    let (host, path) = upstream.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (host, path) = (host.to_owned(), path.to_owned());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let log = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (host, log) = (host.clone(), log.clone());
            tokio::spawn(async move {
                let mut head = vec![0; 16 * 1024];
                let read = stream.read(&mut head).await.unwrap();
                let text = String::from_utf8_lossy(&head[..read]).into_owned();
                log.lock().unwrap().push_str(&text);
                if !text.to_ascii_lowercase().contains("authorization:") {
                    let refusal = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    let _ = stream.write_all(refusal.as_bytes()).await;
                    return;
                }
                let mut upstream = tokio::net::TcpStream::connect(host).await.unwrap();
                upstream.write_all(&head[..read]).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
            });
        }
    });
    (format!("http://ann:hunter2secret@{address}/{path}"), seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_program_left_is_cleared_when_the_forge_opens() {
    let world = World::new().await;
    let quarantine = world.bare().join("objects/tmp_objdir-incoming-x");
    let unfinished = world.bare().parent().unwrap().join("unfinished-x");
    for path in [&quarantine, &unfinished] {
        std::fs::create_dir_all(path.join("pack")).unwrap();
    }
    LocalForge::open(&world.scratch.path().join("data")).unwrap();
    assert!(!quarantine.exists() && !unfinished.exists() && world.bare().exists());
}

/// A token as it is issued, put together so that this file holds none.
fn token() -> String {
    format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_brings_a_secret_is_refused_with_its_place_and_without_it() {
    let world = World::new().await;
    for (n, policy) in
        [session_policy("one", &["ann@example.com"]), PushPolicy::Person(PersonId::from_parts(1, 1))]
            .into_iter()
            .enumerate()
    {
        world.server.allow(Some(policy));
        let tree = world.clone_to(&format!("tree{n}")).await;
        git_ok(&tree, &["checkout", "-q", "-b", "one"]).await;
        commit_file(&tree, "src.txt", &format!("first\nkey = {}\n", token())).await;
        // Also when a later commit takes it out again: it would be in the history.
        commit_file(&tree, "src.txt", "first\n").await;
        let refused = git(&tree, &["push", "origin", "one"]).await;
        assert!(!refused.ok, "{}", refused.stderr);
        assert!(refused.stderr.contains("src.txt:2 looks like a GitHub token"), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("greenroom:allow-secret") && !refused.stderr.contains(&token()),
            "{}",
            refused.stderr
        );
        assert!(left_over(&world).is_empty());
        assert!(!contains(&all_bytes(&world.bare()), &token()));
    }
    let tree = world.clone_to("marked").await;
    git_ok(&tree, &["checkout", "-q", "-b", "one"]).await;
    commit_file(&tree, "test.txt", &format!("{} # greenroom:allow-secret\n", token())).await;
    git_ok(&tree, &["push", "-q", "origin", "one"]).await;
    // What is there already is not looked at again.
    commit_file(&tree, "more.txt", "more").await;
    git_ok(&tree, &["push", "-q", "origin", "one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_cannot_bring_what_the_installation_keeps_secret() {
    let world = World::new().await;
    world.forge.set_known_secrets(vec![b"our-model-key-1234".to_vec(), b"x".to_vec()]);
    let tree = world.clone_to("tree").await;
    git_ok(&tree, &["checkout", "-q", "-b", "one"]).await;
    commit_file(&tree, "x.bin", "\0\0our-model-key-1234 greenroom:allow-secret").await;
    let refused = git(&tree, &["push", "origin", "one"]).await;
    assert!(
        !refused.ok && refused.stderr.contains("x.bin:1 holds a secret of this installation"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("our-model-key"), "{}", refused.stderr);
    git_ok(&tree, &["reset", "-q", "--hard", "HEAD~1"]).await;
    git_ok(&tree, &["commit", "-q", "--allow-empty", "-m", "use our-model-key-1234"]).await;
    let refused = git(&tree, &["push", "origin", "one"]).await;
    assert!(!refused.ok && refused.stderr.contains("the message of commit"), "{}", refused.stderr);
}
