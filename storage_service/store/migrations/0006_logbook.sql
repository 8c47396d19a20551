-- Version 6. Electronic logbooks: where entries go, which are still to be written, and which can be edited there.

-- By storage id. It stays when the storage is gone.
CREATE TABLE books (
    storage_id TEXT PRIMARY KEY,
    record     BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Entries that are behind, by run or acquisition, and problems that are to be told, by key; a row goes when it is
-- written. n is the order in which they fell due.
CREATE TABLE owed (
    n      INTEGER PRIMARY KEY AUTOINCREMENT,
    id     TEXT NOT NULL UNIQUE,
    record BLOB NOT NULL
) STRICT;

-- Entries of runs and acquisitions that are in a logbook, by the key that they carry there.
CREATE TABLE pages (
    key    TEXT PRIMARY KEY,
    record BLOB NOT NULL
) STRICT, WITHOUT ROWID;
