//! What is known about models: limits, abilities, prices. The data is in `catalog.toml`, before which come the entries of a
//! file of the installation; a model that is in neither works too, with cautious limits and a cost of 0.

use crate::config::ProviderKind;
use greenroom_domain::money::Usage;
use greenroom_domain::{Effort, ErrorCode, Problem};
use serde::Deserialize;
use std::path::Path;
use std::sync::{Arc, OnceLock};

const UNKNOWN_CONTEXT_WINDOW: u64 = 128_000;
/// Bytes of an installation's file.
const FILE_LIMIT: u64 = 1024 * 1024;

/// How a model is asked to think; see `catalog.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    Always,
    Adaptive,
    Budget,
    None,
}

/// US dollars per million tokens, which is also micro-dollars per token.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Price {
    pub input: f64,
    pub output: f64,
    pub cache_read: f64,
    pub cache_write: f64,
}

/// The price of a request whose prompt is longer than `over` tokens.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct LongPrice {
    pub over: u64,
    #[serde(flatten)]
    pub price: Price,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ModelFacts {
    pub context_window: u64,
    pub max_output: Option<u32>,
    pub thinking: Option<Thinking>,
    /// From the least; empty: it cannot be asked.
    pub efforts: Vec<Effort>,
    pub tools: bool,
    /// Trained to change files by `apply_patch`.
    pub patches: bool,
    pub images: bool,
    /// Whether the prompt's beginning is kept where the request asks for it.
    pub cache: bool,
    pub price: Option<Price>,
    pub long: Option<LongPrice>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    model: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    provider: ProviderKind,
    id: String,
    context_window: u64,
    max_output: Option<u32>,
    thinking: Option<Thinking>,
    efforts: Option<Vec<Effort>>,
    #[serde(default = "yes")]
    tools: bool,
    #[serde(default)]
    patches: bool,
    #[serde(default = "yes")]
    images: bool,
    #[serde(default = "yes")]
    cache: bool,
    price: Option<Price>,
    long: Option<LongPrice>,
}

fn yes() -> bool {
    true
}

/// All that an installation knows about models. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Of the installation's file, before ours.
    own: Arc<[Entry]>,
}

impl Catalog {
    /// With the entries of an installation's file, in the form of `catalog.toml`.
    pub fn with(text: &str) -> Result<Self, Problem> {
        let refuse = |why: String| {
            Problem::new(ErrorCode::SettingsInvalid, format!("The catalog of models cannot be used: {why}."))
                .hint("It has the form of crates/model/src/catalog.toml, one [[model]] for each.")
        };
        let file: File = toml::from_str(text)
            .map_err(|error| refuse(error.to_string().trim_end().trim_end_matches('.').replace('\n', " ")))?;
        for entry in &file.model {
            entry.check().map_err(|why| refuse(format!("{}: {why}", entry.id)))?;
        }
        Ok(Self { own: file.model.into() })
    }

    pub fn read(path: &Path) -> Result<Self, Problem> {
        let refuse = |why: String| {
            Problem::new(
                ErrorCode::SettingsInvalid,
                format!("The catalog of models {} cannot be read: {why}.", path.display()),
            )
            .hint("Correct the setting `models.catalog`, or leave it out.")
        };
        let length = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
        if length > FILE_LIMIT {
            return Err(refuse(format!("it has more than {FILE_LIMIT} bytes")));
        }
        Self::with(&std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?)
    }

    /// What is known about `model`. Chat Completions are looked up among OpenAI's models where they have no entry of their
    /// own: other servers use other names.
    pub fn look_up(&self, provider: ProviderKind, model: &str) -> ModelFacts {
        let find = |entries: &[Entry], provider: ProviderKind| {
            entries
                .iter()
                .find(|entry| entry.provider == provider && is_version_of(model, &entry.id))
                .map(Entry::facts)
        };
        let namesake = (provider == ProviderKind::OpenaiChat).then_some(ProviderKind::Openai);
        find(&self.own, provider)
            .or_else(|| find(entries(), provider))
            .or_else(|| find(&self.own, namesake?))
            .or_else(|| find(entries(), namesake?))
            .unwrap_or_else(|| ModelFacts::unknown(provider))
    }
}

