-- The last entry of a session that is news; 0: not known of a session that nothing has happened in since.
ALTER TABLE sessions ADD COLUMN news_seq INTEGER NOT NULL DEFAULT 0;

-- What people typed and did not send. A row whose text is empty keeps its revision: who typed on an older one is told.
CREATE TABLE drafts (
    -- Never given twice, whatever is removed.
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    person TEXT NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    -- A session, a repository for whose next session it is, or `new`.
    place TEXT NOT NULL,
    text TEXT NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    UNIQUE (person, place)
) STRICT;
CREATE INDEX drafts_by_place ON drafts (place);

CREATE TABLE reads (
    person TEXT NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (person, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX reads_by_session ON reads (session, seq);
