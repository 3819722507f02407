-- What admins allow: everyone (the empty name) and single people. `settings` is JSON.
CREATE TABLE quotas (
    person TEXT PRIMARY KEY,
    settings TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What each person used, under the keys of what it was used for.
CREATE TABLE counted_prompts (
    person TEXT NOT NULL,
    key TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (person, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX counted_prompts_by_time ON counted_prompts (person, at_ms);

CREATE TABLE turn_costs (
    turn TEXT PRIMARY KEY,
    person TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    cost_microusd INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX turn_costs_by_time ON turn_costs (person, at_ms);

-- Attached files; of an upload that waits for its session, `session` is empty.
CREATE TABLE stored_files (
    person TEXT NOT NULL,
    session TEXT NOT NULL,
    digest TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (person, session, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX stored_files_by_session ON stored_files (session);
CREATE INDEX sessions_by_maker ON sessions (created_by);
