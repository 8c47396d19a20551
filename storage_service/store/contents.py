"""What an entry of a logbook is made of, read when its turn comes, through a connection that only reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from ..rules.logbook_records import ACQUISITION, RUN, Owed, acq_key, run_key
from ..rules.logbook_text import MOST_PARAMS_OF_ROW, MOST_ROWS
from ..rules.logbook_work import Content
from ..rules.state import Acq, Run
from .lookups import BUSY_MS, read_node
from .rows import decode_node, decode_page, value_of


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
                acq = acq if acq is not None and acq.uid == owed.uid else None
                number = self._number(owed, acq_key(acq.uid)) if acq is not None else None
                content = Content(acq=acq, number=number)
            else:
                content = self._of_problem(owed)
        return content

    def _of_run(self, owed: Owed) -> Content:
        run = self._run(owed.node_id)
        if run is None or owed.uid not in ("", run.uid):
            return Content()
        counted = self._db.execute(
            "SELECT ifnull(verdict, state), count(*) FROM nodes WHERE parent_id = ? AND kind = 'acq' GROUP BY 1",
            (run.node_id,),
        )
        counts = {str(name): int(str(count)) for name, count in counted.fetchall()}
        newest = self._db.execute(
            "SELECT node_id, record FROM nodes WHERE parent_id = ? AND kind = 'acq'"
            " ORDER BY at DESC, n DESC LIMIT ?",
            (run.node_id, MOST_ROWS),
        )
        acqs = [self._row(str(id), record) for id, record in newest.fetchall()]
        ended = next((acq.node_id for acq in acqs if acq.state != "open"), None)
        return Content(
            run=run,
            acqs=tuple(acqs),
            params={acq.node_id: self._count(acq.node_id) for acq in acqs},
            ended=self._acq(ended) if ended is not None else None,
            counts=counts,
            number=self._number(owed, run_key(run.uid)),
        )

    def _row(self, id: str, record: Any) -> Acq:
        """An acquisition with the first of its parameters: all of them may be a thousand, of each of a hundred."""
        first = self._db.execute(
            "SELECT name, class, value FROM params WHERE node_id = ? ORDER BY name LIMIT ?",
            (id, MOST_PARAMS_OF_ROW),
        )
        found = decode_node(record, {name: value_of(class_, value) for name, class_, value in first})
        if not isinstance(found, Acq):
            raise TypeError(f"{id} is no acquisition")
        return found

    def _count(self, id: str) -> int:
        return int(str(self._db.execute("SELECT count(*) FROM params WHERE node_id = ?", (id,)).get))

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
