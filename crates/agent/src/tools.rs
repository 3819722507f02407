//! The tools: their names, inputs and descriptions as the model sees them, and how each is run. Inputs are parsed once,
//! strictly; what cannot be parsed is answered with words that let the model repair its call.

mod bash;
mod edit;
mod files;
mod input;
mod matching;
mod needs;
mod open_change;
mod output;
mod patch;
mod publish;
pub(crate) mod question;
mod read;
mod run;
mod search;
mod sessions;
mod terminal;
mod text;
mod todo;
mod write;

pub use files::Files;
pub(crate) use needs::permission_of;
pub(crate) use run::{Failure, Ran, ToolContext};
pub use terminal::Terminals;

use crate::prompt::Instructions;
use greenroom_model::{Provider, ToolDefinition};
use serde_json::Value;

/// Where the repository is, and where commands start.
pub const WORKSPACE: &str = "/workspace";

/// How a model changes a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Editing {
    /// By `edit`.
    Replace,
    /// By `apply_patch`.
    Patch,
}

impl Editing {
    pub fn of(provider: &dyn Provider) -> Self {
        if provider.edits_by_patch() { Self::Patch } else { Self::Replace }
    }
}

/// The tools, in the order they are sent: never changed as long as the model stays the same.
pub fn definitions(editing: Editing) -> Vec<ToolDefinition> {
    let edits = match editing {
        Editing::Replace => edit::definition(),
        Editing::Patch => patch::definition(),
    };
    vec![
        bash::definition(),
        terminal::definition(),
        read::definition(),
        write::definition(),
        edits,
        search::glob_definition(),
        search::grep_definition(),
        todo::definition(),
        open_change::definition(),
        publish::definition(),
        question::definition(),
    ]
}

/// The tools of a session under these instructions, in the order they are sent.
pub fn offered(editing: Editing, instructions: &Instructions) -> Vec<ToolDefinition> {
    let mut tools = definitions(editing);
    if instructions.can_spawn {
        tools.extend(sessions::definitions());
    }
    tools
}

pub(crate) fn is_of_sessions(name: &str) -> bool {
    sessions::NAMES.contains(&name)
}

/// A call with its input understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Bash(bash::Input),
    Terminal(terminal::Input),
    Read(read::Input),
    Write(write::Input),
    Edit(edit::Input),
    Patch(patch::Input),
    Glob(search::GlobInput),
    Grep(search::GrepInput),
    Todo(todo::Input),
    OpenChange(open_change::Input),
    Publish(publish::Input),
    Question(question::Input),
    Sessions(sessions::Call),
}

impl Call {
    /// The error is for the model.
    pub(crate) fn parse(name: &str, input: &Value) -> Result<Self, String> {
        match name {
            "bash" => input::parse(&bash::definition(), input).map(Self::Bash),
            "terminal" => input::parse(&terminal::definition(), input).map(Self::Terminal),
            "read" => input::parse(&read::definition(), input).map(Self::Read),
            "write" => input::parse(&write::definition(), input).map(Self::Write),
            "edit" => input::parse(&edit::definition(), input).map(Self::Edit),
            "apply_patch" => input::parse(&patch::definition(), input).map(Self::Patch),
            "glob" => input::parse(&search::glob_definition(), input).map(Self::Glob),
            "grep" => input::parse(&search::grep_definition(), input).map(Self::Grep),
            "todo" => input::parse(&todo::definition(), input).map(Self::Todo),
            "open_change" => input::parse(&open_change::definition(), input).map(Self::OpenChange),
            "question" => input::parse(&question::definition(), input).map(Self::Question),
            "publish" => input::parse(&publish::definition(), input).map(Self::Publish),
            name if is_of_sessions(name) => sessions::Call::parse(name, input).map(Self::Sessions),
            _ => Err(unknown_tool(name)),
        }
    }

    /// Whether it may run beside others of its kind. A shell command is believed when it says so.
    pub(crate) fn is_read_only(&self) -> bool {
        match self {
            Self::Read(_) | Self::Glob(_) | Self::Grep(_) => true,
            Self::Bash(input) => input.read_only.unwrap_or(false),
            Self::Sessions(call) => call.is_read_only(),
            Self::Terminal(_)
            | Self::Write(_)
            | Self::Edit(_)
            | Self::Patch(_)
            | Self::Todo(_)
            | Self::OpenChange(_)
            | Self::Publish(_)
            | Self::Question(_) => false,
        }
    }

