-- Version 2. Manifests: what is still to be written, and where each storage's chain of them ends.

-- What the service itself tells of a node, searched as its parameters are: class and value as in params.
CREATE TABLE derived (
    node_id TEXT NOT NULL,
    name    TEXT NOT NULL,
    class   TEXT NOT NULL,
    value   ANY,
    PRIMARY KEY (node_id, name)
) STRICT, WITHOUT ROWID;

-- Of sealed acquisitions; a row goes when its manifest is written, or the acquisition is opened again or removed.
CREATE TABLE dues (
    n      INTEGER PRIMARY KEY AUTOINCREMENT,
    acq_id TEXT NOT NULL UNIQUE,
    record BLOB NOT NULL
) STRICT;

-- The newest link of each storage id's chain. It stays when the storage is gone.
CREATE TABLE chains (
    storage_id TEXT PRIMARY KEY,
    record     BLOB NOT NULL
) STRICT, WITHOUT ROWID;
