-- Version 3. What is noted of runs and acquisitions after the fact, and what of it is searchable.

-- seq: that of its event, so that the newest has the highest. class and value are as those of params.
CREATE TABLE annotations (
    seq     INTEGER PRIMARY KEY,
    node_id TEXT NOT NULL,
    name    TEXT NOT NULL,
    class   TEXT NOT NULL,
    value   ANY,
    author  TEXT NOT NULL,
    time    TEXT NOT NULL
) STRICT;

CREATE INDEX annotations_by_node ON annotations (node_id, seq);

-- What is told of a node beside its parameters, searched as they are: class and value as in params.
CREATE TABLE IF NOT EXISTS derived (
    node_id TEXT NOT NULL,
    name    TEXT NOT NULL,
    class   TEXT NOT NULL,
    value   ANY,
    PRIMARY KEY (node_id, name)
) STRICT, WITHOUT ROWID;
