//! Long chains become one layer when they are published: nothing in it is different, and nothing runs again because of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod machine;
mod support;

use greenroom_image::store::LONG_CHAIN;
use greenroom_image::{ImageManifest, LayerKey};
use greenroom_sandbox::ExitReason;
use machine::Machine;
use std::collections::HashSet;
use std::sync::Arc;
use support::{FakeProvider, Reply, Room};
use tokio::sync::mpsc;

/// A step for each script.
fn recipe<S: AsRef<str>>(scripts: impl IntoIterator<Item = S>) -> String {
    let steps = scripts.into_iter().enumerate();
    let step = |(number, script): (usize, S)| {
        format!("[[steps]]\nname = \"s{number}\"\nrun = '''{}'''\ninputs = [\"lock\"]\n", script.as_ref())
    };
    steps.map(step).collect()
}

fn writes_elsewhere(_: &str) -> Reply {
    Reply::Writes("made/file")
}

#[tokio::test]
async fn a_long_chain_is_published_as_one_layer_and_no_step_runs_again_for_it() {
    let text = recipe((0..LONG_CHAIN).map(|number| format!("run {number}")));
    let files = [(".greenroom/environment.toml", text.as_str()), ("lock", "1"), ("source", "1")];
    let room = Room::new(FakeProvider::new(writes_elsewhere), &files).await;
    let first = room.builder.build(room.request(), mpsc::channel(1024).0).await.unwrap();
    assert_eq!(first.layers.len(), 1);
    assert_eq!(room.provider.take_scripts().len(), LONG_CHAIN);

    // What a collection with this image alone leaves is enough for the next build.
    let live: HashSet<LayerKey> = first.keys().chain(first.build_keys()).cloned().collect();
    room.builder.layers.begin_collection().remove_unused(&live, i64::MAX).unwrap();
    room.push(&[("source", "2")]);
    let mut request = room.request();
    request.previous = Some(Arc::new(first.clone()));
    let second = room.builder.build(request, mpsc::channel(1024).0).await.unwrap();
    assert_eq!(room.provider.take_scripts(), [""; 0]);
    assert_eq!(second.layers.len(), 1);
    assert_ne!(second.layers, first.layers);
}

#[tokio::test]
async fn what_a_build_found_stays_while_it_runs_whatever_is_collected_meanwhile() {
    let text = recipe(["known", "slow"]);
    let files = [(".greenroom/environment.toml", text.as_str()), ("lock", "1"), ("source", "1")];
    let program = |script: &str| match script {
        "slow" => Reply::Hang("waits\n"),
        _ => Reply::Writes("made/file"),
    };
    let room = Room::new(FakeProvider::new(program), &files).await;
    let (progress, _events) = mpsc::channel(1024);
    let request = room.request();
    let cancel = request.cancel.clone();
    let builder = room.builder.clone();
    let build = tokio::spawn(async move { builder.build(request, progress).await });
    support::eventually("the slow step runs", || {
        room.provider.seen.lock().unwrap().scripts.iter().any(|script| script == "slow")
    })
    .await;
    for _ in 0..2 {
        room.builder.layers.begin_collection().remove_unused(&HashSet::new(), i64::MAX).unwrap();
    }
    assert_eq!(room.builder.layers.list().unwrap().len(), 2, "the clone and the first step");
    cancel.cancel();
    build.await.unwrap().unwrap_err();
    for _ in 0..2 {
        room.builder.layers.begin_collection().remove_unused(&HashSet::new(), i64::MAX).unwrap();
    }
    assert_eq!(room.builder.layers.list().unwrap().len(), 0, "it held on for nobody");
}

