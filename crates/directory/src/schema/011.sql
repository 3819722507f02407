-- What of a session waits for people.
ALTER TABLE sessions ADD COLUMN open_asks INTEGER NOT NULL DEFAULT 0;
-- The session whose agent began it; NULL: a person did.
ALTER TABLE sessions ADD COLUMN parent TEXT;
CREATE INDEX sessions_by_parent ON sessions (parent) WHERE parent IS NOT NULL;
