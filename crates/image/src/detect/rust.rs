//! Rust: `Cargo.toml`. Dependencies are fetched; the build and the tests are checks, so that `target/` is warm.

use super::{Part, Place, optional_check, step};

pub(super) fn is_marker(name: &str) -> bool {
    name == "Cargo.toml"
}

pub(super) fn part(place: &Place<'_>) -> Part {
    let inputs = [
        "**/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
        ".cargo/config.toml",
        ".cargo/config",
        "rust-toolchain",
        "rust-toolchain.toml",
    ];
    Part {
        steps: vec![step(
            place.name("rust dependencies"),
            place.script("cargo fetch\n"),
            place.inputs(&inputs),
        )],
        checks: vec![
            optional_check(
                place.name("rust build"),
                place.script("cargo build --workspace\ncargo test --workspace --no-run\n"),
                60,
            ),
            optional_check(place.name("rust tests"), place.script("cargo test --workspace\n"), 20),
        ],
        ..Part::default()
    }
}
