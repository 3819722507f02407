//! The ordinary git program inside a sandbox: clone and push through the broker, and refusals in words.
#![allow(clippy::unwrap_used)]

mod support;

use greenroom_broker::{DenyReason, FORGE_HOST};
use greenroom_forge::Forge;
use support::*;

/// Options and URL with which git reaches the broker as from inside a sandbox: transparently or by its proxy.
async fn ways(world: &World) -> [(String, String); 2] {
    let plain = world.listen(80).await;
    let proxy = world.listen(3128).await;
    let port = plain.port();
    [
        (format!("http.curloptResolve={FORGE_HOST}:{port}:127.0.0.1"), format!("http://{FORGE_HOST}:{port}")),
        (format!("http.proxy=http://{proxy}"), format!("http://{FORGE_HOST}")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_and_pushes_through_the_broker() {
    let world = World::new().with_repository().await;
    for (n, (option, url)) in ways(&world).await.iter().enumerate() {
        let name = format!("clone{n}");
        let repository = if n == 0 { "demo".to_owned() } else { repository_id(1).to_string() };
        let url = format!("{url}/{repository}.git");
        let (ok, said) = git(world.scratch.path(), &["-c", option, "clone", "-q", &url, &name]).await;
        assert!(ok, "{said}");
        let tree = tree(&world, &name);
        let noise: String =
            (0u64..200_000).map(|n| format!("{:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        std::fs::write(tree.join(format!("file{n}")), noise).unwrap();
        git(&tree, &["add", "."]).await;
        git(&tree, &["commit", "-q", "-m", "work"]).await;
        let (ok, said) =
            git(&tree, &["-c", option, "push", "-q", "--force", "origin", "HEAD:greenroom/one"]).await;
        assert!(ok, "{said}");
        let (_, head) = git(&tree, &["rev-parse", "HEAD"]).await;
        let pushed =
            world.forge.branch_head(repository_id(1), &"greenroom/one".parse().unwrap()).await.unwrap();
        assert_eq!(pushed.unwrap().as_str(), head.trim());
    }
    assert!(world.denials().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_the_session_may_not_make_is_refused_in_words() {
    let world = World::new().with_repository().await;
    let [(option, url), _] = ways(&world).await;
    let url = format!("{url}/demo.git");
    assert!(git(world.scratch.path(), &["-c", &option, "clone", "-q", &url, "tree"]).await.0);
    let tree = tree(&world, "tree");
    git_as("mallory@example.com", &tree, &["commit", "-q", "--allow-empty", "-m", "x"]).await;
    let (ok, said) = git(&tree, &["-c", &option, "push", "origin", "HEAD:greenroom/one"]).await;
    assert!(!ok && said.contains("who neither prompted this session"), "{said}");
    let (ok, said) = git(&tree, &["-c", &option, "push", "origin", "HEAD:main"]).await;
    assert!(!ok && said.contains("this session may push only its own branch, greenroom/one"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_repositories_and_a_builds_pushes_are_refused_in_words() {
    let world = World::new().with_repository().await;
    let [(option, url), _] = ways(&world).await;
    let (ok, said) =
        git(world.scratch.path(), &["-c", &option, "clone", "-q", &format!("{url}/secret.git"), "x"]).await;
    assert!(!ok && said.contains("This session has no access to this repository."), "{said}");
    assert_eq!(world.denials(), [(FORGE_HOST.to_owned(), 80, DenyReason::Repository)]);

    assert!(
        git(world.scratch.path(), &["-c", &option, "clone", "-q", &format!("{url}/demo.git"), "tree"])
            .await
            .0
    );
    world.policies.0.lock().unwrap().as_mut().unwrap().push = None;
    let tree = tree(&world, "tree");
    git(&tree, &["commit", "-q", "--allow-empty", "-m", "x"]).await;
    let (ok, said) = git(&tree, &["-c", &option, "push", "origin", "HEAD:greenroom/one"]).await;
    assert!(!ok && said.contains("may fetch this repository, but not push to it"), "{said}");
}
