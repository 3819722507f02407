//! Which model to use and how to reach it: the stored form of a model, its reading from the environment, and the way
//! from there to a `Provider`.

use crate::anthropic::Messages;
use crate::catalog::{Catalog, ModelFacts};
use crate::client::{Client, Limits, Protocol};
use crate::exchange::{self, Exchange, KeyStyle};
use crate::gemini::Gemini;
use crate::openai_chat::{Chat, Dialect};
use crate::openai_responses::Responses;
use crate::provider::{Error, Provider};
use crate::secret::Secret;
use crate::transport::{Endpoint, EndpointOptions};
use greenroom_domain::{Effort, ErrorCode, Problem};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use url::Url;

pub const DEFAULT_ANTHROPIC_MODEL: &str = "claude-opus-5-5";
pub const DEFAULT_OPENAI_MODEL: &str = "gpt-6.1-sol";
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// The wire protocol, and for some of its speakers what is special to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Responses.
    Openai,
    /// OpenAI Chat Completions, at any server that speaks it.
    OpenaiChat,
    /// Google's `generateContent`.
    Gemini,
    /// Chat Completions of OpenRouter.
    Openrouter,
    /// Chat Completions of an Ollama, which needs no key.
    Ollama,
}

impl ProviderKind {
    pub const ALL: [Self; 6] =
        [Self::Anthropic, Self::Openai, Self::OpenaiChat, Self::Gemini, Self::Openrouter, Self::Ollama];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
            Self::OpenaiChat => "openai_chat",
            Self::Gemini => "gemini",
            Self::Openrouter => "openrouter",
            Self::Ollama => "ollama",
        }
    }

    fn default_url(self) -> &'static str {
        match self {
            Self::Anthropic => "https://api.anthropic.com",
            Self::Openai | Self::OpenaiChat => "https://api.openai.com/v1",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta",
            Self::Openrouter => "https://openrouter.ai/api/v1",
            Self::Ollama => "http://127.0.0.1:11434/v1",
        }
    }

    /// What a request's path ends with; of Gemini's, what follows the model.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Anthropic => "/v1/messages",
            Self::Openai => "/responses",
            Self::OpenaiChat | Self::Openrouter | Self::Ollama => "/chat/completions",
            Self::Gemini => ":streamGenerateContent",
        }
    }

    /// For an address without a path.
    fn root(self) -> &'static str {
        match self {
            Self::Anthropic => "",
            Self::Openai | Self::OpenaiChat | Self::Ollama => "/v1",
            Self::Gemini => "/v1beta",
            Self::Openrouter => "/api/v1",
        }
    }

    fn needs_key(self) -> bool {
        self != Self::Ollama
    }

    fn key_style(self) -> KeyStyle {
        match self {
            Self::Anthropic => KeyStyle::ApiKeyHeader,
            Self::Gemini => KeyStyle::GoogleHeader,
            Self::Openai | Self::OpenaiChat | Self::Openrouter | Self::Ollama => KeyStyle::Bearer,
        }
    }
}

/// A model as an installation knows it. Without its key, which is kept apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// What people call it.
    pub name: String,
    pub provider: ProviderKind,
    /// The provider's id of the model.
    pub model: String,
    /// Another server than the provider's own. With `/v1` for OpenAI's protocols, without for Anthropic's; both forms
    /// are understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// Lowers the limit that a request asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// Overrides what the catalog says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// It takes no pictures: it is told of them in words.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_text_only: bool,
}

