//! Figures of what happened: turns, tokens, money, time, tools, changes. Fed by the outbox, each event counted once.

use crate::access::onlooker;
use crate::{App, Result, require};
use greenroom_directory::StatisticsQuery;
use greenroom_domain::statistics::{Figures, StatisticsBy};
use greenroom_domain::{ErrorCode, LoginName, Person, Problem, RepositoryName, Role};
use greenroom_wire::{StatisticsGroup, StatisticsView};
use std::collections::HashMap;
use time::format_description::well_known::Iso8601;
use time::{Date, Duration, OffsetDateTime};

/// Longest range of one answer.
const DAYS: i64 = 366;
/// When no range is said.
const LAST_DAYS: i64 = 30;

/// What is asked for. Days in UTC, both included, such as `2026-11-21`.
#[derive(Clone, Debug, Default)]
pub struct StatisticsRange {
    pub from: Option<String>,
    pub to: Option<String>,
    pub by: StatisticsBy,
    pub repository: Option<RepositoryName>,
    pub person: Option<LoginName>,
}

impl App {
    /// At most 366 days; the last 30 when none are said.
    pub async fn statistics(&self, caller: &Person, range: StatisticsRange) -> Result<StatisticsView> {
        require(caller, Role::Viewer)?;
        let today = OffsetDateTime::from_unix_timestamp(self.inner.now_ms().div_euclid(1000))
            .map_or(Date::MIN, OffsetDateTime::date);
        let (from, to) = days_of(&range, today)?;
        let repository = match &range.repository {
            Some(name) => Some(self.inner.repository_row(name).await?.id),
            None => None,
        };
        let person = match &range.person {
            Some(login) => Some(self.person_of_login(login).await?),
            None => None,
        };
        let by = range.by;
        let (from_ms, until_ms) = (begin_ms(from), begin_ms(to + Duration::DAY));
        let onlooker = onlooker(caller);
        let query = StatisticsQuery { from_ms, until_ms, repository, person, by, onlooker };
        let found = self.inner.directory.statistics(query).await?;
        let names: HashMap<String, String> = match by {
            StatisticsBy::Person => {
                let ids = found.groups.iter().map(|(key, _)| key.clone()).collect();
                let people = self.inner.directory.people_named(ids).await?;
                people.into_iter().map(|(id, name)| (id.to_string(), name)).collect()
            }
            _ => HashMap::new(),
        };
        let group = |(key, figures): (String, Figures)| StatisticsGroup {
            name: match by {
                StatisticsBy::Person => {
                    names.get(&key).cloned().unwrap_or_else(|| "Somebody who is gone".to_owned())
                }
                _ => key.clone(),
            },
            person: (by == StatisticsBy::Person).then(|| key.parse().ok()).flatten(),
            repository: (by == StatisticsBy::Repository).then(|| key.parse().ok()).flatten(),
            figures,
        };
        Ok(StatisticsView {
            from: written(from),
            to: written(to),
            by,
            totals: found.totals,
            groups: found.groups.into_iter().map(group).collect(),
            tools: found.tools,
        })
    }

    async fn person_of_login(&self, login: &LoginName) -> Result<greenroom_domain::PersonId> {
        let people = self.inner.directory.people().await?;
        people.into_iter().find(|person| person.login == *login).map(|person| person.id).ok_or_else(|| {
            Problem::new(ErrorCode::PersonUnknown, format!("Nobody here has the login {login}."))
                .hint("`greenroom person list` names everybody.")
        })
    }
}

fn days_of(range: &StatisticsRange, today: Date) -> Result<(Date, Date)> {
    let read = |text: &String| {
        let day = Date::parse(text, &Iso8601::DATE).ok();
        // That standard has other ways to write a day.
        day.filter(|day| written(*day) == *text).ok_or_else(|| {
            Problem::new(ErrorCode::InvalidRequest, "A day is written as in 2026-11-21.")
                .hint("Give `from` and `to` as days in UTC.")
        })
    };
    let to = range.to.as_ref().map(read).transpose()?.unwrap_or(today);
    let first = || to.checked_sub(Duration::days(LAST_DAYS - 1)).unwrap_or(Date::MIN);
    let from = range.from.as_ref().map(read).transpose()?.unwrap_or_else(first);
    let days = (to - from).whole_days() + 1;
    // The end of days of the library is no day of ours.
    if !(1..=DAYS).contains(&days) || !(1970..=9000).contains(&from.year()) || to.year() > 9000 {
        let message = format!("A range has 1 to {DAYS} days, from 1970 on.");
        return Err(
            Problem::new(ErrorCode::InvalidRequest, message).hint("Ask for a shorter range, or for several.")
        );
    }
    Ok((from, to))
}

fn begin_ms(day: Date) -> i64 {
    day.midnight().assume_utc().unix_timestamp() * 1000
}

fn written(day: Date) -> String {
    format!("{:04}-{:02}-{:02}", day.year(), u8::from(day.month()), day.day())
}
