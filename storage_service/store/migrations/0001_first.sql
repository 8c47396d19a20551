-- Version 1. What is told on the wire, and what the service needs to go on after any stop.

-- journal_id; newest_key_ms: of the newest UUIDv7 key ever stored; forgotten_ms: of the newest ever forgotten
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Every event, in the order in which it became true. body: as it is published; fact: what the body leaves out.
CREATE TABLE journal (
    seq     INTEGER PRIMARY KEY,
    topic   TEXT NOT NULL,
    subject TEXT NOT NULL,
    body    BLOB NOT NULL,
    fact    BLOB
) STRICT;

CREATE INDEX journal_by_subject ON journal (subject, seq);

-- The newest seq of each topic: what prev_seq and the heartbeat's tails are made of.
CREATE TABLE topics (
    topic TEXT PRIMARY KEY,
    seq   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE storages (
    n          INTEGER PRIMARY KEY AUTOINCREMENT,
    storage_id TEXT NOT NULL UNIQUE,
    record     BLOB NOT NULL
) STRICT;

-- Groups, runs and acquisitions. parent_id: of an acquisition its run. at: created_at, of an acquisition started_at.
-- visible: whether it is in the RunDB. record: all of it but its parameters, in msgpack.
CREATE TABLE nodes (
    n          INTEGER PRIMARY KEY AUTOINCREMENT,
    node_id    TEXT NOT NULL UNIQUE,
    kind       TEXT NOT NULL,
    parent_id  TEXT NOT NULL,
    visible    INTEGER NOT NULL,
    at         TEXT NOT NULL,
    storage_id TEXT,
    state      TEXT,
    verdict    TEXT,
    sealed     INTEGER,
    record     BLOB NOT NULL
) STRICT;

CREATE INDEX nodes_by_parent ON nodes (parent_id, n);
-- Of one run, newest first; and which of a search's hits are runs.
CREATE INDEX nodes_by_parent_and_time ON nodes (parent_id, at, n) WHERE kind = 'acq';
CREATE INDEX nodes_runs ON nodes (n) WHERE kind = 'run';
CREATE INDEX nodes_by_time ON nodes (kind, at, n);
CREATE INDEX nodes_by_storage ON nodes (storage_id, at, n) WHERE kind = 'acq';
-- What a start-up loads: open acquisitions, and those that are not sealed yet.
CREATE INDEX nodes_at_work ON nodes (n) WHERE kind = 'acq' AND sealed = 0;

-- class: b bool, n number, t text, 0 nil: only values of one class compare.
CREATE TABLE params (
    node_id TEXT NOT NULL,
    name    TEXT NOT NULL,
    class   TEXT NOT NULL,
    value   ANY,
    PRIMARY KEY (node_id, name)
) STRICT, WITHOUT ROWID;

-- The parameters of what does not change often, for searches: of runs at once, of an acquisition once it is finished
-- or aborted. An index on the values of open acquisitions would cost the hot path five times over.
CREATE TABLE search (
    name  TEXT NOT NULL,
    class TEXT NOT NULL,
    value ANY,
    n     INTEGER NOT NULL
) STRICT;

CREATE INDEX search_by_value ON search (name, class, value, n);
CREATE INDEX search_by_node ON search (n, name);

CREATE TABLE conversions (
    n             INTEGER PRIMARY KEY AUTOINCREMENT,
    conversion_id TEXT NOT NULL UNIQUE,
    acq_id        TEXT NOT NULL,
    state         TEXT NOT NULL,
    record        BLOB NOT NULL
) STRICT;

CREATE INDEX conversions_by_acq ON conversions (acq_id, n);
CREATE INDEX conversions_by_state ON conversions (state, n);

-- The highest number ever taken by the numbered runs of a base run group, by the text around it.
CREATE TABLE counters (
    counter_id TEXT PRIMARY KEY,
    highest    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Commands whose outside work is under way: carried out forward after any stop.
CREATE TABLE intents (
    n         INTEGER PRIMARY KEY AUTOINCREMENT,
    intent_id TEXT NOT NULL UNIQUE,
    intent    BLOB NOT NULL
) STRICT;

-- Idempotency keys with the reply's result. id rises with time, so that expiry takes the oldest without an index.
CREATE TABLE keys (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    key         TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    at          REAL NOT NULL,
    result      BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX keys_by_key ON keys (key);
