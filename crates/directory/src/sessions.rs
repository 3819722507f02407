//! The session index: one summary of each session, fed by the sessions' outboxes.

use crate::row::{all, as_json, as_word, first, json, maybe_parsed, parsed, signed, unsigned, word};
use crate::{Directory, Result};
use greenroom_domain::money::Usage;
use greenroom_domain::{
    BranchName, ChangeId, PersonId, RepositoryId, RepositoryName, SessionId, SessionRole, TeamAccess,
};
use rusqlite::{Row, Transaction, params};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    Idle,
    Running,
    /// The last turn failed or reached a limit.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    pub id: SessionId,
    pub repository: RepositoryId,
    pub repository_name: RepositoryName,
    pub title: String,
    pub status: SessionStatus,
    pub created_by: PersonId,
    pub created_by_name: String,
    pub branch: BranchName,
    pub model: Option<String>,
    pub queued_prompts: u32,
    pub usage: Usage,
    /// Id, number, and whether it is merged.
    pub change: Option<(ChangeId, u64, bool)>,
    /// The entry this summary was made at.
    pub head_seq: u64,
    /// The last entry that is news.
    pub news_seq: u64,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
    pub team_access: TeamAccess,
    pub participants: Vec<(PersonId, SessionRole)>,
    pub is_archived: bool,
    /// What waits for people.
    pub open_asks: u32,
    /// The session whose agent began it.
    pub parent: Option<SessionId>,
}

/// Which sessions a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archived {
    Hidden,
    Only,
    /// All sessions.
    Shown,
}

/// Who looks at a list: private sessions are on it for their participants only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onlooker {
    /// Sees all: an admin, or the server itself.
    All,
    Person(PersonId),
}

impl Onlooker {
    /// The parameter of [`SEEN`].
    pub(crate) fn parameter(self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Person(person) => Some(person.to_string()),
        }
    }
}

/// What a query for sessions says where: `?1` is [`Onlooker::parameter`]. Ids are of one length and hold no quotes, so that
/// one is in the text of the array exactly if its person is in the array.
pub(crate) const SEEN: &str =
    "(?1 IS NULL OR sessions.team_access <> 'none' OR instr(sessions.participants, ?1) > 0)";

const PUT: &str =
    "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        repository_name = excluded.repository_name, title = excluded.title, status = excluded.status,
        model = excluded.model, queued_prompts = excluded.queued_prompts, usage = excluded.usage,
        change_id = excluded.change_id, change_number = excluded.change_number,
        change_is_merged = excluded.change_is_merged, head_seq = excluded.head_seq,
        updated_at_ms = excluded.updated_at_ms, news_seq = excluded.news_seq,
        team_access = excluded.team_access, participants = excluded.participants,
        is_archived = excluded.is_archived, open_asks = excluded.open_asks
    WHERE excluded.head_seq >= sessions.head_seq";

/// Adds or replaces, but an older `head_seq` never overwrites a newer one: summaries may arrive late or twice.
pub(crate) fn insert_session(db: &Transaction<'_>, row: &SessionRow) -> Result<()> {
    db.prepare_cached(PUT)?.execute(params![
        row.id.to_string(),
        row.repository.to_string(),
        row.repository_name.as_str(),
        row.title,
        as_word(row.status)?,
        row.created_by.to_string(),
        row.created_by_name,
        row.branch.as_str(),
        row.model,
        row.queued_prompts,
        as_json(&row.usage)?,
        row.change.map(|(id, ..)| id.to_string()),
        row.change.map(|(_, number, _)| signed(number)),
        row.change.map(|(.., is_merged)| is_merged),
        signed(row.head_seq),
        row.created_at_ms,
        row.updated_at_ms,
        signed(row.news_seq),
        as_word(row.team_access)?,
        as_json(&row.participants)?,
        row.is_archived,
        row.open_asks,
        row.parent.map(|parent| parent.to_string())
    ])?;
    Ok(())
}

impl Directory {
    pub async fn session(&self, id: SessionId) -> Result<Option<SessionRow>> {
        self.read(move |db| {
            first(db.prepare("SELECT * FROM sessions WHERE id = ?")?, [id.to_string()], read_session)
        })
        .await
    }

