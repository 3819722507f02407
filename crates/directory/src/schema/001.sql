CREATE TABLE people (
    id TEXT PRIMARY KEY,
    login TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    password TEXT,
    added_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE sign_in_links (
    digest BLOB PRIMARY KEY,
    -- NULL: makes the first admin
    person TEXT REFERENCES people (id) ON DELETE CASCADE,
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE web_sessions (
    digest BLOB PRIMARY KEY,
    person TEXT NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX web_sessions_by_expiry ON web_sessions (expires_at_ms);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    person TEXT NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX tokens_by_person ON tokens (person);

CREATE TABLE repositories (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    default_branch TEXT NOT NULL,
    required_approvals INTEGER NOT NULL,
    added_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE models (
    position INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    config TEXT NOT NULL,
    is_default INTEGER NOT NULL,
    has_key INTEGER NOT NULL
) STRICT;

CREATE TABLE images (
    id TEXT PRIMARY KEY,
    repository TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    commit_hash TEXT,
    steps TEXT NOT NULL,
    problem TEXT,
    started_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER
) STRICT;
CREATE INDEX images_by_repository ON images (repository, started_at_ms);

-- A projection of the sessions' logs: without foreign keys, so that a late summary is never lost to one.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    repository TEXT NOT NULL,
    repository_name TEXT NOT NULL,
    title TEXT NOT NULL,
    status TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_by_name TEXT NOT NULL,
    branch TEXT NOT NULL,
    model TEXT,
    queued_prompts INTEGER NOT NULL,
    usage TEXT NOT NULL,
    change_id TEXT,
    change_number INTEGER,
    change_is_merged INTEGER,
    head_seq INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_time ON sessions (created_at_ms, id);
CREATE INDEX sessions_by_repository ON sessions (repository, created_at_ms, id);
CREATE INDEX running_sessions ON sessions (status) WHERE status = 'running';

CREATE TABLE remembered (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    body_digest BLOB NOT NULL,
    result TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    UNIQUE (scope, key)
) STRICT;
