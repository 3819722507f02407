//! Go: `go.mod`. Modules are downloaded unless they are vendored.

use super::toolchain::GO;
use super::{Part, Place, optional_check, step};

pub(super) fn is_marker(name: &str) -> bool {
    name == "go.mod"
}

pub(super) fn part(place: &Place<'_>) -> Part {
    let mut part = Part::default();
    part.steps.push(GO.step(place));
    if !place.has("vendor/modules.txt") {
        let inputs = place.inputs(&["go.mod", "go.sum", "go.work", "go.work.sum", "**/go.mod", "**/go.sum"]);
        part.steps.push(step(place.name("go dependencies"), place.script("go mod download\n"), inputs));
    }
    part.checks = vec![
        optional_check(place.name("go build"), place.script("go build ./...\ngo test -run '^$' ./...\n"), 30),
        optional_check(place.name("go tests"), place.script("go test ./...\n"), 20),
    ];
    part
}
