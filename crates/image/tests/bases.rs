//! Images on a base of their own: an archive as `docker save` writes it, made here of a few of this machine's programs,
//! and a Debian suite (soak).

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod machine;

use greenroom_domain::ErrorCode;
use greenroom_image::manifest::ImageBase;
use greenroom_sandbox::ExitReason;
use machine::Machine;
use std::path::Path;
use std::process::Command;

const PROGRAMS: &str = "sh mkdir cat ls git head tr sed grep env rm test wc true id";

/// Two layers: programs with their libraries; and one that takes a file of the first away.
fn save(place: &Path, archive: &Path) {
    let script = r#"
set -e
cd "$PLACE"; helpers=$(git --exec-path); mkdir -p root/etc root/tmp "root$helpers" save over/etc
add() { [ -e "root$1" ] || { mkdir -p "root$(dirname "$1")"; cp -L "$1" "root$1"; }; }
for program in $PROGRAMS; do
    path=$(command -v $program); case $path in /*) ;; *) path=/bin/$program;; esac
    add "$path"; [ -e "root/bin/$program" ] || { mkdir -p root/bin; cp -L "$path" "root/bin/$program"; }
done
cp -L "$helpers/git-remote-http" "root$helpers/"
for file in root/bin/* "root$helpers"/*; do ldd "$file" 2>/dev/null | grep -o '/[^ ]*' || true; done | sort -u > libs
while read -r lib; do add "$lib"; done < libs
echo 'root:x:0:0:root:/root:/bin/sh' > root/etc/passwd; echo gone > root/etc/gone; echo kept > root/etc/kept
: > over/etc/.wh.gone; echo new > over/etc/new
tar -C root -cf save/one.tar .; tar -C over -czf save/two.tar etc
echo '{"config":{"Env":["PATH=/usr/bin:/bin","SAMPLE=from the image"]}}' > save/config.json
echo '[{"Config":"config.json","RepoTags":["sample:1"],"Layers":["one.tar","two.tar"]}]' > save/manifest.json
tar -C save -cf "$ARCHIVE" .
"#;
    let made = Command::new("sh")
        .args(["-c", script])
        .env("PLACE", place)
        .env("ARCHIVE", archive)
        .env("PROGRAMS", PROGRAMS)
        .status();
    assert!(made.unwrap().success());
}

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
