-- How a repository follows the place that it was mirrored from. The hook's secret is in the vault.
CREATE TABLE mirrors (
    repository TEXT NOT NULL PRIMARY KEY REFERENCES repositories (id) ON DELETE CASCADE,
    refreshed_at_ms INTEGER,
    problem TEXT,
    hook_made_at_ms INTEGER
) STRICT, WITHOUT ROWID;
