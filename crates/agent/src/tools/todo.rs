//! `todo`: the model's list of steps, shown to people.

use super::input::object;
use super::run::{Failure, Ran, ToolContext};
use greenroom_domain::event::{Event, TodoItem, TodoStatus};
use greenroom_model::ToolDefinition;
use serde::Deserialize;
use serde_json::json;

const ITEMS_LIMIT: usize = 100;
const TEXT_LIMIT_CHARS: usize = 500;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub(super) items: Vec<TodoItem>,
}

pub(super) fn definition() -> ToolDefinition {
    let item = object(
        &json!({
            "text": {"type": "string", "description": "The step, in a few words."},
            "status": {"type": "string", "enum": ["pending", "in_progress", "done"],
                "description": "At most one step is in progress."},
        }),
        &["text", "status"],
    );
    ToolDefinition {
        name: "todo".to_owned(),
        description:
            "Replaces your to-do list, which people see. Send the whole list each time. Use it for work of \
             three or more steps; mark a step done as soon as it is."
                .to_owned(),
        input_schema: object(
            &json!({"items": {"type": "array", "items": item, "description": "All steps, in order."}}),
            &["items"],
        ),
    }
}

pub(super) fn run(input: &Input, context: &ToolContext) -> Result<Ran, Failure> {
    if input.items.len() > ITEMS_LIMIT {
        return Err(Failure::words(format!("A to-do list has at most {ITEMS_LIMIT} items.")));
    }
    if input.items.iter().any(|item| item.text.chars().count() > TEXT_LIMIT_CHARS) {
        return Err(Failure::words(format!("An item has at most {TEXT_LIMIT_CHARS} characters.")));
    }
    let done = input.items.iter().filter(|item| item.status == TodoStatus::Done).count();
    let mut ran = Ran::succeeded(format!("{done} of {} done.", input.items.len()));
    ran.events.push(Event::TodoChanged { turn: context.turn, items: input.items.clone() });
    Ok(ran)
}
