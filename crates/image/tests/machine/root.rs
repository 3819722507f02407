//! A small root file system of a few of this machine's programs, as two layers and as the archive of `docker save`.

use std::path::Path;
use std::process::Command;

const PROGRAMS: &str = "sh mkdir cat ls git head tr sed grep env rm test wc true id";

/// Two layers, `save/one.tar` and `save/two.tar` (compressed): programs with their libraries; and one that takes a file of
/// the first away.
pub fn save(place: &Path, archive: &Path) {
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
