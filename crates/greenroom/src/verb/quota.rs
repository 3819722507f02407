//! `quota …`

use super::Desk;
use crate::cli::{Quota, SetQuota};
use crate::exit::{Exit, Failure};
use crate::render::table::Table;
use greenroom_domain::quota::{QuotaKind, QuotaLimit, Quotas};
use greenroom_wire::{QuotaUsage, QuotasView};

pub(crate) async fn perform(desk: &Desk, verb: Quota) -> Result<Exit, Failure> {
    match verb {
        Quota::Show { login } => {
            let login = match login {
                Some(login) => login,
                None => desk.client.me().await?.person.login,
            };
            let usage = desk.client.quota_usage(&login).await?;
            desk.out.document(&usage, usage_text)?;
        }
        Quota::List => {
            let quotas = desk.client.quotas().await?;
            desk.out.document(&quotas, quotas_text)?;
        }
        Quota::Set(set) => {
            let known = desk.client.quotas().await?;
            let before = match &set.person {
                None => known.everyone,
                Some(login) => {
                    let own = known.people.into_iter().find(|person| person.login == *login);
                    own.map(|person| person.quotas).unwrap_or_default()
                }
            };
            let quotas = desk.client.set_quotas(set.person.as_ref(), &changed(before, &set)).await?;
            desk.out.document(&quotas, quotas_text)?;
        }
    }
    Ok(Exit::Done)
}

fn changed(before: Quotas, set: &SetQuota) -> Quotas {
    Quotas {
        sessions: set.sessions.map_or(before.sessions, |amount| amount.0),
        sandboxes: set.sandboxes.map_or(before.sandboxes, |amount| amount.0),
        prompts_per_day: set.prompts_per_day.map_or(before.prompts_per_day, |amount| amount.0),
        cost_microusd_per_day: set.usd_per_day.map_or(before.cost_microusd_per_day, |amount| amount.0),
        cost_microusd_per_month: set.usd_per_month.map_or(before.cost_microusd_per_month, |amount| amount.0),
        stored_bytes: set.stored_mib.map_or(before.stored_bytes, |amount| amount.0),
    }
}

fn quotas_text(quotas: &QuotasView) -> String {
    let rows = |quotas: &Quotas| {
        QuotaKind::ALL.map(|kind| match quotas.of(kind) {
            None => "-".to_owned(),
            Some(QuotaLimit::AtMost(most)) => amount(kind, most),
            Some(QuotaLimit::Word(_)) => "unlimited".to_owned(),
        })
    };
    let mut lines = vec![[vec!["everyone".to_owned()], rows(&quotas.everyone).to_vec()].concat()];
    for person in &quotas.people {
        lines.push([vec![person.login.to_string()], rows(&person.quotas).to_vec()].concat());
    }
    let heads = ["WHO", "SESSIONS", "SANDBOXES", "PROMPTS A DAY", "USD A DAY", "USD A MONTH", "FILES"];
    Table::new(&heads, "Nothing is set.").rows(&lines, Clone::clone).text()
}

fn usage_text(usage: &QuotaUsage) -> String {
    let table = Table::new(&["WHAT", "USED", "OF"], "Nothing is counted.").rows(&usage.used, |used| {
        let name = match used.kind {
            QuotaKind::Sessions => "open sessions",
            QuotaKind::Sandboxes => "sandboxes",
            QuotaKind::PromptsPerDay => "prompts today",
            QuotaKind::CostPerDay => "cost today",
            QuotaKind::CostPerMonth => "cost this month",
            QuotaKind::StoredBytes => "attached files",
        };
        let limit = used.limit.map_or_else(|| "unlimited".to_owned(), |most| amount(used.kind, most));
        vec![name.to_owned(), amount(used.kind, used.used), limit]
    });
    table.text()
}

fn amount(kind: QuotaKind, number: u64) -> String {
    match kind {
        QuotaKind::CostPerDay | QuotaKind::CostPerMonth => format!("${:.2}", number as f64 / 1e6),
        QuotaKind::StoredBytes => format!("{:.1} MiB", number as f64 / 1_048_576.0),
        _ => number.to_string(),
    }
}
