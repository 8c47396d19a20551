"""A store that is filled fast, through the service's own store and the rules' own `evolve`.

The journal rows, records, parameters and search rows are those that a service would have written for acquisitions
of ROWS_EACH events; the folders beside them, which nothing reads, and the idempotency keys, which a service
forgets after days, are not there. The service must not run meanwhile.
"""

import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage_service.desk.batch import Batch, Journal
from storage_service.rules import facts
from storage_service.rules.facts import Event
from storage_service.rules.state import Acq, Places, Run, State
from storage_service.store.interface import Committed
from storage_service.store.sqlite import SqliteWriter

STORAGE = "bench-0"
PARAMS = 50
ROWS_EACH = (
    100  # events of an acquisition: it is started, its parameters are set, it is marked, finished and sealed
)
RUN_OF = 1_000  # acquisitions of a run
CLASSES = 100  # of the values of `class_0`: one per cent of the acquisitions has each of them
AT_ONCE = 40  # acquisitions of a transaction
START = datetime(2026, 1, 1, tzinfo=UTC)


class Filling:
    """A state folder's database, to which acquisitions of the storage STORAGE are added.

    Raises StoreError when the database cannot be opened.
    """

    def __init__(self, database: Path) -> None:
        self._writer = SqliteWriter(database)
        snapshot = self._writer.snapshot()
        self._state = State(Places())
        self._state.records.update(snapshot.records())
        self._journal = Journal(snapshot.last_seq, dict(snapshot.topics))
        self._batches = 0

    def add(self, first: int, count: int) -> None:
        """Acquisitions of these numbers. Raises KeyError when the storage is not there, and NotWrittenError or
        UnknownOutcomeError when the disk refuses."""
        at = first
        pending: Future[Committed] | None = None
        with ThreadPoolExecutor(1, "commit") as committing:  # the next is made meanwhile, as in the service
            while at < first + count:
                batch = self._batch(at, min(first + count, at + AT_ONCE))
                if pending is not None:
                    pending.result()
                pending = committing.submit(self._writer.commit, batch, 0.0)
                at += AT_ONCE
            if pending is not None:
                pending.result()

    def close(self) -> None:
        """Close the database."""
        self._writer.close()

    @property
    def last_seq(self) -> int:
        """The newest seq of the journal."""
        return self._journal.last_seq

    def _batch(self, first: int, end: int) -> Batch:
        self._batches += 1
        batch = Batch(self._batches, self._state, self._journal)
        storage = self._state.storage(STORAGE)
        if storage is None:
            raise KeyError(STORAGE)
        for number in range(first, end):
            time = (START + timedelta(seconds=number)).isoformat(timespec="microseconds").replace("+00:00", "Z")
            run_id = f"{storage.group_id}/grown_{number // RUN_OF}"
            if number % RUN_OF == 0:
                self._run(batch, run_id, storage.uid, time)
            self._acquisition(batch, run_id, number, time)
        return batch

    def _run(self, batch: Batch, run_id: str, owner: str, time: str) -> None:
        group_id, _, name = run_id.rpartition("/")
        path = f"{STORAGE}/{name}"
        run = Run(run_id, _uid(), name, group_id, STORAGE, owner, "file:///", path, True, time)
        batch.apply(Event(facts.RunCreated(run), STORAGE, run_id), time)

    def _acquisition(self, batch: Batch, run_id: str, number: int, time: str) -> None:
        run_name = run_id.rpartition("/")[2]
        name, id = f"acq_{number}", f"{run_id}/acq_{number}"
        acq = Acq(
            node_id=id,
            uid=_uid(),
            name=name,
            run_id=run_id,
            run_name=run_name,
            storage_id=STORAGE,
            mp="file:///",
            path=f"{STORAGE}/{run_name}/{name}",
            visible=True,
            started_at=time,
            created_at=time,
            expected=1,
        )
        happened: list[facts.AnyFact] = [facts.AcqStarted(acq)]
        for param in range(ROWS_EACH - 4):
            happened.append(facts.AcqParamSet(id, *_param(number, param)))
        happened.append(facts.ProducerFinished(id, None, True, {}))
        happened.append(facts.AcqFinished(id, "complete", ""))
        happened.append(facts.AcqSealed(id))
        for fact in happened:
            batch.apply(Event(fact, STORAGE, id), time)
        del self._state.records["node", id]  # as a service lets go of it


def _param(number: int, param: int) -> tuple[str, int | float | str]:
    """The name and the value of the so many-th parameter that is set in an acquisition: all 50, then again."""
    param %= PARAMS
    if param == 0:
        return "class_0", number % CLASSES
    if param == 1:
        return "class_1", (number + 1) % CLASSES
    if param == 2:
        return "detector", f"chamber_{number % 7}"
    return f"reading_{param}", number * 1.5 + param


def _uid() -> str:
    return str(uuid.uuid4())
