-- What an admin allows a repository's sandboxes beside defaults and recipe, in the order they wrote it.
CREATE TABLE egress_additions (
    repository TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    host TEXT NOT NULL,
    allows_private INTEGER NOT NULL,
    PRIMARY KEY (repository, position)
) STRICT, WITHOUT ROWID;

-- Declared secrets. Their values are in the vault.
CREATE TABLE secrets (
    repository TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    hosts TEXT NOT NULL,
    injection TEXT NOT NULL,
    added_at_ms INTEGER NOT NULL,
    PRIMARY KEY (repository, name)
) STRICT, WITHOUT ROWID;
