//! The installation's models: configured by an admin, keys in the vault, one connected client each.

use crate::{App, Inner, Result, require};
use greenroom_directory::ModelRow;
use greenroom_domain::{Effort, ErrorCode, ModelChoice, Person, Problem, Role};
use greenroom_model::{Catalog, EndpointOptions, ModelConfig, Provider, Secret};
use greenroom_session::SessionHandle;
use greenroom_wire::{AddModel, ModelTested, ModelView};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Mutex;

/// What an installation says about its models beside their rows.
#[derive(Clone, Debug, Default)]
pub struct ModelSettings {
    pub catalog: Catalog,
    /// Names of the models that go on with a turn, in this order, when the session's own gives out.
    pub fallback: Vec<String>,
    /// The name of the model for small jobs; `None`: they are not done.
    pub small: Option<String>,
}

/// Connected clients. `fixed` stands in for all of them (demo, benchmarks).
#[derive(Debug)]
pub(crate) struct Models {
    fixed: Option<Arc<dyn Provider>>,
    /// By the name that was asked for; `None` is the default. Forgotten whenever an admin changes a model.
    connected: Mutex<HashMap<Option<String>, Arc<dyn Provider>>>,
}

impl Models {
    pub(crate) fn new(fixed: Option<Arc<dyn Provider>>) -> Self {
        Self { fixed, connected: Mutex::default() }
    }
}

impl Inner {
    /// The client of a configured model; `None`: the default one. On the way of every prompt, so nothing is looked up
    /// twice.
    pub(crate) async fn provider(&self, name: Option<String>) -> Result<Arc<dyn Provider>> {
        if let Some(fixed) = &self.models.fixed {
            return Ok(Arc::clone(fixed));
        }
        let mut connected = self.models.connected.lock().await;
        if let Some(provider) = connected.get(&name) {
            return Ok(Arc::clone(provider));
        }
        let row = self.directory.model(name.clone()).await?.ok_or_else(|| not_configured(name.as_deref()))?;
        let provider = match connected.get(&Some(row.name.clone())) {
            Some(provider) => Arc::clone(provider),
            None => self.connect(&row).await?,
        };
        connected.insert(Some(row.name), Arc::clone(&provider));
        connected.insert(name, Arc::clone(&provider));
        Ok(provider)
    }

    /// What a turn is answered with.
    pub(crate) async fn provider_of_turn(&self, choice: &ModelChoice) -> Result<Arc<dyn Provider>> {
        let provider = self.provider(choice.model.clone()).await?;
        if provider.uses_tools() { Ok(provider) } else { Err(without_tools(provider.model())) }
    }

    /// The models that go on when this one gives out, in the installation's order. A name that cannot be used is passed over:
    /// a turn that does not need it must not fail of it.
    pub(crate) async fn fallbacks_of(&self, first: &Arc<dyn Provider>) -> VecDeque<Arc<dyn Provider>> {
        let mut chain: VecDeque<Arc<dyn Provider>> = VecDeque::new();
        for name in &self.config.models.fallback {
            match self.provider(Some(name.clone())).await {
                Ok(next) if !next.uses_tools() => {
                    tracing::warn!(model = %name, "a model of the fallback chain cannot call tools");
                }
                Ok(next) => {
                    let is_there = |one: &Arc<dyn Provider>| Arc::ptr_eq(one, &next);
                    if !is_there(first) && !chain.iter().any(is_there) {
                        chain.push_back(next);
                    }
                }
                Err(problem) => {
                    tracing::warn!(model = %name, %problem, "a model of the fallback chain cannot be used");
                }
            }
        }
        chain
    }

    /// Whether sessions may be answered with this.
    pub(crate) async fn check_choice(&self, choice: &ModelChoice) -> Result<()> {
        if *choice == ModelChoice::default() {
            return Ok(());
        }
        let provider = self.provider_of_turn(choice).await?;
        match choice.effort {
            Some(effort) => check_effort(provider.as_ref(), effort),
            None => Ok(()),
        }
    }

    /// The name that a turn's `ModelRequested` carries; `None` when no model is configured.
    pub(crate) async fn model_label(&self, choice: &ModelChoice) -> Option<String> {
        self.provider(choice.model.clone()).await.ok().map(|provider| provider.model().to_owned())
    }

