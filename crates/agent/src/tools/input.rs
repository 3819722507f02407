//! Strict parsing of a call's input, with errors that say how to repair it.

use greenroom_model::ToolDefinition;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A schema of an object that takes exactly `properties`.
pub(super) fn object(properties: &Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

pub(super) fn parse<T: DeserializeOwned>(tool: &ToolDefinition, input: &Value) -> Result<T, String> {
    if let Value::String(written) = input {
        return Err(broken_json(tool, written));
    }
    T::deserialize(input).map_err(|error| {
        format!("The input of {} is not valid: {error}. It takes {}.", tool.name, fields(&tool.input_schema))
    })
}

fn broken_json(tool: &ToolDefinition, written: &str) -> String {
    let reason = match serde_json::from_str::<Value>(written) {
        Ok(_) => "it is not an object".to_owned(),
        Err(error) => error.to_string(),
    };
    format!(
        "The input of {} is not valid JSON ({reason}), so nothing was run. Send the call again with one JSON object of {}.",
        tool.name,
        fields(&tool.input_schema)
    )
}

fn fields(schema: &Value) -> String {
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(properties) = schema["properties"].as_object() else { return "no fields".to_owned() };
    let describe = |(name, property): (&String, &Value)| {
        let kind = property["type"].as_str().unwrap_or("value");
        let is_required = required.iter().any(|required| required == name);
        format!("{name} ({kind}{})", if is_required { ", required" } else { "" })
    };
    properties.iter().map(describe).collect::<Vec<_>>().join(", ")
}
