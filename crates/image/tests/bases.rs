//! Images on a base of their own: an archive as `docker save` writes it, made here of a few of this machine's programs,
//! and a Debian suite (soak).

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod machine;

use greenroom_domain::ErrorCode;
use greenroom_image::manifest::ImageBase;
use greenroom_sandbox::ExitReason;
use machine::Machine;
use machine::root::save;

fn recipe(text: &str) -> Vec<(String, Vec<u8>)> {
    vec![
        (".greenroom/environment.toml".to_owned(), text.as_bytes().to_vec()),
        ("tracked".to_owned(), b"1".to_vec()),
    ]
}

#[tokio::test]
async fn an_image_stands_on_an_archive_and_shows_nothing_of_the_host() {
    let text = "base = \"archive:sample.tar\"\n[[steps]]\nname = \"write\"\nrun = \"cat /etc/new > /etc/made; env > /etc/env\"\n\
                inputs = [\"tracked\"]\n";
    let machine = Machine::new(&recipe(text)).await;
    let bases = machine.builder.layers.bases();
    std::fs::create_dir_all(&bases).unwrap();
    let refused = machine.build(None).await.unwrap_err();
    assert_eq!((refused.problem.code, refused.step.as_deref()), (ErrorCode::BaseUnavailable, Some("base")));

    let place = tempfile::tempdir().unwrap();
    save(place.path(), &bases.join("sample.tar"));
    let first = machine.built(None).await;
    assert!(matches!(&first.base, ImageBase::Unpacked { name, .. } if name == "archive:sample.tar"));
    let script = "cat /etc/made /etc/kept && ! test -e /etc/gone && ! test -e /usr/bin/python3 && echo \"$SAMPLE\" && cat tracked \
                  && git status --porcelain | wc -l && id -u && ls -ld /etc | head -c 10";
    let (exit, output) = machine.run(&first, script).await;
    assert_eq!(exit, ExitReason::Code { code: 0 }, "{output}\n{}", machine.log(&first));
    assert_eq!(
        output.replace(' ', ""),
        "new\nkept\nfromtheimage\n10\n0\ndrwxr-xr-x",
        "{}",
        machine.log(&first)
    );

    machine.push(&[("other", "1")]);
    let second = machine.built(Some(&first)).await;
    let reused: Vec<&str> =
        second.parts.iter().filter(|part| part.is_reused).map(|part| &*part.name).collect();
    assert_eq!(reused, ["base", "write"]);
    assert_eq!(second.base, first.base);
}

#[tokio::test]
#[ignore = "soak: installs a Debian suite; needs mmdebstrap"]
async fn an_image_stands_on_a_debian_suite() {
    let text = "base = \"mmdebstrap:bookworm\"\n[[steps]]\nname = \"tool\"\nrun = \"apt-get update -q && apt-get install -q -y jq\"\n\
                inputs = [\"tracked\"]\n";
    let machine = Machine::new(&recipe(text)).await;
    let first = machine.built(None).await;
    let (exit, output) = machine.run(&first, "jq --version && git status --porcelain | wc -l").await;
    assert_eq!(exit, ExitReason::Code { code: 0 }, "{output}\n{}", machine.log(&first));
}

#[tokio::test]
async fn a_session_sees_every_change_of_a_tree_whose_directories_are_remembered() {
    let recipe = "[[steps]]\nname = \"write\"\nrun = \"touch src/built.o\"\n";
    let files = [
        (".greenroom/environment.toml", recipe),
        (".gitignore", "*.o\n"),
        ("src/a", "a\n"),
        ("src/b", "b\n"),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
    let machine = Machine::new(&files).await;
    let image = machine.built(None).await;
    let (exit, remembered) = machine.run(&image, "grep -ac UNTR .git/index; git status --porcelain").await;
    assert_eq!((exit, remembered.as_str()), (ExitReason::Code { code: 0 }, "1\n"), "{}", machine.log(&image));
    let script = "git status --porcelain; echo new > src/new; mkdir made; echo x > made/x; echo changed >> src/a; \
                  rm src/b; git status --porcelain | sort; rm -r src/new made; git status --porcelain | sort";
    let (_, seen) = machine.run(&image, script).await;
    assert_eq!(seen, " D src/b\n M src/a\n?? made/\n?? src/new\n D src/b\n M src/a\n");
}
