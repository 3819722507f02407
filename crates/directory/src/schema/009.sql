-- What passes of retention did, newest last; `report` is JSON, and names no session.
CREATE TABLE retention_passes (
    at_ms INTEGER PRIMARY KEY,
    report TEXT NOT NULL
) STRICT;
