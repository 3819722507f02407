//! `quota …`

use clap::{Args, Subcommand};
use greenroom_domain::LoginName;
use greenroom_domain::quota::QuotaLimit;
use std::str::FromStr;

#[derive(Debug, Subcommand)]
pub(crate) enum Quota {
    /// Show what a person used of what they may
    Show {
        /// Whose; without it one's own
        login: Option<LoginName>,
    },
    /// Show what is set, for everyone and for people
    List,
    /// Set quotas, for everyone or for one person; what is not named stays
    #[command(after_help = SET_HELP)]
    Set(Box<SetQuota>),
}

const SET_HELP: &str = "\
Each is a number, `unlimited`, or `default`: for a person as for everyone, for everyone without bound.

Examples:
  greenroom quota set --prompts-per-day 200 --usd-per-month 300
  greenroom quota set --person ada --usd-per-month unlimited
  greenroom quota set --person ada --prompts-per-day default";

#[derive(Debug, Args)]
pub(crate) struct SetQuota {
    /// For this person instead of everyone
    #[arg(long, value_name = "LOGIN")]
    pub(crate) person: Option<LoginName>,
    /// Sessions that are neither deleted nor archived
    #[arg(long, value_name = "N")]
    pub(crate) sessions: Option<Amount<1>>,
    /// Sandboxes of their sessions at the same time
    #[arg(long, value_name = "N")]
    pub(crate) sandboxes: Option<Amount<1>>,
    /// Prompts from midnight to midnight, UTC
    #[arg(long, value_name = "N")]
    pub(crate) prompts_per_day: Option<Amount<1>>,
    /// US dollars from midnight to midnight, UTC, where the models' prices are known
    #[arg(long, value_name = "DOLLARS")]
    pub(crate) usd_per_day: Option<Amount<1_000_000>>,
    /// US dollars in a month of the calendar, UTC
    #[arg(long, value_name = "DOLLARS")]
    pub(crate) usd_per_month: Option<Amount<1_000_000>>,
    /// MiB of files attached to prompts
    #[arg(long, value_name = "MIB")]
    pub(crate) stored_mib: Option<Amount<1_048_576>>,
}

/// As people write it, in units of `UNIT`; `None`: `default`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Amount<const UNIT: u64>(pub(crate) Option<QuotaLimit>);

impl<const UNIT: u64> FromStr for Amount<UNIT> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => return Ok(Self(None)),
            "unlimited" => return Ok(Self(Some(QuotaLimit::UNLIMITED))),
            _ => {}
        }
        let wrong = || format!("{text:?} is neither a number nor `unlimited` nor `default`");
        let number: f64 = text.parse().map_err(|_| wrong())?;
        let amount = (number * UNIT as f64).round();
        let is_usable = (0.0..=1e15).contains(&amount) && (UNIT > 1 || number.fract() == 0.0);
        if is_usable { Ok(Self(Some(QuotaLimit::AtMost(amount as u64)))) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_peoples_units() {
        assert_eq!("2.5".parse(), Ok(Amount::<1_000_000>(Some(QuotaLimit::AtMost(2_500_000)))));
        assert_eq!("10".parse(), Ok(Amount::<1>(Some(QuotaLimit::AtMost(10)))));
        assert_eq!("default".parse(), Ok(Amount::<1>(None)));
        assert_eq!("unlimited".parse(), Ok(Amount::<1>(Some(QuotaLimit::UNLIMITED))));
        for wrong in ["-1", "2.5", "many", "", "NaN", "1e40"] {
            assert!(wrong.parse::<Amount<1>>().is_err(), "{wrong}");
        }
    }
}
