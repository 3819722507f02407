//! What one person may hold and use of an installation, and what is said when it is all used. Pure: who counts is `app`.

use crate::{ErrorCode, Problem};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::time::Duration;
use utoipa::ToSchema;

const DAY_MS: i64 = 86_400_000;

/// What is counted for each person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuotaKind {
    /// Sessions that the person made and that are neither deleted nor archived.
    Sessions,
    /// Sandboxes of their sessions that are alive.
    Sandboxes,
    /// Prompts accepted since midnight UTC.
    PromptsPerDay,
    /// Millionths of a US dollar for turns that began since midnight UTC in their name, where the model's price is known.
    CostPerDay,
    /// The same since the first of the month, UTC.
    CostPerMonth,
    /// Bytes of files that they attached to prompts and that are still kept.
    StoredBytes,
}

impl QuotaKind {
    pub const ALL: [Self; 6] = [
        Self::Sessions,
        Self::Sandboxes,
        Self::PromptsPerDay,
        Self::CostPerDay,
        Self::CostPerMonth,
        Self::StoredBytes,
    ];
}

/// A bound, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum QuotaLimit {
    AtMost(u64),
    Word(Unlimited),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unlimited {
    Unlimited,
}

impl QuotaLimit {
    pub const UNLIMITED: Self = Self::Word(Unlimited::Unlimited);

    pub fn bound(self) -> Option<u64> {
        match self {
            Self::AtMost(bound) => Some(bound),
            Self::Word(Unlimited::Unlimited) => None,
        }
    }
}

impl FromStr for QuotaLimit {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" => Ok(Self::UNLIMITED),
            _ => text
                .parse()
                .map(Self::AtMost)
                .map_err(|_| format!("{text:?} is neither a whole number nor `unlimited`")),
        }
    }
}

/// What an admin set, for everyone or for one person. What is left out is, for one person, as for everyone; for everyone,
/// without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<QuotaLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandboxes: Option<QuotaLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts_per_day: Option<QuotaLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_microusd_per_day: Option<QuotaLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_microusd_per_month: Option<QuotaLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<QuotaLimit>,
}

impl Quotas {
    pub fn of(&self, kind: QuotaKind) -> Option<QuotaLimit> {
        match kind {
            QuotaKind::Sessions => self.sessions,
            QuotaKind::Sandboxes => self.sandboxes,
            QuotaKind::PromptsPerDay => self.prompts_per_day,
            QuotaKind::CostPerDay => self.cost_microusd_per_day,
            QuotaKind::CostPerMonth => self.cost_microusd_per_month,
            QuotaKind::StoredBytes => self.stored_bytes,
        }
    }

    /// What holds for a person, `self` being everyone's.
    pub fn bound_for(&self, own: &Self, kind: QuotaKind) -> Option<u64> {
        own.of(kind).or(self.of(kind)).and_then(QuotaLimit::bound)
    }
}

/// When what a quota counts by time begins anew; `None` where it does not.
pub fn free_at_ms(kind: QuotaKind, now_ms: i64) -> Option<i64> {
    let day = now_ms.div_euclid(DAY_MS);
    match kind {
        QuotaKind::PromptsPerDay | QuotaKind::CostPerDay => Some((day + 1) * DAY_MS),
        QuotaKind::CostPerMonth => {
            let (year, month, _) = civil_of(day);
            let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            Some(day_of(year, month, 1) * DAY_MS)
        }
        QuotaKind::Sessions | QuotaKind::Sandboxes | QuotaKind::StoredBytes => None,
    }
}

/// Since when it counts; `None`: everything that is there now.
pub fn since_ms(kind: QuotaKind, now_ms: i64) -> Option<i64> {
    let day = now_ms.div_euclid(DAY_MS);
    match kind {
        QuotaKind::PromptsPerDay | QuotaKind::CostPerDay => Some(day * DAY_MS),
        QuotaKind::CostPerMonth => {
            let (year, month, _) = civil_of(day);
            Some(day_of(year, month, 1) * DAY_MS)
        }
        QuotaKind::Sessions | QuotaKind::Sandboxes | QuotaKind::StoredBytes => None,
    }
}

/// Refuses where `wanted` more does not fit. Of money, whatever is left is enough to begin: a turn then ends when that is
/// spent.
pub fn check(kind: QuotaKind, used: u64, wanted: u64, most: u64, now_ms: i64) -> Result<(), Problem> {
    let fits = match kind {
        QuotaKind::CostPerDay | QuotaKind::CostPerMonth => used < most,
        _ => used.saturating_add(wanted) <= most,
    };
    if fits { Ok(()) } else { Err(reached(kind, used, most, now_ms)) }
}

