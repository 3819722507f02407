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
