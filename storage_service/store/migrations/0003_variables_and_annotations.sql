-- Version 3. The built-in variable store, and what is noted of runs and acquisitions after the fact.

-- Registers without history. class and value are as those of params.
CREATE TABLE variables (
    ns    TEXT NOT NULL,
    name  TEXT NOT NULL,
    class TEXT NOT NULL,
    value ANY,
    PRIMARY KEY (ns, name)
) STRICT, WITHOUT ROWID;

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
