//! Figures of what happened, a row for each event that counts. Written with the directory's cursor, so that each is there
//! once; read in bounded ranges of days, in UTC.

use crate::row::{all, parsed, signed, unsigned};
use crate::sessions::{Onlooker, SEEN};
use crate::{Directory, Result, SessionRow};
use greenroom_domain::money::Usage;
use greenroom_domain::statistics::{Figures, StatisticsBy, ToolFigures};
use greenroom_domain::{PersonId, RepositoryId};
use rusqlite::types::Value;
use rusqlite::{Row, Transaction, params, params_from_iter};

/// Groups of one answer.
const GROUPS: u32 = 400;
const TOOLS: u32 = 50;

/// An event that counts, at its place in the session's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub seq: u64,
    pub at_ms: i64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Prompted {
        prompt: String,
        by: PersonId,
    },
    /// In the name of whoever sent the prompt.
    TurnStarted {
        turn: String,
        prompt: Option<String>,
    },
    /// A turn without a prompt.
    TurnAskedFor {
        turn: String,
        by: PersonId,
    },
    ModelChosen {
        turn: String,
        model: String,
    },
    TurnEnded {
        turn: String,
        outcome: &'static str,
        usage: Usage,
        duration_ms: u64,
    },
    ToolStarted {
        turn: String,
        call: String,
        tool: String,
    },
    ToolEnded {
        call: String,
        outcome: &'static str,
        duration_ms: u64,
    },
    ChangeOpened {
        change: String,
        by: PersonId,
    },
    ChangeMerged {
        change: String,
        by: PersonId,
    },
}

pub(crate) fn insert_fact(db: &Transaction<'_>, row: &SessionRow, fact: &Fact) -> Result<()> {
    let session = row.id.to_string();
    let insert = |kind: &str, person: Option<String>, subject: &str, name: Option<&str>| -> Result<()> {
        let sql = "INSERT OR IGNORE INTO statistics (session, seq, kind, at_ms, repository, repository_name, person, subject, name)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        db.prepare_cached(sql)?.execute(params![
            session,
            signed(fact.seq),
            kind,
            fact.at_ms,
            row.repository.to_string(),
            row.repository_name.as_str(),
            person,
            subject,
            name
        ])?;
        Ok(())
    };
    match &fact.what {
        What::Prompted { prompt, by } => insert("prompt", Some(by.to_string()), prompt, None),
        What::TurnStarted { turn, prompt } => {
            let person = match prompt {
                Some(prompt) => person_of(db, &session, "prompt", prompt)?,
                None => None,
            };
            insert("turn", person, turn, None)
        }
        What::ToolStarted { turn, call, tool } => {
            insert("tool", person_of(db, &session, "turn", turn)?, call, Some(tool))
        }
        What::ChangeOpened { change, by } => insert("change_opened", Some(by.to_string()), change, None),
        What::ChangeMerged { change, by } => insert("change_merged", Some(by.to_string()), change, None),
        What::TurnAskedFor { turn, by } => {
            let sql = "UPDATE statistics SET person = ? WHERE session = ? AND subject = ? AND kind = 'turn'";
            db.prepare_cached(sql)?.execute(params![by.to_string(), session, turn])?;
            Ok(())
        }
        What::ModelChosen { turn, model } => {
            let sql = "UPDATE statistics SET name = ? WHERE session = ? AND subject = ? AND kind = 'turn'";
            db.prepare_cached(sql)?.execute(params![model, session, turn])?;
            Ok(())
        }
        What::ToolEnded { call, outcome, duration_ms } => {
            let sql = "UPDATE statistics SET outcome = ?, duration_ms = ?
                WHERE session = ? AND subject = ? AND kind = 'tool' AND outcome IS NULL";
            db.prepare_cached(sql)?.execute(params![outcome, signed(*duration_ms), session, call])?;
            Ok(())
        }
        What::TurnEnded { turn, outcome, usage, duration_ms } => {
            // A provider may count no tokens, and nobody may know the model's price.
            let is_counted = usage.total_tokens() > 0 || usage.requests == 0;
            let counted = |tokens| is_counted.then(|| signed(tokens));
            let is_priced = usage.cost_microusd > 0 || usage.requests == 0;
            let sql =
                "UPDATE statistics SET outcome = ?, duration_ms = ?, input_tokens = ?, output_tokens = ?,
                    cache_read_tokens = ?, cache_write_tokens = ?, cost_microusd = ?
                WHERE session = ? AND subject = ? AND kind = 'turn'";
            db.prepare_cached(sql)?.execute(params![
                outcome,
                signed(*duration_ms),
                counted(usage.input_tokens),
                counted(usage.output_tokens),
                counted(usage.cache_read_tokens),
                counted(usage.cache_write_tokens),
                is_priced.then(|| signed(usage.cost_microusd)),
                session,
                turn
            ])?;
            count_cost(db, &session, turn, usage.cost_microusd)
        }
    }
}

