//! Token counts and cost. Money is counted in millionths of a US dollar, as integers.

use serde::{Deserialize, Serialize};
use std::ops::{AddAssign, SubAssign};
use utoipa::ToSchema;

/// Tokens of one or more model requests. `input` leaves out what was read from or written to the provider's cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_write_tokens: u64,
    /// Millionths of a US dollar; 0 when the model's price is not known.
    pub cost_microusd: u64,
    pub requests: u64,
}

impl Usage {
    pub fn total_tokens(&self) -> u64 {
        let of_cache = self.cache_read_tokens.saturating_add(self.cache_write_tokens);
        self.input_tokens.saturating_add(self.output_tokens).saturating_add(of_cache)
    }
}

impl AddAssign for Usage {
    /// Stops at the largest number: a provider, or an imported log, may say anything.
    fn add_assign(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cache_read_tokens = self.cache_read_tokens.saturating_add(other.cache_read_tokens);
        self.cache_write_tokens = self.cache_write_tokens.saturating_add(other.cache_write_tokens);
        self.cost_microusd = self.cost_microusd.saturating_add(other.cost_microusd);
        self.requests = self.requests.saturating_add(other.requests);
    }
}

impl SubAssign for Usage {
    /// Never below nothing.
    fn sub_assign(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_sub(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_sub(other.output_tokens);
        self.cache_read_tokens = self.cache_read_tokens.saturating_sub(other.cache_read_tokens);
        self.cache_write_tokens = self.cache_write_tokens.saturating_sub(other.cache_write_tokens);
        self.cost_microusd = self.cost_microusd.saturating_sub(other.cost_microusd);
        self.requests = self.requests.saturating_sub(other.requests);
    }
}

/// Hard limits of one turn. The turn ends cleanly, with its work kept, when one is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Budget {
    pub tokens: u64,
    pub cost_microusd: u64,
    pub wall_ms: u64,
    pub tool_calls: u64,
}

impl Budget {
    /// Without these tokens and this cost.
    pub fn less(self, tokens: u64, cost_microusd: u64) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(tokens),
            cost_microusd: self.cost_microusd.saturating_sub(cost_microusd),
            ..self
        }
    }

    /// So many percent of the tokens and the cost; time and calls are not shared, they pass side by side.
    pub fn share(self, percent: u64) -> Self {
        let part = |whole: u64| {
            u64::try_from(u128::from(whole) * u128::from(percent.min(100)) / 100).unwrap_or(whole)
        };
        Self { tokens: part(self.tokens), cost_microusd: part(self.cost_microusd), ..self }
    }
}

impl Default for Budget {
    /// Five million tokens, five dollars, one hour, 400 tool calls: far over an ordinary change, far under a bad bill.
    fn default() -> Self {
        Self { tokens: 5_000_000, cost_microusd: 5_000_000, wall_ms: 3_600_000, tool_calls: 400 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_absurd_figures_stop_at_the_largest_number() {
        let most = Usage {
            input_tokens: u64::MAX,
            output_tokens: u64::MAX,
            cache_read_tokens: u64::MAX,
            cache_write_tokens: u64::MAX,
            cost_microusd: u64::MAX,
            requests: u64::MAX,
        };
        let mut sum = most;
        sum += most;
        assert_eq!(sum, most);
        assert_eq!(sum.total_tokens(), u64::MAX);
    }
}
