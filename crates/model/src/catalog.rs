//! What is known about models: limits, prices, how they think. The data is in `catalog.toml`; a model that is not there
//! works too, with a cautious window and a cost of 0.

use crate::config::ProviderKind;
use greenroom_domain::money::Usage;
use serde::Deserialize;
use std::sync::OnceLock;

const UNKNOWN_CONTEXT_WINDOW: u64 = 128_000;

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
    pub price: Option<Price>,
    pub long: Option<LongPrice>,
}

#[derive(Deserialize)]
struct File {
    model: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    provider: ProviderKind,
    id: String,
    context_window: u64,
    max_output: u32,
    thinking: Thinking,
    price: Price,
    long: Option<LongPrice>,
}

/// What is known about `model`. Chat Completions are looked up among OpenAI's models: other servers use other names.
pub fn look_up(provider: ProviderKind, model: &str) -> ModelFacts {
    let provider = match provider {
        ProviderKind::Anthropic => ProviderKind::Anthropic,
        ProviderKind::Openai | ProviderKind::OpenaiChat => ProviderKind::Openai,
    };
    match entries().iter().find(|entry| entry.provider == provider && is_version_of(model, &entry.id)) {
        Some(entry) => ModelFacts {
            context_window: entry.context_window,
            max_output: Some(entry.max_output),
            thinking: Some(entry.thinking),
            price: Some(entry.price),
            long: entry.long,
        },
        None => ModelFacts {
            context_window: UNKNOWN_CONTEXT_WINDOW,
            max_output: None,
            thinking: None,
            price: None,
            long: None,
        },
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
            assert!(u64::from(entry.max_output) < entry.context_window, "{}", entry.id);
            let price = entry.price;
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
}