impl Entry {
    fn check(&self) -> Result<(), &'static str> {
        let is_price = |price: &Price| {
            [price.input, price.output, price.cache_read, price.cache_write]
                .iter()
                .all(|part| part.is_finite() && *part >= 0.0)
        };
        if self.id.trim().is_empty() {
            return Err("it has no id");
        }
        if self.context_window == 0 || self.max_output == Some(0) {
            return Err("a limit of 0 tokens leaves no room");
        }
        if !self.price.iter().chain(self.long.iter().map(|long| &long.price)).all(is_price) {
            return Err("a price is 0 or more");
        }
        Ok(())
    }

    fn facts(&self) -> ModelFacts {
        let mut efforts = match &self.efforts {
            Some(efforts) => efforts.clone(),
            None => efforts_of(self.provider, self.thinking),
        };
        efforts.sort_unstable();
        efforts.dedup();
        ModelFacts {
            context_window: self.context_window,
            max_output: self.max_output,
            thinking: self.thinking,
            efforts,
            tools: self.tools,
            patches: self.patches,
            images: self.images,
            cache: self.cache,
            price: self.price,
            long: self.long,
        }
    }
}

/// Where an entry does not say.
fn efforts_of(provider: ProviderKind, thinking: Option<Thinking>) -> Vec<Effort> {
    match (provider, thinking) {
        (_, Some(Thinking::None)) => vec![],
        // A number of tokens can be anything.
        (_, Some(Thinking::Budget)) => Effort::ALL.to_vec(),
        (ProviderKind::Openrouter, _) => {
            vec![Effort::Minimal, Effort::Low, Effort::Medium, Effort::High, Effort::Xhigh]
        }
        _ => vec![Effort::Low, Effort::Medium, Effort::High],
    }
}

fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        let file: File = toml::from_str(include_str!("catalog.toml")).expect("a test parses catalog.toml");
        file.model
    })
}