    /// What people read on the tool's card.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Bash(input) => format!("Run `{}`", short(&input.command)),
            Self::Terminal(input) => terminal::title(input),
            Self::Read(input) => format!("Read {}", short_path(&input.path)),
            Self::Write(input) => format!("Write {}", short_path(&input.path)),
            Self::Edit(input) => format!("Edit {}", short_path(&input.path)),
            Self::Patch(input) => patch::title(input),
            Self::Glob(input) => format!("Find `{}`", short(&input.pattern)),
            Self::Grep(input) => format!("Search for `{}`", short(&input.pattern)),
            Self::Todo(_) => "Update the to-do list".to_owned(),
            Self::Question(input) => question::title(input),
            Self::Publish(input) => format!("Publish {}", short_path(&input.path)),
            Self::Sessions(call) => call.title(),
            Self::OpenChange(input) => format!("Open change “{}”", short(&input.title)),
        }
    }

    pub(crate) async fn run(&self, context: &ToolContext) -> Result<Ran, Failure> {
        match self {
            Self::Bash(input) => bash::run(input, context).await,
            Self::Terminal(input) => context.unless_halted(terminal::run(input, context)).await,
            Self::Read(input) => context.unless_halted(read::run(input, context)).await,
            Self::Write(input) => context.unless_halted(write::run(input, context)).await,
            Self::Edit(input) => context.unless_halted(edit::run(input, context)).await,
            Self::Patch(input) => context.unless_halted(patch::run(input, context)).await,
            Self::Glob(input) => context.unless_halted(search::glob(input, context)).await,
            Self::Grep(input) => context.unless_halted(search::grep(input, context)).await,
            Self::Todo(input) => todo::run(input, context),
            Self::Publish(input) => context.unless_halted(publish::run(input, context)).await,
            // Answered before it would run: see `turn::admission`.
            Self::Question(_) => Err(Failure::words("The question was not put to anybody.")),
            Self::Sessions(call) => context.unless_halted(call.run(context)).await,
            Self::OpenChange(input) => context.unless_halted(open_change::run(input, context)).await,
        }
    }
}

pub(crate) fn unknown_tool(name: &str) -> String {
    let names: Vec<String> = definitions(Editing::Replace).into_iter().map(|tool| tool.name).collect();
    format!("There is no tool named {:?}. Use one of: {}.", short(name), names.join(", "))
}

/// The first line, at most 60 characters.
fn short(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(60).collect();
    if short.len() < text.trim().len() {
        short.push('…');
    }
    short
}

fn short_path(path: &str) -> String {
    let path = files::absolute(path).unwrap_or_else(|_| path.to_owned());
    let inside = path.strip_prefix(WORKSPACE).and_then(|rest| rest.strip_prefix('/'));
    short(inside.unwrap_or(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    fn sample(schema: &Value) -> Value {
        match schema["type"].as_str().expect("every property has a type") {
            "string" => schema["enum"].get(0).cloned().unwrap_or_else(|| json!("x")),
            "integer" => json!(1),
            "boolean" => json!(true),
            "array" => json!([sample(&schema["items"])]),
            "object" => {
                let properties = schema["properties"].as_object().expect("properties");
                properties
                    .iter()
                    .map(|(name, schema)| (name.clone(), sample(schema)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            other => panic!("unexpected type {other}"),
        }
    }

    #[test]
    fn every_schema_says_what_its_parser_accepts() {
        let tools = definitions(Editing::Replace).into_iter().chain([patch::definition()]);
        for tool in tools.chain(sessions::definitions()) {
            let full = sample(&tool.input_schema);
            assert!(
                Call::parse(&tool.name, &full).is_ok(),
                "{}: {:?}",
                tool.name,
                Call::parse(&tool.name, &full)
            );
            assert_eq!(tool.input_schema["additionalProperties"], json!(false), "{}", tool.name);
            let required: Vec<&str> = tool.input_schema["required"]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_str().unwrap())
                .collect();
            for name in full.as_object().unwrap().keys() {
                let mut without = full.clone();
                without.as_object_mut().unwrap().remove(name);
                let is_required = required.contains(&name.as_str());
                assert_eq!(Call::parse(&tool.name, &without).is_err(), is_required, "{}.{name}", tool.name);
                assert!(
                    tool.input_schema["properties"][name]["description"].is_string(),
                    "{}.{name}",
                    tool.name
                );
            }
            let mut more = full;
            more["surprise"] = json!(1);
            assert!(Call::parse(&tool.name, &more).unwrap_err().contains("surprise"), "{}", tool.name);
        }
    }

    #[test]
    fn broken_json_and_unknown_tools_are_answered_with_what_to_do() {
        let error = Call::parse("edit", &json!("{\"path\": \"a")).unwrap_err();
        assert!(error.contains("not valid JSON") && error.contains("old"), "{error}");
        let error = Call::parse("str_replace", &json!({})).unwrap_err();
        assert!(error.contains("edit"), "{error}");
        let error = Call::parse("read", &json!({"path": "a", "offset": "x"})).unwrap_err();
        assert!(error.contains("offset"), "{error}");
    }

    #[test]
    fn titles_are_short_and_human() {
        let title = |name: &str, input: Value| Call::parse(name, &input).unwrap().title();
        assert_eq!(title("bash", json!({"command": "python3 -m unittest"})), "Run `python3 -m unittest`");
        assert_eq!(title("bash", json!({"command": "cd x\nls"})), "Run `cd x…`");
        assert_eq!(
            title("edit", json!({"path": "/workspace/src/x.py", "old": "a", "new": "b"})),
            "Edit src/x.py"
        );
        assert_eq!(title("read", json!({"path": "./src//x.py"})), "Read src/x.py");
    }
}