impl ModelConfig {
    pub fn new(name: impl Into<String>, provider: ProviderKind, model: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            provider,
            model: model.into(),
            base_url: None,
            effort: None,
            max_output_tokens: None,
            context_window: None,
            is_text_only: false,
        }
    }

    /// The first that is set of `ANTHROPIC_API_KEY` (with `ANTHROPIC_MODEL`, `ANTHROPIC_BASE_URL`), `OPENAI_API_KEY`
    /// (with `OPENAI_MODEL`, `OPENAI_BASE_URL`), `GREENROOM_MODEL_URL` (with `GREENROOM_MODEL`, `GREENROOM_MODEL_KEY`;
    /// Chat Completions). Empty variables count as not set.
    pub fn from_environment(
        vars: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<(Self, Option<Secret>)>, Problem> {
        let var = |name: &str| vars(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        if let Some(key) = var("ANTHROPIC_API_KEY") {
            let model = var("ANTHROPIC_MODEL").unwrap_or_else(|| DEFAULT_ANTHROPIC_MODEL.to_owned());
            let config = Self {
                base_url: var("ANTHROPIC_BASE_URL"),
                ..Self::new("anthropic", ProviderKind::Anthropic, model)
            };
            return Ok(Some((config, Some(Secret::new(key)))));
        }
        if let Some(key) = var("OPENAI_API_KEY") {
            let model = var("OPENAI_MODEL").unwrap_or_else(|| DEFAULT_OPENAI_MODEL.to_owned());
            let config =
                Self { base_url: var("OPENAI_BASE_URL"), ..Self::new("openai", ProviderKind::Openai, model) };
            return Ok(Some((config, Some(Secret::new(key)))));
        }
        let Some(url) = var("GREENROOM_MODEL_URL") else { return Ok(None) };
        let model = var("GREENROOM_MODEL").ok_or_else(|| {
            Problem::new(ErrorCode::SettingsInvalid, "GREENROOM_MODEL_URL is set but GREENROOM_MODEL is not.")
                .hint("Set GREENROOM_MODEL to the model's name at that server, for example `qwen3-coder`.")
        })?;
        let config = Self { base_url: Some(url), ..Self::new("local", ProviderKind::OpenaiChat, model) };
        Ok(Some((config, var("GREENROOM_MODEL_KEY").map(Secret::new))))
    }

    fn url(&self) -> Result<Url, Problem> {
        let text = self.base_url.as_deref().unwrap_or(self.provider.default_url());
        let refuse = |why: &str| {
            Problem::new(ErrorCode::SettingsInvalid, format!("The model's address `{text}` {why}."))
                .hint("It looks like `https://api.example.com/v1` or `http://localhost:11434/v1`.")
        };
        let mut url = Url::parse(text).map_err(|_| refuse("is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(refuse("does not begin with http:// or https:// and a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Problem::new(
                ErrorCode::SettingsInvalid,
                "The model's address holds a user name or password.",
            )
            .hint("Leave them out and store the key instead."));
        }
        url.set_query(None);
        url.set_fragment(None);
        let path = self.base_path(url.path());
        url.set_path(&path);
        Ok(url)
    }

    /// The part before `ProviderKind::path`, from whatever form people have copied.
    fn base_path(&self, path: &str) -> String {
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix(self.provider.path()).unwrap_or(path);
        match self.provider {
            ProviderKind::Anthropic => path.strip_suffix("/v1").unwrap_or(path).to_owned(),
            ProviderKind::Gemini => {
                let path = path.split_once("/models").map_or(path, |(base, _)| base);
                if path.is_empty() { self.provider.root().to_owned() } else { path.to_owned() }
            }
            _ if path.is_empty() => self.provider.root().to_owned(),
            _ => path.to_owned(),
        }
    }
}

fn limits(config: &ModelConfig, facts: &ModelFacts) -> Limits {
    let configured = config.max_output_tokens.unwrap_or(u32::MAX);
    Limits {
        context_window: config.context_window.unwrap_or(facts.context_window),
        max_output_tokens: configured.min(facts.max_output.unwrap_or(u32::MAX)).max(1),
        effort: config.effort,
        efforts: facts.efforts.clone(),
        sees_images: !config.is_text_only && facts.images,
    }
}

/// The provider of a configured model. Connects nothing yet: `Provider::warm` does.
pub fn connect(config: &ModelConfig, key: Option<Secret>) -> Result<Arc<dyn Provider>, Problem> {
    connect_with(config, key, EndpointOptions::default())
}

/// `connect` with limits and trust of one's own.
pub fn connect_with(
    config: &ModelConfig,
    key: Option<Secret>,
    options: EndpointOptions,
) -> Result<Arc<dyn Provider>, Problem> {
    connect_from(&Catalog::default(), config, key, options)
}