    /// Those that the onlooker may see, newest first; of one repository, or of all.
    pub async fn sessions(
        &self,
        onlooker: Onlooker,
        repository: Option<RepositoryId>,
        archived: Archived,
        limit: u32,
    ) -> Result<Vec<SessionRow>> {
        let of = if repository.is_some() { "AND repository = ?3" } else { "AND ?3 IS NULL" };
        let sql = format!(
            "SELECT * FROM sessions WHERE {SEEN} {of} AND (?4 IS NULL OR is_archived = ?4)
            ORDER BY created_at_ms DESC, id DESC LIMIT ?2"
        );
        let repository = repository.map(|repository| repository.to_string());
        let is_archived = match archived {
            Archived::Hidden => Some(false),
            Archived::Only => Some(true),
            Archived::Shown => None,
        };
        self.read(move |db| {
            let parameters = params![onlooker.parameter(), limit, repository, is_archived];
            all(db.prepare(&sql)?, parameters, read_session)
        })
        .await
    }

    /// Those that the onlooker may see of the sessions that these began, oldest first.
    pub async fn children_of(&self, onlooker: Onlooker, parents: Vec<SessionId>) -> Result<Vec<SessionRow>> {
        let parents: Vec<String> = parents.iter().map(ToString::to_string).collect();
        let parents = as_json(&parents)?;
        let sql = format!(
            "SELECT * FROM sessions WHERE {SEEN} AND parent IN (SELECT value FROM json_each(?2))
            ORDER BY created_at_ms, id"
        );
        self.read(move |db| all(db.prepare(&sql)?, params![onlooker.parameter(), parents], read_session))
            .await
    }

    /// For the start of the server: sessions in the middle of a turn, or with prompts that wait for one.
    pub async fn running_sessions(&self) -> Result<Vec<SessionId>> {
        self.read(|db| {
            all(
                db.prepare(
                    "SELECT id FROM sessions WHERE status = 'running' OR queued_prompts > 0 ORDER BY id",
                )?,
                [],
                |row| parsed(row, "id"),
            )
        })
        .await
    }

    /// Sessions and waiting prompts, by status.
    pub async fn session_counts(&self) -> Result<Vec<(SessionStatus, u64, u64)>> {
        self.read(|db| {
            let sql = "SELECT status, count(*) AS n, sum(queued_prompts) AS q FROM sessions GROUP BY status";
            all(db.prepare(sql)?, [], |row| {
                Ok((word(row, "status")?, unsigned(row, "n")?, unsigned(row, "q")?))
            })
        })
        .await
    }

    pub async fn sessions_of_repository_count(&self, repository: RepositoryId) -> Result<u64> {
        self.read(move |db| {
            let count = db.query_row(
                "SELECT count(*) AS n FROM sessions WHERE repository = ?",
                [repository.to_string()],
                |row| unsigned(row, "n"),
            );
            Ok(count?)
        })
        .await
    }
}

pub(crate) fn read_session(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        id: parsed(row, "id")?,
        repository: parsed(row, "repository")?,
        repository_name: parsed(row, "repository_name")?,
        title: row.get("title")?,
        status: word(row, "status")?,
        created_by: parsed(row, "created_by")?,
        created_by_name: row.get("created_by_name")?,
        branch: parsed(row, "branch")?,
        model: row.get("model")?,
        queued_prompts: row.get("queued_prompts")?,
        usage: json(row, "usage")?,
        change: read_change(row)?,
        head_seq: unsigned(row, "head_seq")?,
        news_seq: unsigned(row, "news_seq")?,
        created_at_ms: row.get("created_at_ms")?,
        updated_at_ms: row.get("updated_at_ms")?,
        team_access: word(row, "team_access")?,
        participants: json(row, "participants")?,
        is_archived: row.get("is_archived")?,
        open_asks: row.get("open_asks")?,
        parent: maybe_parsed(row, "parent")?,
    })
}

fn read_change(row: &Row<'_>) -> rusqlite::Result<Option<(ChangeId, u64, bool)>> {
    let Some(id) = maybe_parsed(row, "change_id")? else { return Ok(None) };
    Ok(Some((id, unsigned(row, "change_number")?, row.get("change_is_merged")?)))
}