/// Everything that overlay shows by other means than by a plain file.
const SCRIPTS: [&str; 5] = [
    "mkdir -p t/opaque t/gone/deep t/kept t/turned && cd t && echo low > opaque/low && echo a > gone/deep/a && \
     echo one > one && echo both > kept/both && echo x > file-to-directory && echo d > turned/d && \
     ln -s one link && ln -s /nowhere dangling && mkfifo fifo && truncate -s 1000000 holes && echo end >> holes",
    "cd t && chmod 4751 one && mkdir closed && chmod 1733 closed && touch -d 2001-02-03T04:05:06Z one && \
     python3 -c 'import os; os.setxattr(\"one\", \"user.note\", b\"kept\")'",
    "cd t && rm -r gone && rm -r opaque && mkdir opaque && echo high > opaque/high && rm file-to-directory && \
     mkdir file-to-directory && echo in > file-to-directory/in && rm -r turned && echo now > turned",
    "cd t && ln kept/both kept/other && ln kept/both second && chown 7:8 kept/both && echo more >> kept/both",
    "cd t && rm second && mv opaque/high moved && rm -r closed && mkdir closed && chmod 711 closed && \
     chown 5:6 closed && mkdir -p /opt/here && echo opt > /opt/here/file && rm -f /opt/nothing",
];

/// One line for each name below the two volumes that the steps wrote to; a file of several names is said by its first.
const LIST: &str = r#"python3 - <<'END'
import os, stat, hashlib
names_of = {}
for top in ["/workspace", "/opt/here"]:
    for directory, names, files in os.walk(top):
        names.sort()
        if ".git" in names:
            names.remove(".git")
        for name in sorted(names + files) + ["."]:
            path = os.path.join(directory, name)
            facts = os.lstat(path)
            is_file = stat.S_ISREG(facts.st_mode)
            line = [path, oct(facts.st_mode), facts.st_uid, facts.st_gid, facts.st_mtime_ns]
            line += [names_of.setdefault(facts.st_ino, path), facts.st_size] if is_file else []
            line += [os.readlink(path)] if stat.S_ISLNK(facts.st_mode) else []
            if not stat.S_ISLNK(facts.st_mode):
                line += sorted((key, os.getxattr(path, key)) for key in os.listxattr(path))
            if is_file:
                line.append(hashlib.sha256(open(path, "rb").read()).hexdigest())
            print(*line)
END"#;

async fn listing(machine: &Machine, image: &ImageManifest) -> String {
    let (exit, output) = machine.run(image, LIST).await;
    assert_eq!(exit, ExitReason::Code { code: 0 }, "{output}");
    output
}

#[tokio::test]
async fn a_sandbox_sees_the_same_files_on_the_one_layer_as_on_the_chain() {
    let rest = (SCRIPTS.len()..LONG_CHAIN).map(|number| format!("echo {number} > t/late-{}", number % 3));
    let text = recipe(SCRIPTS.map(str::to_owned).into_iter().chain(rest));
    let files = [(".greenroom/environment.toml", text.as_str()), ("lock", "1")];
    let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
    let machine = Machine::new(&files).await;
    let image = machine.built(None).await;
    assert_eq!(image.layers.len(), 1, "{}", machine.log(&image));
    let mut chain = image.clone();
    let layer =
        |key: &LayerKey| greenroom_image::manifest::LayerRef { key: key.clone(), step: String::new() };
    chain.layers = image.parts.iter().map(|part| layer(&part.key)).collect();
    assert_eq!(chain.layers.len(), LONG_CHAIN + 2);
    let (of_chain, of_one) = (listing(&machine, &chain).await, listing(&machine, &image).await);
    for known in
        ["t/moved", "t/opaque/.", "user.note", "0o104751", "/opt/here/file", "t/file-to-directory/in"]
    {
        assert!(of_chain.contains(known), "{known}\n{of_chain}");
    }
    let other = of_chain.lines().find(|line| line.starts_with("/workspace/t/kept/other ")).unwrap();
    assert!(other.contains(" /workspace/t/kept/both "), "one file of two names: {other}");
    for gone in ["t/gone", "t/opaque/low", "t/second"] {
        assert!(!of_chain.contains(gone), "{gone}\n{of_chain}");
    }
    assert_eq!(of_one, of_chain);
}