/// `connect` with what an installation knows about models.
pub fn connect_from(
    catalog: &Catalog,
    config: &ModelConfig,
    key: Option<Secret>,
    options: EndpointOptions,
) -> Result<Arc<dyn Provider>, Problem> {
    let key = key.filter(|key| !key.is_empty());
    if key.is_none() && config.base_url.is_none() && config.provider.needs_key() {
        return Err(key_missing(config));
    }
    let url = config.url()?;
    let is_openai = url.host_str() == Some("api.openai.com");
    let dialect = if is_openai { Dialect::Openai } else { Dialect::Compatible };
    match config.provider {
        ProviderKind::Anthropic => client(catalog, config, key, &url, options, Messages),
        ProviderKind::Openai => client(catalog, config, key, &url, options, Responses),
        ProviderKind::OpenaiChat | ProviderKind::Ollama => {
            client(catalog, config, key, &url, options, Chat { dialect })
        }
        ProviderKind::Openrouter => {
            client(catalog, config, key, &url, options, Chat { dialect: Dialect::Openrouter })
        }
        ProviderKind::Gemini => client(catalog, config, key, &url, options, Gemini),
    }
}

fn client<P: Protocol>(
    catalog: &Catalog,
    config: &ModelConfig,
    key: Option<Secret>,
    url: &Url,
    options: EndpointOptions,
    protocol: P,
) -> Result<Arc<dyn Provider>, Problem> {
    let endpoint = Endpoint::new(url, options).map_err(|error| error.problem())?;
    let facts = catalog.look_up(config.provider, &config.model);
    let mut headers =
        exchange::headers(key.as_ref(), config.provider.key_style()).map_err(|error| error.problem())?;
    if config.provider == ProviderKind::Anthropic {
        headers.insert("anthropic-version", http::HeaderValue::from_static(ANTHROPIC_VERSION));
    }
    let label = format!("{}/{}", config.provider.as_str(), config.model);
    let origin = match &config.base_url {
        // The same model of another account cannot read what this one sealed.
        Some(_) => format!("{label} at {}", url.authority()),
        None => label.clone(),
    };
    let path = path_of(config)?;
    let limits = limits(config, &facts);
    let exchange = Exchange { endpoint, path, origin, headers, key, facts: facts.clone() };
    Ok(Arc::new(Client { label, model: config.model.clone(), limits, facts, exchange, protocol }))
}

/// Of a request, behind the address.
fn path_of(config: &ModelConfig) -> Result<String, Problem> {
    let end = config.provider.path();
    if config.provider != ProviderKind::Gemini {
        return Ok(end.to_owned());
    }
    let model = config.model.strip_prefix("models/").unwrap_or(&config.model);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if model.is_empty() || !model.bytes().all(is_name) {
        return Err(Problem::new(
            ErrorCode::SettingsInvalid,
            "The name of a Gemini model has letters, digits, '-', '.' and '_'.",
        )
        .hint("It looks like `gemini-2.5-pro`."));
    }
    Ok(format!("/models/{model}{end}?alt=sse"))
}

