"""What an entry of a logbook is made of, read when its turn comes, through a connection that only reads."""

from __future__ import annotations

from pathlib import Path

import apsw

from ..rules.logbook_records import ACQUISITION, RUN, Owed, acq_key, run_key
from ..rules.logbook_text import MOST_ROWS
from ..rules.logbook_work import Content
from ..rules.state import Acq, Run
from .lookups import BUSY_MS, read_node
from .rows import decode_page


class SqliteContents:
    """The records behind entries, as they are durable. Used by one thread."""

    def __init__(self, database: Path) -> None:
        self._db = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        self._db.set_busy_timeout(BUSY_MS)

    def close(self) -> None:
        self._db.close()

    def read(self, owed: Owed) -> Content:
        """All that its entry is made of. Raises apsw.Error when the database cannot be read."""
        with self._db:
            if owed.kind == RUN:
                content = self._of_run(owed)
            elif owed.kind == ACQUISITION:
                acq = self._acq(owed.node_id)
                number = self._number(owed, acq_key(acq.uid)) if acq is not None else None
                content = Content(acq=acq, number=number)
            else:
                content = self._of_problem(owed)
        return content

    def _of_run(self, owed: Owed) -> Content:
        run = self._run(owed.node_id)
        if run is None:
            return Content()
        counted = self._db.execute(
            "SELECT ifnull(verdict, state), count(*) FROM nodes WHERE parent_id = ? AND kind = 'acq' GROUP BY 1",
            (run.node_id,),
        )
        counts = {str(name): int(str(count)) for name, count in counted.fetchall()}
        newest = self._db.execute(
            "SELECT node_id FROM nodes WHERE parent_id = ? AND kind = 'acq' ORDER BY at DESC, n DESC LIMIT ?",
            (run.node_id, MOST_ROWS),
        )
        acqs = tuple(acq for (id,) in newest.fetchall() if (acq := self._acq(str(id))) is not None)
        return Content(run=run, acqs=acqs, counts=counts, number=self._number(owed, run_key(run.uid)))

    def _of_problem(self, owed: Owed) -> Content:
        acq, thread = self._acq(owed.node_id), owed.replies_to
        if thread == "":
            run = self._run(owed.run_id)
            thread = run_key(run.uid) if run is not None else None
        reply_to = self._number(owed, thread) if thread is not None else None
        return Content(acq=acq, reply_to=reply_to, thread=thread)

    def _run(self, id: str) -> Run | None:
        found = read_node(self._db, id)
        return found if isinstance(found, Run) else None

    def _acq(self, id: str) -> Acq | None:
        found = read_node(self._db, id)
        return found if isinstance(found, Acq) else None

    def _number(self, owed: Owed, key: str) -> int | None:
        """Of the entry with this key, in the logbook that it is owed to now."""
        record = self._db.execute("SELECT record FROM pages WHERE key = ?", (key,)).get
        page = decode_page(record) if record is not None else None
        return page.number if page is not None and page.logbook == owed.logbook else None