/// For its person's quota, as of its beginning. The turn counts along while it runs; what a crash kept it from counting
/// is in its log, and so comes by here.
fn count_cost(db: &Transaction<'_>, session: &str, turn: &str, cost_microusd: u64) -> Result<()> {
    if cost_microusd == 0 {
        return Ok(());
    }
    let sql = "INSERT INTO turn_costs (turn, person, at_ms, cost_microusd)
        SELECT subject, person, at_ms, ?3 FROM statistics
        WHERE session = ?1 AND subject = ?2 AND kind = 'turn' AND person IS NOT NULL
        ON CONFLICT (turn) DO UPDATE SET cost_microusd = max(cost_microusd, excluded.cost_microusd)";
    db.prepare_cached(sql)?.execute(params![session, turn, signed(cost_microusd)])?;
    Ok(())
}

fn person_of(db: &Transaction<'_>, session: &str, kind: &str, subject: &str) -> Result<Option<String>> {
    let sql = "SELECT person FROM statistics WHERE session = ? AND subject = ? AND kind = ?";
    let mut query = db.prepare_cached(sql)?;
    let mut rows = query.query(params![session, subject, kind])?;
    Ok(match rows.next()? {
        Some(row) => row.get(0)?,
        None => None,
    })
}

/// From the first millisecond up to, not including, the last.
#[derive(Clone, Debug)]
pub struct StatisticsQuery {
    pub from_ms: i64,
    pub until_ms: i64,
    pub repository: Option<RepositoryId>,
    pub person: Option<PersonId>,
    pub by: StatisticsBy,
    /// Where figures are told by person, they are of what this one may see, and of their own work.
    pub onlooker: Onlooker,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    pub totals: Figures,
    /// A day such as `2026-11-21`, a person's id, or a repository's name. Days in their order, others by turns; at most 400.
    pub groups: Vec<(String, Figures)>,
    /// The most called, at most 50.
    pub tools: Vec<ToolFigures>,
}

const FIGURES: &str = "count(DISTINCT session) AS sessions, count(DISTINCT person) AS people,
    count(*) FILTER (WHERE kind = 'prompt') AS prompts,
    count(*) FILTER (WHERE kind = 'turn' AND outcome IS NOT NULL) AS turns,
    count(*) FILTER (WHERE kind = 'turn' AND outcome = 'completed') AS completed,
    count(*) FILTER (WHERE kind = 'turn' AND outcome = 'stopped') AS stopped,
    count(*) FILTER (WHERE kind = 'turn' AND outcome = 'failed') AS failed,
    count(*) FILTER (WHERE kind = 'turn' AND outcome = 'budget_reached') AS budget_reached,
    sum(duration_ms) FILTER (WHERE kind = 'turn') AS turn_ms,
    sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
    sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_tokens) AS cache_write_tokens,
    sum(cost_microusd) AS cost_microusd,
    count(*) FILTER (WHERE kind = 'turn' AND outcome IS NOT NULL AND cost_microusd IS NULL) AS unpriced_turns,
    count(*) FILTER (WHERE kind = 'turn' AND outcome IS NOT NULL AND input_tokens IS NULL) AS uncounted_turns,
    count(*) FILTER (WHERE input_tokens + output_tokens + cache_read_tokens + cache_write_tokens > 0) AS some_tokens,
    count(*) FILTER (WHERE kind = 'tool') AS tool_calls,
    count(*) FILTER (WHERE kind = 'tool' AND outcome IN ('failed', 'unknown')) AS tool_failures,
    count(*) FILTER (WHERE kind = 'change_opened') AS changes_opened,
    count(*) FILTER (WHERE kind = 'change_merged') AS changes_merged";

