//! Ruby: `Gemfile`. Gems are installed outside of the workspace.

use super::toolchain::RUBY;
use super::{Part, Place, optional_check, step};
use std::collections::BTreeMap;

pub(super) fn is_marker(name: &str) -> bool {
    matches!(name, "Gemfile" | "gems.rb")
}

pub(super) fn part(place: &Place<'_>) -> Part {
    let inputs = [
        "Gemfile",
        "Gemfile.lock",
        "gems.rb",
        "gems.locked",
        "*.gemspec",
        "lib/*/version.rb",
        ".ruby-version",
    ];
    // Frozen, because a lock that is written to is a changed tracked file.
    let is_locked = place.has("Gemfile.lock") || place.has("gems.locked");
    let run = if is_locked {
        "BUNDLE_FROZEN=true bundle install --jobs 4 || {\n  \
         echo 'greenroom: the lock does not fit this machine; installing without it'\n  bundle install --jobs 4\n}\n"
    } else {
        "bundle install --jobs 4\n"
    };
    let mut part = Part {
        steps: vec![
            RUBY.step(place),
            step(place.name("ruby dependencies"), place.script(run), place.inputs(&inputs)),
        ],
        env: BTreeMap::from([("BUNDLE_PATH".to_owned(), "/opt/bundle".to_owned())]),
        ..Part::default()
    };
    let has_below = |directory: &str| place.files().any(|path| path.starts_with(directory));
    let tests = if has_below("spec/") {
        Some("bundle exec rspec\n")
    } else if place.has("bin/rails") {
        Some("bundle exec rails test\n")
    } else if has_below("test/") && place.has("Rakefile") {
        Some("bundle exec rake test\n")
    } else {
        None
    };
    part.checks.extend(tests.map(|run| optional_check(place.name("ruby tests"), place.script(run), 20)));
    part
}
