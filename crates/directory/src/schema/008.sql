-- Tells one debt from the next: what pays the earlier leaves the later.
ALTER TABLE owed ADD COLUMN mark INTEGER NOT NULL DEFAULT 0;

-- Hidden from the list; everything stays readable.
ALTER TABLE sessions ADD COLUMN is_archived INTEGER NOT NULL DEFAULT 0;

-- What happened, for figures: a row for each prompt, turn, tool call, opened and merged change. It holds no text that
-- somebody wrote, and stays when its session is deleted. NULL: not known.
CREATE TABLE statistics (
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    repository TEXT NOT NULL,
    repository_name TEXT NOT NULL,
    person TEXT,
    -- The prompt, turn or call.
    subject TEXT NOT NULL,
    -- The turn's model, or the tool.
    name TEXT,
    -- NULL: has not ended
    outcome TEXT,
    duration_ms INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_tokens INTEGER,
    cache_write_tokens INTEGER,
    cost_microusd INTEGER,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX statistics_by_time ON statistics (at_ms);
CREATE INDEX statistics_by_subject ON statistics (session, subject);

CREATE TABLE search_parts (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    seq INTEGER NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (session, kind, subject)
) STRICT;
CREATE VIRTUAL TABLE search_index USING fts5 (
    text, content = 'search_parts', content_rowid = 'id', tokenize = "unicode61 remove_diacritics 2", prefix = '2 3'
);
CREATE TRIGGER search_parts_added AFTER INSERT ON search_parts BEGIN
    INSERT INTO search_index (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER search_parts_removed AFTER DELETE ON search_parts BEGIN
    INSERT INTO search_index (search_index, rowid, text) VALUES ('delete', old.id, old.text);
END;
CREATE TRIGGER search_parts_changed AFTER UPDATE ON search_parts BEGIN
    INSERT INTO search_index (search_index, rowid, text) VALUES ('delete', old.id, old.text);
    INSERT INTO search_index (rowid, text) VALUES (new.id, new.text);
END;

-- The logs are read again from their beginnings: what is above was not taken from them before.
DELETE FROM cursors WHERE consumer = 'directory';
DELETE FROM settled;