/// `claude-opus-4-5-20251101` is a version of `claude-opus-4-5`, `claude-opus-5-5` is none of `claude-opus-5`.
fn is_version_of(model: &str, id: &str) -> bool {
    let Some(rest) = model.strip_prefix(id) else { return false };
    let is_date = |date: &str| {
        let digits: String = date.chars().filter(|c| *c != '-').collect();
        digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    match rest.strip_prefix('-') {
        None => rest.is_empty(),
        Some(suffix) => suffix == "latest" || is_date(suffix),
    }
}

impl ModelFacts {
    /// Of a model that nobody told of: what most can do, within limits that most keep.
    pub fn unknown(provider: ProviderKind) -> Self {
        Self {
            context_window: UNKNOWN_CONTEXT_WINDOW,
            max_output: None,
            thinking: None,
            efforts: efforts_of(provider, None),
            tools: true,
            patches: false,
            images: true,
            cache: true,
            price: None,
            long: None,
        }
    }

    /// The cost of one request's tokens, rounded up; 0 when the price is not known.
    pub fn cost_microusd(&self, usage: &Usage) -> u64 {
        let prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
        let long = self.long.filter(|long| prompt > long.over).map(|long| long.price);
        let Some(price) = long.or(self.price) else { return 0 };
        let part = |tokens: u64, price: f64| tokens as f64 * price;
        let cost = part(usage.input_tokens, price.input)
            + part(usage.output_tokens, price.output)
            + part(usage.cache_read_tokens, price.cache_read)
            + part(usage.cache_write_tokens, price.cache_write);
        // Sums like 0.1 + 0.2 must not cost a micro-dollar more.
        (cost - 1e-6).ceil().max(0.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(provider: ProviderKind, model: &str) -> ModelFacts {
        Catalog::default().look_up(provider, model)
    }

    fn usage(input: u64, output: u64, read: u64, write: u64) -> Usage {
        Usage {
            input_tokens: input,
            output_tokens: output,
            cache_read_tokens: read,
            cache_write_tokens: write,
            ..Usage::default()
        }
    }

    #[test]
    fn every_entry_is_plausible_and_listed_once() {
        let mut seen = std::collections::HashSet::new();
        for entry in entries() {
            assert!(seen.insert((entry.provider, &entry.id)), "{} twice", entry.id);
            entry.check().unwrap();
            assert!(u64::from(entry.max_output.unwrap()) < entry.context_window, "{}", entry.id);
            let price = entry.price.unwrap();
            assert!(price.cache_read < price.input && price.input < price.output, "{}", entry.id);
        }
    }

    #[test]
    fn versions_are_found_and_neighbours_are_not() {
        let window = |model| look_up(ProviderKind::Anthropic, model).context_window;
        assert_eq!(window("claude-opus-4-5-20251101"), 200_000);
        assert_eq!(window("claude-opus-5-5"), 1_000_000);
        assert_eq!(look_up(ProviderKind::Anthropic, "claude-opus-5-9").price, None);
        assert_eq!(look_up(ProviderKind::Anthropic, "gpt-6-sol").price, None);
        assert!(look_up(ProviderKind::Openai, "gpt-6-sol-2026-09-22").price.is_some());
        assert_eq!(window("llama"), UNKNOWN_CONTEXT_WINDOW);
    }

    #[test]
    fn cost_counts_each_kind_of_token_and_rounds_up() {
        let facts = look_up(ProviderKind::Anthropic, "claude-opus-5-5");
        assert_eq!(facts.cost_microusd(&usage(1_000_000, 0, 0, 0)), 4_000_000);
        assert_eq!(facts.cost_microusd(&usage(10, 10, 10, 10)), 40 + 200 + 2 + 50);
        assert_eq!(facts.cost_microusd(&usage(0, 0, 1, 0)), 1);
        assert_eq!(look_up(ProviderKind::Openai, "mine").cost_microusd(&usage(9, 9, 9, 9)), 0);
    }

    #[test]
    fn a_long_prompt_costs_its_own_price() {
        let facts = look_up(ProviderKind::Openai, "gpt-6-sol");
        assert_eq!(facts.cost_microusd(&usage(272_000, 0, 0, 0)), 544_000);
        assert_eq!(facts.cost_microusd(&usage(272_000, 0, 1_000, 0)), 1_088_400);
    }

    #[test]
    fn an_installations_entries_come_first_and_may_be_of_models_that_nobody_knows() {
        let catalog = Catalog::with(
            r#"
            [[model]]
            provider = "anthropic"
            id = "claude-opus-5-5"
            context_window = 500_000
            efforts = ["high", "low", "high"]

            [[model]]
            provider = "ollama"
            id = "tiny"
            context_window = 8_000
            tools = false
            images = false
            "#,
        )
        .unwrap();
        let opus = catalog.look_up(ProviderKind::Anthropic, "claude-opus-5-5");
        assert_eq!((opus.context_window, opus.price), (500_000, None));
        assert_eq!(opus.efforts, [Effort::Low, Effort::High]);
        let tiny = catalog.look_up(ProviderKind::Ollama, "tiny");
        assert!(!tiny.tools && !tiny.images);
        assert!(catalog.look_up(ProviderKind::Anthropic, "claude-opus-5").price.is_some());
    }

    #[test]
    fn a_catalog_that_cannot_be_meant_is_refused_in_words() {
        let refused = |text: &str| Catalog::with(text).unwrap_err();
        let entry = |rest: &str| format!("[[model]]\nprovider = \"openai\"\nid = \"m\"\n{rest}");
        for text in [
            entry("context_window = 0"),
            entry("context_window = 9\nprice = { input = -1, output = 1, cache_read = 1, cache_write = 1 }"),
            entry("context_window = 9\nefforts = [\"huge\"]"),
            entry("context_window = 9\nvision = true"),
            "nonsense".to_owned(),
        ] {
            assert_eq!(refused(&text).code, ErrorCode::SettingsInvalid, "{text}");
        }
        let missing = Catalog::read(Path::new("/nowhere/catalog.toml")).unwrap_err();
        assert!(missing.message.contains("/nowhere/catalog.toml"), "{}", missing.message);
    }

    #[test]
    fn efforts_follow_the_model() {
        let efforts = |provider, model| look_up(provider, model).efforts;
        assert!(efforts(ProviderKind::Openai, "gpt-4.1").is_empty());
        assert_eq!(efforts(ProviderKind::Anthropic, "claude-opus-4-6").last(), Some(&Effort::Max));
        assert_eq!(efforts(ProviderKind::Anthropic, "new-1"), [Effort::Low, Effort::Medium, Effort::High]);
    }
}
