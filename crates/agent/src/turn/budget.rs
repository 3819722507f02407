//! The turn's hard limits, in words that name limit and number.

use super::Used;
use greenroom_domain::money::Budget;
use greenroom_domain::{ErrorCode, Problem};

const HINT: &str = "Everything done so far is kept. Send another prompt to go on, or raise the limit.";

/// The limit of tokens or cost that is reached: nothing more may be asked or run.
pub(super) fn spent(budget: &Budget, used: &Used) -> Option<Problem> {
    let tokens = used.usage.total_tokens();
    if tokens >= budget.tokens {
        return Some(problem(&format!("{} tokens ({} used)", grouped(budget.tokens), grouped(tokens))));
    }
    let cost = used.usage.cost_microusd;
    if cost >= budget.cost_microusd {
        return Some(problem(&format!("{} ({} used)", dollars(budget.cost_microusd), dollars(cost))));
    }
    None
}

/// No further call may run; the model may still say what it did.
pub(super) fn calls_spent(budget: &Budget, used: &Used) -> Option<Problem> {
    let reached = used.tool_calls >= budget.tool_calls;
    reached.then(|| {
        problem(&format!("{} tool calls ({} made)", grouped(budget.tool_calls), grouped(used.tool_calls)))
    })
}

pub(super) fn time_over(budget: &Budget, wall_ms: u64) -> Problem {
    problem(&format!("{} of time ({} passed)", seconds(budget.wall_ms), seconds(wall_ms)))
}

fn problem(limit: &str) -> Problem {
    Problem::new(ErrorCode::BudgetReached, format!("The turn reached its limit of {limit}.")).hint(HINT)
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn dollars(microusd: u64) -> String {
    format!("${}.{:02}", grouped(microusd / 1_000_000), microusd % 1_000_000 / 10_000)
}

fn seconds(ms: u64) -> String {
    format!("{} s", grouped(ms / 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_domain::money::Usage;

    #[test]
    fn the_words_name_limit_and_number() {
        let budget = Budget { tokens: 1_000, cost_microusd: 5_000_000, wall_ms: 60_000, tool_calls: 2 };
        let used = |usage, tool_calls| Used { usage, tool_calls, wall_ms: 0 };
        let words = |used: &Used| spent(&budget, used).map(|problem| problem.message);
        assert_eq!(words(&used(Usage::default(), 1)), None);
        let usage = Usage { input_tokens: 1_200, ..Usage::default() };
        assert_eq!(
            words(&used(usage, 0)).unwrap(),
            "The turn reached its limit of 1,000 tokens (1,200 used)."
        );
        let usage = Usage { cost_microusd: 5_120_000, ..Usage::default() };
        assert_eq!(words(&used(usage, 0)).unwrap(), "The turn reached its limit of $5.00 ($5.12 used).");
        let calls = calls_spent(&budget, &used(Usage::default(), 2)).unwrap().message;
        assert_eq!(calls, "The turn reached its limit of 2 tool calls (2 made).");
        assert!(time_over(&budget, 61_000).message.contains("60 s of time (61 s passed)"));
    }
}
