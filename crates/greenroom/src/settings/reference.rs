//! `docs/settings.md`, from the settings themselves.

use super::Layer;
use super::layer::settings;
use serde_json::Value;
use std::fmt::Write as _;

const BEFORE: &str = "\
# Settings

Made by `cargo xtask generate` from the settings themselves; a test checks that it is current.

`greenroom serve` needs none of them. A setting is taken from the first of these that says it:

| | from | |
|---|---|---|
| 1 | flag of `greenroom serve` | `--max-sandboxes 8` |
| 2 | environment | `GREENROOM_MAX_SANDBOXES=8` |
| 3 | file: `--config` or `GREENROOM_CONFIG`, otherwise `greenroom.toml` in the data directory | `max_sandboxes = 8` |
| 4 | default | |

The data directory is `--data`, otherwise `GREENROOM_DATA`, otherwise `~/.local/share/greenroom`; as the file lies in it,
the file cannot name it. The file is TOML; a name with a dot is a key of a table (`budget.tokens`: `tokens` under
`[budget]`). An unknown name or a value that cannot be used stops the start with `settings_invalid` and its place.

| setting | flag | environment | default | what it says |
|---|---|---|---|---|
";

const AFTER: &str = "
## Client verbs

| what | from |
|---|---|
| server | `--server`, `GREENROOM_SERVER`, the running server of the data directory, the last `greenroom sign-in`, `http://127.0.0.1:7878` |
| token | `GREENROOM_TOKEN`, the token that `greenroom sign-in` kept for that server, the local admin's token where the data directory is the own user's |
| colours | on a terminal, unless `NO_COLOR` is set |
";

pub(crate) fn reference() -> String {
    let defaults = serde_json::to_value(Layer::defaults()).expect("settings are JSON");
    let mut text = BEFORE.to_owned();
    for setting in settings() {
        let default = shown(defaults.pointer(&format!("/{}", setting.key.replace('.', "/"))));
        let (key, flag, variable, help) = (setting.key, setting.flag, setting.variable, setting.help);
        let _ = writeln!(text, "| `{key}` | `--{flag}` | `{variable}` | {default} | {help} |");
    }
    text + AFTER
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(other) => format!("`{other}`"),
    }
}
