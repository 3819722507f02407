//! Files that are made from code, committed, and checked for drift.

use crate::cargo::{self, Profile};
use crate::{process, root, web};
use anyhow::{Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What `greenroom reference WHAT` prints, and where it is kept. Tests of the `greenroom` crate compare them.
const REFERENCES: &[(&str, &str)] =
    &[("cli", "docs/cli.md"), ("settings", "docs/settings.md"), ("openapi", "docs/openapi.json")];
const DOCUMENT: &str = "../docs/openapi.json";
const SCHEMA: &str = "src/api/schema.ts";

pub(crate) fn write() -> Result<()> {
    let program = cargo::build(Profile::Debug)?;
    for (what, path) in REFERENCES {
        let text = process::output(Command::new(&program).args(["reference", what]))?;
        write_changed(&root().join(path), &text)?;
    }
    if web::build()? == web::Page::Built {
        write_changed(&web::folder().join(SCHEMA), &schema()?)?;
    }
    Ok(())
}

/// Fails where the web client's types are not those of the committed document.
pub(crate) fn check_schema() -> Result<()> {
    let kept = fs::read_to_string(web::folder().join(SCHEMA)).unwrap_or_default();
    if kept != schema()? {
        bail!("web/{SCHEMA} is not made from docs/openapi.json: run `cargo xtask generate`");
    }
    Ok(())
}

fn schema() -> Result<String> {
    let generator = web::folder().join("node_modules/.bin/openapi-typescript");
    process::output(Command::new(generator).arg(DOCUMENT).current_dir(web::folder()))
}

fn write_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|kept| kept == text) {
        println!("{}: current", path.display());
        return Ok(());
    }
    fs::write(path, text)?;
    println!("{}: written", path.display());
    Ok(())
}
