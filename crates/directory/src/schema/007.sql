-- What everyone of the installation may do in a session, and its participants: a JSON array of [person, role].
ALTER TABLE sessions ADD COLUMN team_access TEXT NOT NULL DEFAULT 'contribute';
ALTER TABLE sessions ADD COLUMN participants TEXT NOT NULL DEFAULT '[]';

-- Links that let people of the installation into a session, known by the digests of their secrets only.
CREATE TABLE share_links (
    id TEXT PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    session TEXT NOT NULL,
    kind TEXT NOT NULL,
    made_by TEXT NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    made_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER
) STRICT;
CREATE INDEX share_links_by_session ON share_links (session, made_at_ms);
