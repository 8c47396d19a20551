-- Version 4. Configurations that were handed in; how old events are; electronic logbooks.

-- Configurations, until no storage and no acquisition that is read names them.
CREATE TABLE documents (
    blake3  TEXT PRIMARY KEY,
    content BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest seq at a date, about once an hour, by a clock that nobody can set (the one of the keys).
CREATE TABLE journal_dates (
    at  REAL PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Where entries of a storage id go. It stays when the storage is gone.
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