    async fn connect(&self, row: &ModelRow) -> Result<Arc<dyn Provider>> {
        let config = config_of(row)?;
        let key = match row.has_key {
            true => self.vault.get(&vault_name(&row.name))?,
            false => None,
        };
        let key = key.as_ref().and_then(greenroom_vault::Secret::text).map(Secret::new);
        self.client(&config, key)
    }

    fn client(&self, config: &ModelConfig, key: Option<Secret>) -> Result<Arc<dyn Provider>> {
        let catalog = &self.config.models.catalog;
        greenroom_model::connect_from(catalog, config, key, EndpointOptions::default())
    }

    fn view_of_model(&self, row: &ModelRow) -> Result<ModelView> {
        let config = config_of(row)?;
        let facts = self.config.models.catalog.look_up(config.provider, &config.model);
        Ok(ModelView {
            name: row.name.clone(),
            provider: wire_provider(config.provider),
            base_url: config.base_url,
            has_key: row.has_key,
            is_default: row.is_default,
            effort: config.effort,
            context_window: config.context_window.unwrap_or(facts.context_window),
            sees_images: facts.images && !config.is_text_only,
            has_price: facts.price.is_some(),
            uses_tools: facts.tools,
            efforts: facts.efforts,
            fallback: self.config.models.fallback.iter().position(|name| *name == row.name).map(|at| at + 1),
            is_small: self.config.models.small.as_ref() == Some(&row.name),
            model: config.model,
        })
    }
}

impl App {
    /// Opens the default model's connections, so that the first prompt finds them.
    pub(crate) async fn warm_models(&self) {
        if let Ok(provider) = self.inner.provider(None).await {
            tokio::spawn(async move { provider.warm().await });
        }
    }

    /// Somebody looks at the session: the connection that its next prompt needs is made now.
    pub(crate) fn warm_model_of(&self, handle: &SessionHandle) {
        let (inner, handle) = (Arc::clone(&self.inner), handle.clone());
        tokio::spawn(async move {
            let Ok(state) = handle.state().await else { return };
            if let Ok(provider) = inner.provider(state.choice.model).await {
                provider.warm().await;
            }
        });
    }

    pub async fn models(&self, caller: &Person) -> Result<Vec<ModelView>> {
        require(caller, Role::Viewer)?;
        self.inner.directory.models().await?.iter().map(|row| self.inner.view_of_model(row)).collect()
    }

    /// Adds a model, or replaces the one of that name. Its key goes to the vault and is never given back.
    pub async fn add_model(&self, caller: &Person, body: AddModel) -> Result<ModelView> {
        require(caller, Role::Admin)?;
        check_name(&body.name)?;
        let config = ModelConfig {
            base_url: body.base_url,
            effort: body.effort,
            is_text_only: body.is_text_only,
            ..ModelConfig::new(body.name.clone(), provider_kind(body.provider), body.model)
        };
        let key = body.key.filter(|key| !key.is_empty());
        let row = ModelRow {
            name: body.name.clone(),
            config: serde_json::to_value(&config).map_err(|error| {
                Problem::new(ErrorCode::Internal, format!("The model cannot be stored: {error}."))
            })?,
            is_default: body.is_default,
            has_key: key.is_some(),
        };
        let secret = key.clone().map(Secret::new);
        let client = self.inner.client(&config, secret)?;
        if let Some(effort) = config.effort {
            check_effort(client.as_ref(), effort)?;
        }
        if let Some(key) = key {
            self.inner.vault.put(&vault_name(&body.name), &key.into())?;
            self.inner.tell_forge_what_is_secret();
        }
        self.inner.directory.put_model(row).await?;
        self.inner.models.connected.lock().await.clear();
        self.warm_models().await;
        let stored = self.model_row(&body.name).await?;
        self.inner.view_of_model(&stored)
    }

    pub async fn remove_model(&self, caller: &Person, name: &str) -> Result<()> {
        require(caller, Role::Admin)?;
        self.model_row(name).await?;
        self.inner.directory.remove_model(name.to_owned()).await?;
        self.inner.vault.remove(&vault_name(name))?;
        self.inner.models.connected.lock().await.clear();
        Ok(())
    }

