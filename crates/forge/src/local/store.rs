//! The local forge's database: which repositories there are, their changes, who prompted and who approved. Blocking;
//! called through `spawn_blocking`. References and objects stay in git, which is asked for the heads.

use crate::{Approval, Change, ChangeState, Error, OpenChange, Result};
use greenroom_domain::{BranchName, ChangeId, CommitHash, PersonId, RepositoryId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::{
    path::Path,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Step `n` brings a database of `user_version` n to n + 1.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE repository (
        id TEXT PRIMARY KEY,
        default_branch TEXT NOT NULL,
        required_approvals INTEGER NOT NULL DEFAULT 1,
        next_number INTEGER NOT NULL DEFAULT 1
    ) STRICT;
    CREATE TABLE change (
        id TEXT PRIMARY KEY,
        repository TEXT NOT NULL REFERENCES repository(id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        session TEXT,
        title TEXT NOT NULL,
        body TEXT NOT NULL,
        branch TEXT NOT NULL,
        base TEXT NOT NULL,
        base_commit TEXT NOT NULL,
        head TEXT NOT NULL,
        author TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('open', 'merged', 'closed')),
        merge_commit TEXT,
        merged_by TEXT,
        is_unreviewed INTEGER NOT NULL DEFAULT 0,
        opened_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        -- What a merge is about to do: written before the reference moves, so that a crash in between is finished.
        pending_commit TEXT,
        pending_by TEXT,
        pending_at_ms INTEGER,
        UNIQUE (repository, number)
    ) STRICT;
    CREATE UNIQUE INDEX one_open_change_per_branch ON change (repository, branch) WHERE state = 'open';
    CREATE TABLE prompter (
        change TEXT NOT NULL REFERENCES change(id) ON DELETE CASCADE,
        person TEXT NOT NULL,
        PRIMARY KEY (change, person)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE approval (
        change TEXT NOT NULL REFERENCES change(id) ON DELETE CASCADE,
        person TEXT NOT NULL,
        commit_hash TEXT NOT NULL,
        name TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (change, person, commit_hash)
    ) STRICT, WITHOUT ROWID;
", "
    -- People who pushed to a branch themselves: they may not approve what it proposes either.
    CREATE TABLE pusher (
        repository TEXT NOT NULL REFERENCES repository(id) ON DELETE CASCADE,
        branch TEXT NOT NULL,
        person TEXT NOT NULL,
        PRIMARY KEY (repository, branch, person)
    ) STRICT, WITHOUT ROWID;
"];

const COLUMNS: &str = "c.id, c.repository, c.number, c.session, c.title, c.body, c.branch, c.base, c.base_commit, \
    c.head, c.author, c.state, c.merge_commit, c.merged_by, c.is_unreviewed, c.opened_at_ms, c.updated_at_ms, \
    r.required_approvals";

#[derive(Debug)]
pub(crate) struct Store {
    connection: Mutex<Connection>,
}

#[derive(Clone, Debug)]
pub(crate) struct PendingMerge {
    pub(crate) commit: CommitHash,
    pub(crate) by: PersonId,
    pub(crate) at_ms: i64,
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // Where one begins SQLite waits for the lock; where one that has read begins to write it does not.
        connection.set_transaction_behavior(rusqlite::TransactionBehavior::Immediate);
        migrate(&mut connection)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    pub(crate) fn add_repository(&self, id: RepositoryId, branch: &BranchName) -> Result<()> {
        let insert = "INSERT INTO repository (id, default_branch) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.lock().execute(insert, params![id.to_string(), branch.as_str()])?;
        Ok(())
    }

    pub(crate) fn remove_repository(&self, id: RepositoryId) -> Result<()> {
        self.lock().execute("DELETE FROM repository WHERE id = ?1", [id.to_string()])?;
        Ok(())
    }

    pub(crate) fn default_branch(&self, id: RepositoryId) -> Result<Option<BranchName>> {
        let select = "SELECT default_branch FROM repository WHERE id = ?1";
        let found = self.lock().query_row(select, [id.to_string()], |row| parsed(row, 0)).optional()?;
        Ok(found)
    }

    /// Whether the repository is known.
    pub(crate) fn set_required_approvals(&self, id: RepositoryId, count: u32) -> Result<bool> {
        let update = "UPDATE repository SET required_approvals = ?2 WHERE id = ?1";
        Ok(self.lock().execute(update, params![id.to_string(), count])? == 1)
    }

    pub(crate) fn change(&self, id: ChangeId) -> Result<Option<Change>> {
        one(&self.lock(), "c.id = ?1", params![id.to_string()])
    }

    pub(crate) fn change_by_number(&self, repository: RepositoryId, number: u64) -> Result<Option<Change>> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        one(&self.lock(), "c.repository = ?1 AND c.number = ?2", params![repository.to_string(), number])
    }

    pub(crate) fn open_change_of(
        &self,
        repository: RepositoryId,
        branch: &BranchName,
    ) -> Result<Option<Change>> {
        let condition = "c.repository = ?1 AND c.branch = ?2 AND c.state = 'open'";
        one(&self.lock(), condition, params![repository.to_string(), branch.as_str()])
    }

    pub(crate) fn changes(&self, repository: Option<RepositoryId>, limit: u32) -> Result<Vec<Change>> {
        let connection = self.lock();
        let tail = "ORDER BY c.opened_at_ms DESC, c.id DESC LIMIT ?1";
        match repository {
            None => select(&connection, &format!("1 {tail}"), params![limit]),
            Some(id) => {
                let condition = format!("c.repository = ?2 {tail}");
                select(&connection, &condition, params![limit, id.to_string()])
            }
        }
    }

    /// Inserts the change with the repository's next number.
    pub(crate) fn insert(
        &self,
        open: &OpenChange,
        head: &CommitHash,
        base_commit: &CommitHash,
    ) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let repository = open.repository.to_string();
        let take =
            "UPDATE repository SET next_number = next_number + 1 WHERE id = ?1 RETURNING next_number - 1";
        let number: i64 = transaction.query_row(take, [&repository], |row| row.get(0))?;
        let author = serde_json::to_string(&open.author).expect("an author is plain data");
        let insert = "INSERT INTO change (id, repository, number, session, title, body, branch, base, base_commit, \
            head, author, state, opened_at_ms, updated_at_ms) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'open', ?12, ?12)";
        let session = open.session.map(|session| session.to_string());
        transaction.execute(
            insert,
            params![
                open.id.to_string(),
                repository,
                number,
                session,
                open.title,
                open.body,
                open.branch.as_str(),
                open.base.as_str(),
                base_commit.as_str(),
                head.as_str(),
                author,
                open.at_ms
            ],
        )?;
        add_prompters(&transaction, open.id, open)?;
        let pushers = "INSERT INTO prompter (change, person) SELECT ?1, person FROM pusher \
            WHERE repository = ?2 AND branch = ?3 ON CONFLICT DO NOTHING";
        transaction.execute(pushers, params![open.id.to_string(), repository, open.branch.as_str()])?;
        transaction.commit()?;
        Ok(())
    }

    /// What these people did is pushed to the branches, which makes them prompters of what these propose.
    pub(crate) fn add_pushers(
        &self,
        id: RepositoryId,
        branches: &[BranchName],
        people: &[PersonId],
    ) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let pusher =
            "INSERT INTO pusher (repository, branch, person) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        let prompter = "INSERT INTO prompter (change, person) SELECT id, ?3 FROM change \
            WHERE repository = ?1 AND branch = ?2 AND state = 'open' ON CONFLICT DO NOTHING";
        let id = id.to_string();
        for person in people.iter().map(PersonId::to_string) {
            for branch in branches {
                transaction.execute(pusher, params![id, branch.as_str(), person])?;
                transaction.execute(prompter, params![id, branch.as_str(), person])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Renews an open change. Prompters only ever grow: whoever once prompted stays one.
    pub(crate) fn renew(&self, id: ChangeId, open: &OpenChange) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let update = "UPDATE change SET title = ?2, body = ?3, base = ?4, updated_at_ms = MAX(updated_at_ms, ?5) \
            WHERE id = ?1 AND state = 'open'";
        transaction.execute(
            update,
            params![id.to_string(), open.title, open.body, open.base.as_str(), open.at_ms],
        )?;
        add_prompters(&transaction, id, open)?;
        transaction.commit()?;
        Ok(())
    }

    pub(crate) fn set_head(&self, id: ChangeId, head: &CommitHash, base_commit: &CommitHash) -> Result<()> {
        let update = "UPDATE change SET head = ?2, base_commit = ?3 WHERE id = ?1 AND state = 'open'";
        self.lock().execute(update, params![id.to_string(), head.as_str(), base_commit.as_str()])?;
        Ok(())
    }

    pub(crate) fn add_approval(&self, id: ChangeId, approval: &Approval) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let insert = "INSERT INTO approval (change, person, commit_hash, name, at_ms) VALUES (?1, ?2, ?3, ?4, ?5) \
            ON CONFLICT DO NOTHING";
        let (by, commit) = (approval.by.to_string(), approval.commit.as_str());
        transaction.execute(insert, params![id.to_string(), by, commit, approval.name, approval.at_ms])?;
        let touch = "UPDATE change SET updated_at_ms = MAX(updated_at_ms, ?2) WHERE id = ?1";
        transaction.execute(touch, params![id.to_string(), approval.at_ms])?;
        transaction.commit()?;
        Ok(())
    }

    pub(crate) fn begin_merge(&self, id: ChangeId, pending: &PendingMerge) -> Result<()> {
        let update =
            "UPDATE change SET pending_commit = ?2, pending_by = ?3, pending_at_ms = ?4 WHERE id = ?1";
        let (commit, by) = (pending.commit.as_str(), pending.by.to_string());
        self.lock().execute(update, params![id.to_string(), commit, by, pending.at_ms])?;
        Ok(())
    }

    pub(crate) fn pending_merge(&self, id: ChangeId) -> Result<Option<PendingMerge>> {
        let select = "SELECT pending_commit, pending_by, pending_at_ms FROM change \
            WHERE id = ?1 AND pending_commit IS NOT NULL AND state = 'open'";
        let read = |row: &Row<'_>| {
            Ok(PendingMerge { commit: parsed(row, 0)?, by: parsed(row, 1)?, at_ms: row.get(2)? })
        };
        Ok(self.lock().query_row(select, [id.to_string()], read).optional()?)
    }

    pub(crate) fn finish_merge(&self, id: ChangeId, merge: &PendingMerge, is_unreviewed: bool) -> Result<()> {
        let update = "UPDATE change SET state = 'merged', merge_commit = ?2, merged_by = ?3, is_unreviewed = ?4, \
            updated_at_ms = MAX(updated_at_ms, ?5), pending_commit = NULL, pending_by = NULL, pending_at_ms = NULL \
            WHERE id = ?1 AND state = 'open'";
        let (commit, by) = (merge.commit.as_str(), merge.by.to_string());
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute(update, params![id.to_string(), commit, by, is_unreviewed, merge.at_ms])?;
        // The branch ends with its change; another one of this name starts anew.
        let forget = "DELETE FROM pusher WHERE (repository, branch) = (SELECT repository, branch FROM change WHERE id = ?1)";
        transaction.execute(forget, [id.to_string()])?;
        transaction.commit()?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic cannot leave a transaction open: dropping it rolls back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

fn migrate(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction()?;
    let version: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > MIGRATIONS.len() {
        return Err(Error::Database(format!("forge.db is of a newer version ({version}) than this program")));
    }
    for step in &MIGRATIONS[version..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
    transaction.commit()?;
    Ok(())
}

fn add_prompters(transaction: &Transaction<'_>, id: ChangeId, open: &OpenChange) -> rusqlite::Result<()> {
    let insert = "INSERT INTO prompter (change, person) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    for person in open.prompters.iter().chain([&open.author.on_behalf_of]) {
        transaction.execute(insert, params![id.to_string(), person.to_string()])?;
    }
    Ok(())
}

fn one(
    connection: &Connection,
    condition: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> Result<Option<Change>> {
    Ok(select(connection, condition, parameters)?.into_iter().next())
}

fn select(
    connection: &Connection,
    condition: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> Result<Vec<Change>> {
    let text =
        format!("SELECT {COLUMNS} FROM change c JOIN repository r ON r.id = c.repository WHERE {condition}");
    let mut statement = connection.prepare_cached(&text)?;
    let mut changes: Vec<Change> =
        statement.query_map(parameters, read_change)?.collect::<rusqlite::Result<_>>()?;
    for change in &mut changes {
        change.prompters = prompters(connection, change.id)?;
        change.approvals = approvals(connection, change.id)?;
    }
    Ok(changes)
}

fn read_change(row: &Row<'_>) -> rusqlite::Result<Change> {
    let state = match row.get_ref(11)?.as_str()? {
        "merged" => ChangeState::Merged,
        "closed" => ChangeState::Closed,
        _ => ChangeState::Open,
    };
    let author = serde_json::from_str(row.get_ref(10)?.as_str()?).map_err(|error| invalid(10, error))?;
    Ok(Change {
        id: parsed(row, 0)?,
        repository: parsed(row, 1)?,
        number: row.get::<_, i64>(2)?.unsigned_abs(),
        session: parsed_option(row, 3)?,
        title: row.get(4)?,
        body: row.get(5)?,
        branch: parsed(row, 6)?,
        base: parsed(row, 7)?,
        base_commit: parsed(row, 8)?,
        head: parsed(row, 9)?,
        author,
        prompters: Vec::new(),
        state,
        approvals: Vec::new(),
        required_approvals: row.get(17)?,
        merge_commit: parsed_option(row, 12)?,
        merged_by: parsed_option(row, 13)?,
        is_unreviewed: row.get(14)?,
        opened_at_ms: row.get(15)?,
        updated_at_ms: row.get(16)?,
    })
}

fn prompters(connection: &Connection, id: ChangeId) -> rusqlite::Result<Vec<PersonId>> {
    let mut statement = connection.prepare_cached("SELECT person FROM prompter WHERE change = ?1")?;
    statement.query_map([id.to_string()], |row| parsed(row, 0))?.collect()
}

fn approvals(connection: &Connection, id: ChangeId) -> rusqlite::Result<Vec<Approval>> {
    let select =
        "SELECT person, name, commit_hash, at_ms FROM approval WHERE change = ?1 ORDER BY at_ms, person";
    let mut statement = connection.prepare_cached(select)?;
    let read = |row: &Row<'_>| {
        Ok(Approval { by: parsed(row, 0)?, name: row.get(1)?, commit: parsed(row, 2)?, at_ms: row.get(3)? })
    };
    statement.query_map([id.to_string()], read)?.collect()
}

fn parsed<T: FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get_ref(column)?.as_str()?.parse().map_err(|error| invalid(column, error))
}

fn parsed_option<T: FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|error| invalid(column, error))).transpose()
}

fn invalid(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}
