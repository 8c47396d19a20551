-- Version 5. How old events are: the newest seq at a date, about once an hour, by a clock that nobody can set (the
-- one of the keys).

CREATE TABLE journal_dates (
    at  REAL PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