    /// Asks the model for one word.
    pub async fn test_model(&self, caller: &Person, name: &str) -> Result<ModelTested> {
        require(caller, Role::Admin)?;
        self.model_row(name).await?;
        let provider = self.inner.provider(Some(name.to_owned())).await?;
        let report = greenroom_model::test(provider.as_ref()).await?;
        Ok(ModelTested { model: report.model, first_token_ms: report.first_ms })
    }

    async fn model_row(&self, name: &str) -> Result<ModelRow> {
        let found = self.inner.directory.models().await?.into_iter().find(|row| row.name == name);
        found.ok_or_else(|| unknown(name))
    }
}

fn vault_name(model: &str) -> String {
    format!("model/{model}")
}

fn config_of(row: &ModelRow) -> Result<ModelConfig> {
    serde_json::from_value(row.config.clone()).map_err(|error| {
        Problem::new(
            ErrorCode::Internal,
            format!("The model {} is stored in a form this version cannot read: {error}.", row.name),
        )
        .hint("Add it again with `greenroom model add`.")
    })
}

fn check_effort(provider: &dyn Provider, effort: Effort) -> Result<()> {
    let known = provider.efforts();
    if known.contains(&effort) {
        return Ok(());
    }
    let message =
        format!("The model {} cannot be asked for the effort {}.", provider.model(), effort.as_str());
    let names: Vec<_> = known.into_iter().map(Effort::as_str).collect();
    let hint = match names.as_slice() {
        [] => "Leave the effort out: this model knows none.".to_owned(),
        names => format!("It knows {}.", names.join(", ")),
    };
    Err(Problem::new(ErrorCode::ModelEffortUnknown, message).hint(hint))
}

fn without_tools(model: &str) -> Problem {
    let message = format!("The model {model} cannot call tools, and an agent works with nothing else.");
    Problem::new(ErrorCode::ModelWithoutTools, message)
        .hint("Choose another model: `greenroom model list` shows which ones call tools.")
}

fn check_name(name: &str) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::InvalidRequest,
        "A model's name has 1 to 64 letters, digits, '.', '_', ':' and '-'.",
    )
    .hint("Choose a short name, for example `main`."))
}

fn unknown(name: &str) -> Problem {
    Problem::new(ErrorCode::ModelUnknown, format!("There is no model named {name}."))
        .hint("List them with `greenroom model list`.")
}

fn not_configured(asked: Option<&str>) -> Problem {
    match asked {
        Some(name) => unknown(name),
        None => {
            let command = format!(
                "greenroom model add main --provider anthropic --model {} --key-env ANTHROPIC_API_KEY",
                greenroom_model::DEFAULT_ANTHROPIC_MODEL
            );
            Problem::new(ErrorCode::ModelNotConfigured, "No model is configured in this installation.")
                .hint(format!("Run `{command}`."))
        }
    }
}

fn provider_kind(provider: greenroom_wire::ModelProvider) -> greenroom_model::ProviderKind {
    match provider {
        greenroom_wire::ModelProvider::Anthropic => greenroom_model::ProviderKind::Anthropic,
        greenroom_wire::ModelProvider::Openai => greenroom_model::ProviderKind::Openai,
        greenroom_wire::ModelProvider::OpenaiChat => greenroom_model::ProviderKind::OpenaiChat,
        greenroom_wire::ModelProvider::Gemini => greenroom_model::ProviderKind::Gemini,
        greenroom_wire::ModelProvider::Openrouter => greenroom_model::ProviderKind::Openrouter,
        greenroom_wire::ModelProvider::Ollama => greenroom_model::ProviderKind::Ollama,
    }
}

fn wire_provider(kind: greenroom_model::ProviderKind) -> greenroom_wire::ModelProvider {
    match kind {
        greenroom_model::ProviderKind::Anthropic => greenroom_wire::ModelProvider::Anthropic,
        greenroom_model::ProviderKind::Openai => greenroom_wire::ModelProvider::Openai,
        greenroom_model::ProviderKind::OpenaiChat => greenroom_wire::ModelProvider::OpenaiChat,
        greenroom_model::ProviderKind::Gemini => greenroom_wire::ModelProvider::Gemini,
        greenroom_model::ProviderKind::Openrouter => greenroom_wire::ModelProvider::Openrouter,
        greenroom_model::ProviderKind::Ollama => greenroom_wire::ModelProvider::Ollama,
    }
}

#[cfg(test)]
#[path = "models_tests.rs"]
mod tests;
