"""The journal's oldest events: given up in one step, deleted in bites between the commits.

Up to which seq events are given up is one number in `meta`: from its commit on no reader tells of them. Their rows
go afterwards, a few at a time, so that no commit waits long for it.
"""

from __future__ import annotations

import apsw

DATED_EVERY_S = 3600.0
"""A date of the journal is noted this often: events are kept so much longer at most."""
BITE_ROWS = 1000


class Pruning:
    """On the writing connection. What is said to `note` and `give_up` becomes true by `committed`. `has_rows`:
    whether rows may be left of what was given up."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._dated = self._newest_date()
        self._dated_next = self._dated
        given_up = db.execute("SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'pruned_seq'").get
        self._given_up = int(str(given_up or 0))
        self._given_up_next = self._given_up
        self.has_rows = self._given_up > 0

    def _newest_date(self) -> float:
        return float(str(self._db.execute("SELECT ifnull(max(at), 0.0) FROM journal_dates").get))

    def note(self, date: float, last_seq: int) -> None:
        """In a transaction: at this date (seconds) the journal ended with `last_seq`."""
        if date >= self._dated + DATED_EVERY_S:
            self._db.execute("INSERT INTO journal_dates VALUES (?, ?) ON CONFLICT DO NOTHING", (date, last_seq))
            self._dated_next = date

    def give_up(self, before_seq: int, before_date: float | None) -> None:
        """In a transaction: events before this seq are no longer told, nor those that are older than a date."""
        up_to = before_seq - 1
        if before_date is not None:
            sql = "SELECT ifnull(max(seq), 0) FROM journal_dates WHERE at < ?"
            up_to = max(up_to, int(str(self._db.execute(sql, (before_date,)).get)))
            self._db.execute("DELETE FROM journal_dates WHERE at < ?", (before_date,))
        if up_to > self._given_up:
            put = "INSERT INTO meta VALUES ('pruned_seq', ?)"
            self._db.execute(f"{put} ON CONFLICT (name) DO UPDATE SET value = excluded.value", (str(up_to),))
            self._given_up_next = up_to

    def committed(self) -> None:
        """The transaction is durable."""
        self.has_rows = self.has_rows or self._given_up_next > self._given_up
        self._dated, self._given_up = self._dated_next, self._given_up_next

    def rolled_back(self) -> None:
        """It is not."""
        self._dated_next, self._given_up_next = self._dated, self._given_up

    def bite(self) -> None:
        """In a transaction of its own: delete some rows of what was given up."""
        sql = "DELETE FROM journal WHERE seq IN (SELECT seq FROM journal WHERE seq <= ? ORDER BY seq LIMIT ?)"
        self._db.execute(sql, (self._given_up, BITE_ROWS))
        self.has_rows = self._db.changes() == BITE_ROWS
