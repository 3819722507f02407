//! `model …`

use super::Desk;
use crate::ask;
use crate::cli::{KeySource, Model, ModelAdd};
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use crate::render::text::one_line;
use greenroom_wire::{AddModel, ModelProvider, ModelView};
use serde_json::json;

pub(crate) async fn perform(desk: &Desk, verb: Model) -> Result<Exit, Failure> {
    match verb {
        Model::Add(arguments) => add(desk, arguments).await?,
        Model::List => list(desk).await?,
        Model::Test { name } => {
            let tested = desk.client.test_model(&name).await?;
            desk.out.document(&tested, |tested| {
                format!("{} answered; its first token took {} ms.\n", tested.model, tested.first_token_ms)
            })?;
        }
        Model::Remove { name } => {
            desk.client.remove_model(&name).await?;
            desk.out.document(&json!({ "removed": name }), |_| format!("{name} is removed.\n"))?;
        }
    }
    Ok(Exit::Done)
}

async fn add(desk: &Desk, arguments: ModelAdd) -> Result<(), Failure> {
    let body = AddModel {
        key: key(&arguments.key)?,
        name: arguments.name,
        provider: arguments.provider.into(),
        model: arguments.model,
        base_url: arguments.base_url,
        effort: arguments.effort.map(Into::into),
        is_text_only: arguments.text_only,
        is_default: arguments.default,
    };
    let model = desk.client.add_model(&body).await?;
    desk.out.document(&model, |model| {
        let default = if model.is_default { " and is the default" } else { "" };
        format!("{} is added{default}. Try it: greenroom model test {}\n", model.name, model.name)
    })
}

fn key(source: &KeySource) -> Result<Option<String>, Failure> {
    let hint = "Name one of --key-env, --key-file and --no-key.";
    match source {
        KeySource { no_key: true, .. } => Ok(None),
        KeySource { key_file: Some(path), .. } => ask::secret_file(path).map(Some),
        KeySource { key_env: Some(name), .. } => match std::env::var(name) {
            Ok(key) if !key.trim().is_empty() => Ok(Some(key.trim().to_owned())),
            _ => Err(Failure::usage(format!("The environment variable {name} is not set."), hint)),
        },
        _ => ask::secret("Key", hint).map(Some),
    }
}

async fn list(desk: &Desk) -> Result<(), Failure> {
    let models = desk.client.models().await?;
    desk.out.document(&models, |models| {
        let empty =
            "No model yet. Add one: greenroom model add NAME --provider PROVIDER --model MODEL --default";
        Table::new(
            &["NAME", "PROVIDER", "MODEL", "KEY", "USE", "CONTEXT", "EFFORTS", "ABILITIES", "ADDRESS"],
            empty,
        )
        .rows(models, cells)
        .text()
    })
}

fn cells(model: &ModelView) -> Vec<String> {
    let provider = match model.provider {
        ModelProvider::Anthropic => "anthropic",
        ModelProvider::Openai => "openai",
        ModelProvider::OpenaiChat => "openai_chat",
        ModelProvider::Gemini => "gemini",
        ModelProvider::Openrouter => "openrouter",
        ModelProvider::Ollama => "ollama",
    };
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    vec![
        one_line(&model.name, 40),
        provider.to_owned(),
        one_line(&model.model, 60),
        yes(model.has_key),
        uses(model),
        model.context_window.to_string(),
        efforts(model),
        abilities(model),
        one_line(model.base_url.as_deref().unwrap_or("the provider's own"), 80),
    ]
}

fn uses(model: &ModelView) -> String {
    let default = model.is_default.then(|| "default".to_owned());
    let fallback = model.fallback.map(|place| format!("fallback {place}"));
    let small = model.is_small.then(|| "small jobs".to_owned());
    listed(default.into_iter().chain(fallback).chain(small))
}

/// The one that was set is marked.
fn efforts(model: &ModelView) -> String {
    let shown = |effort: &greenroom_domain::Effort| {
        let mark = if model.effort == Some(*effort) { "*" } else { "" };
        format!("{}{mark}", effort.as_str())
    };
    listed(model.efforts.iter().map(shown))
}

fn abilities(model: &ModelView) -> String {
    let named = [(model.uses_tools, "tools"), (model.sees_images, "images"), (model.has_price, "price")];
    listed(named.into_iter().filter(|(has, _)| *has).map(|(_, name)| name.to_owned()))
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}