impl Directory {
    pub async fn statistics(&self, query: StatisticsQuery) -> Result<Statistics> {
        self.read(move |db| {
            let (filter, values) = filter_of(&query);
            let values = || params_from_iter(values.iter());
            let sql = format!("SELECT {FIGURES} FROM statistics WHERE {filter}");
            let totals = db.prepare_cached(&sql)?.query_row(values(), figures)?;
            let (key, order) = match query.by {
                StatisticsBy::Day => ("date(at_ms / 1000, 'unixepoch')", "key"),
                StatisticsBy::Person => ("person", "turns DESC, key"),
                StatisticsBy::Repository => ("repository_name", "turns DESC, key"),
            };
            let sql = format!(
                "SELECT {key} AS key, {FIGURES} FROM statistics WHERE {filter} AND {key} IS NOT NULL
                GROUP BY key ORDER BY {order} LIMIT {GROUPS}"
            );
            let groups = all(db.prepare(&sql)?, values(), |row| Ok((row.get("key")?, figures(row)?)))?;
            let sql = format!(
                "SELECT name, count(*) AS calls, count(*) FILTER (WHERE outcome IN ('failed', 'unknown')) AS failures,
                    sum(duration_ms) AS duration_ms
                FROM statistics WHERE {filter} AND kind = 'tool' GROUP BY name ORDER BY calls DESC, name LIMIT {TOOLS}"
            );
            let tools = all(db.prepare(&sql)?, values(), |row| {
                Ok(ToolFigures {
                    tool: row.get("name")?,
                    calls: unsigned(row, "calls")?,
                    failures: unsigned(row, "failures")?,
                    duration_ms: known(row, "duration_ms")?,
                })
            })?;
            Ok(Statistics { totals, groups, tools })
        })
        .await
    }

    /// People that figures name.
    pub async fn people_named(&self, ids: Vec<String>) -> Result<Vec<(PersonId, String)>> {
        self.read(move |db| {
            let sql = "SELECT id, name FROM people WHERE id IN (SELECT value FROM json_each(?))";
            all(db.prepare(sql)?, [serde_json::to_string(&ids)?], |row| {
                Ok((parsed(row, "id")?, row.get("name")?))
            })
        })
        .await
    }
}

fn filter_of(query: &StatisticsQuery) -> (String, Vec<Value>) {
    // `?1` is in `SEEN`.
    let onlooker = query.onlooker.parameter();
    let mut filter = "at_ms >= ?2 AND at_ms < ?3".to_owned();
    let mut values = vec![onlooker.into(), Value::from(query.from_ms), Value::from(query.until_ms)];
    if query.person.is_some() || query.by == StatisticsBy::Person {
        filter +=
            &format!(" AND (?1 IS NULL OR person = ?1 OR session IN (SELECT id FROM sessions WHERE {SEEN}))");
    }
    if let Some(repository) = query.repository {
        filter += " AND repository = ?";
        values.push(repository.to_string().into());
    }
    if let Some(person) = query.person {
        filter += " AND person = ?";
        values.push(person.to_string().into());
    }
    (filter, values)
}

fn figures(row: &Row<'_>) -> rusqlite::Result<Figures> {
    let unpriced_turns = unsigned(row, "unpriced_turns")?;
    // Turns that asked no model cost nothing and used no tokens, which says nothing of the others.
    let cost_microusd = known(row, "cost_microusd")?.filter(|cost| *cost > 0 || unpriced_turns == 0);
    let says_tokens = unsigned(row, "some_tokens")? > 0 || unsigned(row, "uncounted_turns")? == 0;
    let tokens = |column| Ok::<_, rusqlite::Error>(known(row, column)?.filter(|_| says_tokens));
    Ok(Figures {
        sessions: unsigned(row, "sessions")?,
        people: unsigned(row, "people")?,
        prompts: unsigned(row, "prompts")?,
        turns: unsigned(row, "turns")?,
        completed: unsigned(row, "completed")?,
        stopped: unsigned(row, "stopped")?,
        failed: unsigned(row, "failed")?,
        budget_reached: unsigned(row, "budget_reached")?,
        turn_ms: known(row, "turn_ms")?,
        input_tokens: tokens("input_tokens")?,
        output_tokens: tokens("output_tokens")?,
        cache_read_tokens: tokens("cache_read_tokens")?,
        cache_write_tokens: tokens("cache_write_tokens")?,
        cost_microusd,
        unpriced_turns,
        tool_calls: unsigned(row, "tool_calls")?,
        tool_failures: unsigned(row, "tool_failures")?,
        changes_opened: unsigned(row, "changes_opened")?,
        changes_merged: unsigned(row, "changes_merged")?,
    })
}

fn known(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|number| number.max(0).unsigned_abs()))
}
