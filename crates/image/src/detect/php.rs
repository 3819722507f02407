//! PHP: `composer.json`.

use super::toolchain::PHP;
use super::{Part, Place, optional_check, step};
use std::collections::BTreeMap;

pub(super) fn is_marker(name: &str) -> bool {
    name == "composer.json"
}

pub(super) fn part(place: &Place<'_>) -> Part {
    let run = "composer install --no-interaction --no-progress\n";
    let mut part = Part {
        steps: vec![
            PHP.step(place, &["composer.json"]),
            step(
                place.name("php dependencies"),
                place.script(run),
                place.inputs(&["composer.json", "composer.lock"]),
            ),
        ],
        env: BTreeMap::from([("COMPOSER_ALLOW_SUPERUSER".to_owned(), "1".to_owned())]),
        ..Part::default()
    };
    if ["phpunit.xml", "phpunit.xml.dist", "phpunit.dist.xml"].iter().any(|name| place.has(name)) {
        part.checks.push(optional_check(place.name("php tests"), place.script("vendor/bin/phpunit\n"), 20));
    }
    part
}