/// What, how much, and when it is free again.
pub fn reached(kind: QuotaKind, used: u64, most: u64, now_ms: i64) -> Problem {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    let usd = |microusd: u64| format!("${:.2}", microusd as f64 / 1e6);
    let message = match kind {
        QuotaKind::Sessions => {
            format!("You have {}, and may have {most}.", counted(used, "open session", "open sessions"))
        }
        QuotaKind::Sandboxes => {
            let verb = if used == 1 { "is" } else { "are" };
            format!(
                "{} of your sessions {verb} at work, and {most} may be.",
                counted(used, "sandbox", "sandboxes")
            )
        }
        QuotaKind::PromptsPerDay => {
            format!("You sent {} today, and may send {most} a day.", counted(used, "prompt", "prompts"))
        }
        QuotaKind::CostPerDay => {
            format!("Your turns cost {} today, and may cost {} a day.", usd(used), usd(most))
        }
        QuotaKind::CostPerMonth => {
            format!("Your turns cost {} this month, and may cost {} a month.", usd(used), usd(most))
        }
        QuotaKind::StoredBytes => {
            format!("Your attached files take {}, and may take {}.", mib(used), mib(most))
        }
    };
    let raise = "an admin can change it with `greenroom quota set`";
    let problem = Problem::new(ErrorCode::PersonQuotaReached, message);
    match free_at_ms(kind, now_ms) {
        Some(at) => {
            let wait = Duration::from_millis(u64::try_from(at - now_ms).unwrap_or(0));
            let hint = format!("It begins anew in {}, at {} UTC; {raise}.", in_words(wait), stamp(at));
            problem.hint(hint).retry_after(wait)
        }
        None => problem.hint(match kind {
            QuotaKind::Sessions => format!("Archive or delete one that you do not need any more; {raise}."),
            QuotaKind::Sandboxes => format!("Send it again when another of your turns has ended; {raise}."),
            _ => format!("Delete a session whose files you do not need any more; {raise}."),
        }),
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn in_words(wait: Duration) -> String {
    let minutes = wait.as_secs().div_ceil(60).max(1);
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn stamp(at_ms: i64) -> String {
    let (year, month, day) = civil_of(at_ms.div_euclid(DAY_MS));
    let minutes = at_ms.rem_euclid(DAY_MS) / 60_000;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a day since 1970-01-01.
pub fn civil_of(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_798_761_599_000; // 2026-12-31 23:59:59

    #[test]
    fn days_and_months_end_at_midnight_utc() {
        let next = 1_798_761_600_000;
        assert_eq!(free_at_ms(QuotaKind::PromptsPerDay, NOW), Some(next));
        assert_eq!(free_at_ms(QuotaKind::CostPerMonth, NOW), Some(next));
        assert_eq!(free_at_ms(QuotaKind::Sessions, NOW), None);
        assert_eq!(since_ms(QuotaKind::CostPerMonth, NOW), Some(next - 31 * DAY_MS));
        assert_eq!(stamp(next), "2027-01-01 00:00");
        for day in (-800_000..800_000).step_by(7) {
            let (year, month, of_month) = civil_of(day);
            assert_eq!(day_of(year, month, of_month), day);
        }
        assert_eq!(civil_of(19_782), (2024, 2, 29));
    }

    #[test]
    fn a_persons_own_quota_counts_before_everyones() {
        let everyone = Quotas { sessions: Some(QuotaLimit::AtMost(3)), ..Quotas::default() };
        let bound =
            |own| everyone.bound_for(&Quotas { sessions: own, ..Quotas::default() }, QuotaKind::Sessions);
        assert_eq!(bound(None), Some(3));
        assert_eq!(bound(Some(QuotaLimit::AtMost(7))), Some(7));
        assert_eq!(bound(Some(QuotaLimit::UNLIMITED)), None);
        assert_eq!(everyone.bound_for(&Quotas::default(), QuotaKind::Sandboxes), None);
    }

    #[test]
    fn a_reached_quota_says_what_how_much_and_when_it_is_free_again() {
        assert!(check(QuotaKind::PromptsPerDay, 2, 1, 3, NOW).is_ok());
        let problem = check(QuotaKind::PromptsPerDay, 3, 1, 3, NOW).unwrap_err();
        assert_eq!(problem.code, ErrorCode::PersonQuotaReached);
        assert_eq!(problem.message, "You sent 3 prompts today, and may send 3 a day.");
        let hint = "It begins anew in 1 min, at 2027-01-01 00:00 UTC; an admin can change it with `greenroom quota set`.";
        assert_eq!(problem.hint.as_deref(), Some(hint));
        assert_eq!(problem.retry_after_s, Some(1));
        let problem = check(QuotaKind::PromptsPerDay, 1, 1, 1, NOW).unwrap_err();
        assert_eq!(problem.message, "You sent 1 prompt today, and may send 1 a day.");
        let problem = check(QuotaKind::CostPerMonth, 1_500_000, 0, 1_000_000, NOW).unwrap_err();
        assert_eq!(problem.message, "Your turns cost $1.50 this month, and may cost $1.00 a month.");
        assert!(check(QuotaKind::CostPerDay, 999_999, 0, 1_000_000, NOW).is_ok());
        let problem = check(QuotaKind::StoredBytes, 1 << 20, 1, 1 << 20, NOW).unwrap_err();
        assert_eq!(problem.message, "Your attached files take 1.0 MiB, and may take 1.0 MiB.");
        assert_eq!(problem.retry_after_s, None);
    }

    #[test]
    fn limits_are_numbers_or_the_word() {
        let quotas: Quotas = serde_json::from_str(r#"{"sessions":5,"stored_bytes":"unlimited"}"#).unwrap();
        assert_eq!(quotas.sessions, Some(QuotaLimit::AtMost(5)));
        assert_eq!(quotas.stored_bytes, Some(QuotaLimit::UNLIMITED));
        assert!(serde_json::from_str::<Quotas>(r#"{"sessions":-1}"#).is_err());
        assert!(serde_json::from_str::<Quotas>(r#"{"sesions":1}"#).is_err());
        assert!("many".parse::<QuotaLimit>().is_err());
    }
}