fn key_missing(config: &ModelConfig) -> Problem {
    let message = format!("The model `{}` has no key.", config.name);
    let hint = format!("Store one with `greenroom model add {} --provider … --key-from …`.", config.name);
    Problem::new(ErrorCode::ModelKeyRefused, message).hint(hint)
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        error.problem()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Option<(ModelConfig, Option<Secret>)> {
        let vars: std::collections::HashMap<_, _> = vars.iter().copied().collect();
        ModelConfig::from_environment(|name| vars.get(name).map(|text| (*text).to_owned())).unwrap()
    }

    #[test]
    fn the_environment_names_a_model_in_a_fixed_order() {
        assert_eq!(from(&[("ANTHROPIC_API_KEY", " ")]), None);
        let (config, key) = from(&[("OPENAI_API_KEY", "o"), ("ANTHROPIC_API_KEY", "a\n")]).unwrap();
        assert_eq!(config.provider, ProviderKind::Anthropic);
        assert_eq!(config.model, DEFAULT_ANTHROPIC_MODEL);
        assert_eq!(key.unwrap().expose(), "a");
        let (config, _) = from(&[("OPENAI_API_KEY", "o"), ("OPENAI_MODEL", "gpt-9")]).unwrap();
        assert_eq!((config.provider, config.model.as_str()), (ProviderKind::Openai, "gpt-9"));
        let local = [("GREENROOM_MODEL_URL", "http://localhost:11434"), ("GREENROOM_MODEL", "qwen")];
        let (config, key) = from(&local).unwrap();
        assert_eq!((config.provider, key), (ProviderKind::OpenaiChat, None));
        let missing = |name: &str| (name == "GREENROOM_MODEL_URL").then(|| "http://x".to_owned());
        let problem = ModelConfig::from_environment(missing).unwrap_err();
        assert_eq!(problem.code, ErrorCode::SettingsInvalid);
    }

    #[test]
    fn default_models_are_in_the_catalog() {
        assert!(Catalog::default().look_up(ProviderKind::Anthropic, DEFAULT_ANTHROPIC_MODEL).price.is_some());
        assert!(Catalog::default().look_up(ProviderKind::Openai, DEFAULT_OPENAI_MODEL).price.is_some());
    }

    #[test]
    fn addresses_are_understood_in_the_forms_people_copy() {
        let url = |provider, base: &str| {
            let config = ModelConfig { base_url: Some(base.into()), ..ModelConfig::new("x", provider, "m") };
            config.url().map(|url| url.to_string())
        };
        for base in ["http://h/a", "http://h/a/", "http://h/a/v1", "http://h/a/v1/messages?x=1"] {
            assert_eq!(url(ProviderKind::Anthropic, base).unwrap(), "http://h/a");
        }
        for base in ["http://h:1", "http://h:1/v1/", "http://h:1/v1/chat/completions"] {
            assert_eq!(url(ProviderKind::OpenaiChat, base).unwrap(), "http://h:1/v1");
        }
        for base in ["http://h:1", "http://h:1/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"] {
            assert_eq!(url(ProviderKind::Gemini, base).unwrap(), "http://h:1/v1beta");
        }
        assert_eq!(url(ProviderKind::Openrouter, "https://h").unwrap(), "https://h/api/v1");
        for base in ["h:1", "ftp://h", "http://me:secret@h", "localhost"] {
            let problem = url(ProviderKind::Openai, base).unwrap_err();
            assert_eq!(problem.code, ErrorCode::SettingsInvalid);
            assert!(!base.contains("secret") || !format!("{problem:?}").contains("secret"));
        }
    }

    #[test]
    fn unknown_settings_are_refused_and_absent_ones_are_not_written() {
        let config = ModelConfig::new("a", ProviderKind::OpenaiChat, "m");
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(text, r#"{"name":"a","provider":"openai_chat","model":"m"}"#);
        assert_eq!(serde_json::from_str::<ModelConfig>(&text).unwrap(), config);
        assert!(serde_json::from_str::<ModelConfig>(&text.replace("name", "nome")).is_err());
    }

    #[test]
    fn a_gemini_models_name_cannot_lead_elsewhere() {
        let path = |model| path_of(&ModelConfig::new("g", ProviderKind::Gemini, model));
        let expected = "/models/gemini-2.5-pro:streamGenerateContent?alt=sse";
        assert_eq!(path("models/gemini-2.5-pro").unwrap(), expected);
        for model in ["", "a/../b", "a?key=1", "a b"] {
            assert_eq!(path(model).unwrap_err().code, ErrorCode::SettingsInvalid, "{model}");
        }
    }

    #[test]
    fn an_ollama_needs_no_key() {
        assert!(connect(&ModelConfig::new("o", ProviderKind::Ollama, "qwen3"), None).is_ok());
        let router = connect(&ModelConfig::new("r", ProviderKind::Openrouter, "a/b"), None);
        assert_eq!(router.unwrap_err().code, ErrorCode::ModelKeyRefused);
    }

    #[test]
    fn a_key_is_demanded_by_the_providers_own_servers_and_shown_nowhere() {
        let config = ModelConfig::new("a", ProviderKind::Anthropic, "claude-opus-5-5");
        let problem = connect(&config, None).unwrap_err();
        assert_eq!(problem.code, ErrorCode::ModelKeyRefused);
        let provider = connect(&config, Some(Secret::new("sk-secret"))).unwrap();
        assert!(!format!("{provider:?}").contains("sk-secret"));
        let odd = connect(&config, Some(Secret::new("sk-se\ncret"))).unwrap_err();
        assert!(!format!("{odd:?}").contains("cret"));
    }
}
