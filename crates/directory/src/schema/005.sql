-- How far each consumer of a session's log has got, all of it done and durable.
CREATE TABLE cursors (
    session TEXT NOT NULL,
    consumer TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (session, consumer)
) STRICT, WITHOUT ROWID;

-- Sessions at rest whose consumers know everything up to this entry. `stamp` is how the log's files looked then.
CREATE TABLE settled (
    session TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    stamp TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Written before something is done elsewhere that a session is to be told of, removed when it knows.
CREATE TABLE owed (
    session TEXT NOT NULL,
    consumer TEXT NOT NULL,
    PRIMARY KEY (session, consumer)
) STRICT, WITHOUT ROWID;

-- Deleted sessions: what still arrives of one is not taken.
CREATE TABLE removed (
    session TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
