-- Version 2. The built-in variable store: registers without history. class and value are as those of params.

CREATE TABLE variables (
    ns    TEXT NOT NULL,
    name  TEXT NOT NULL,
    class TEXT NOT NULL,
    value ANY,
    PRIMARY KEY (ns, name)
) STRICT, WITHOUT ROWID;
