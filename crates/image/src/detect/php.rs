//! PHP: `composer.json`. Tests are phpunit's where it is configured, else the project's own script `test`.

use super::toolchain::PHP;
use super::{Part, Place, Read, optional_check, step};
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) fn is_marker(name: &str) -> bool {
    name == "composer.json"
}

pub(super) fn part(place: &Place<'_>, read: Read<'_>) -> Part {
    let run = "composer install --no-interaction --no-progress\n";
    let mut part = Part {
        steps: vec![
            PHP.step(place),
            step(
                place.name("php dependencies"),
                place.script(run),
                place.inputs(&["composer.json", "composer.lock"]),
            ),
        ],
        env: BTreeMap::from([("COMPOSER_ALLOW_SUPERUSER".to_owned(), "1".to_owned())]),
        ..Part::default()
    };
    let tests = if ["phpunit.xml", "phpunit.xml.dist", "phpunit.dist.xml"].iter().any(|name| place.has(name))
    {
        Some("vendor/bin/phpunit\n")
    } else if has_test_script(place, read) {
        Some("composer run-script test\n")
    } else {
        None
    };
    part.checks.extend(tests.map(|run| optional_check(place.name("php tests"), place.script(run), 20)));
    part
}

fn has_test_script(place: &Place<'_>, read: Read<'_>) -> bool {
    let composer: Value = read(&place.path("composer.json"))
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    composer.get("scripts").is_some_and(|scripts| scripts.get("test").is_some())
}
