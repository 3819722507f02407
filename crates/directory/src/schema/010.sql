-- Milliseconds since 1970-01-01 UTC; NULL: it does not end.
ALTER TABLE tokens ADD COLUMN expires_at_ms INTEGER;
