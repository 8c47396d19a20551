-- Version 4. Configurations that were handed in, until no storage and no acquisition that is read names them.

CREATE TABLE documents (
    blake3  TEXT PRIMARY KEY,
    content BLOB NOT NULL
) STRICT, WITHOUT ROWID;
