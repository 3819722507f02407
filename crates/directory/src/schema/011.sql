-- What of a session waits for people.
ALTER TABLE sessions ADD COLUMN open_asks INTEGER NOT NULL DEFAULT 0;
