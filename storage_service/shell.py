"""asyncio around the desk: sockets, threads, clocks. The composition root: every concrete part is chosen here.

Everything in this file runs in the loop's thread, but what is handed to a pool; pools answer with
`call_soon_threadsafe`. After whatever happened, `_after` carries out what the desk wants and commits what waits.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any
from uuid import uuid4

import structlog
import zmq
from msgspec.structs import replace

from storage_protocol import PROTOCOL_VERSION
from storage_protocol.codec import encode_value
from storage_protocol.commands import described
from storage_protocol.errors import Refusal
from storage_protocol.times import to_wire

from .bus.endpoint import Endpoint
from .bus.publisher import Publisher
from .config import Config
from .desk.batch import Batch, Journal
from .desk.desk import Desk, Now
from .desk.keyring import Keyring
from .desk.messages import Ticket, open_message
from .desk.out import Out
from .doors.conversion import Scripts, Settings, end_leftovers
from .doors.manifest_processes import ManifestProcesses
from .mounts import Mounts
from .notify import notify
from .queries import Queries
from .rules import render
from .rules.conversions import Policy
from .rules.state import Acq, Conversion, Places
from .rules.work import Ended, Fault, RunScript
from .store.interface import Committed, NotWrittenError, Snapshot, UnknownOutcomeError
from .store.lock import StateLock
from .store.reader import Reader
from .store.sqlite import SqliteLookups, SqliteWriter

HEARTBEAT_S = 1.0
LINGER_MS = 1000
# How long a start looks at mount points before it is ready all the same.
MOUNTS_WAIT_S = 1.0
# How long a stop waits for commands that are at a door.
PATIENCE_S = 5.0
# sysexits.h EX_TEMPFAIL: a supervisor starts the service again, and it recovers.
EXIT_UNKNOWN_OUTCOME = 75

_log = structlog.get_logger("storage_service")


class Service:
    """One service on one state folder.

    Raises StoreError or BindError when it cannot start.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = StateLock(config.state_dir)
        self._make_first_mount()
        places = Places({mp: str(root) for mp, root in config.mounts.items()})
        self._writer = SqliteWriter(config.database_path)
        snapshot = self._writer.snapshot()
        self._lookups = SqliteLookups(config.database_path)
        reader = Reader(config.database_path, places, snapshot.journal_id)
        self._mounts = Mounts(config.mounts, config.conversion.scripts_dir)
        self._writer_thread = ThreadPoolExecutor(1, "writer")
        self._lookup_thread = ThreadPoolExecutor(1, "look-ups")
        self._started_at = to_wire(time.time())
        self._journal_id = snapshot.journal_id
        self._service_id = str(uuid4())
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._journal = Journal(snapshot.last_seq, dict(snapshot.topics))
        self._desk = self._make_desk(places, snapshot)
        self._snapshot = snapshot
        self._tick: asyncio.TimerHandle | None = None
        self._stopping = asyncio.Event()
        self._quiet = asyncio.Event()
        self._ended = False
        self._queries = Queries(reader, self._mounts, self._status, self._answered)

    def _make_first_mount(self) -> None:
        """At the very first start, make the folder of the default mount point where it lies beside the state.

        Only then: later, a folder that is not there is a disk that is not mounted.
        """
        config, root = self._config, self._config.mounts.get("file:///")
        if root is not None and not config.database_path.exists() and config.state_dir.parent in root.parents:
            with suppress(OSError):  # the start warns of a mount point that is not there
                root.mkdir(parents=True, exist_ok=True)

    def _make_desk(self, places: Places, snapshot: Snapshot) -> Desk:
        config, conversion = self._config, self._config.conversion
        return Desk(
            places=places,
            limits=config.limits,
            policy=Policy(conversion.max_attempts, conversion.retry_backoff_s, conversion.max_interruptions),
            max_parallel=conversion.max_parallel,
            keys_keep_s=config.journal.keys_keep_days * 86_400.0,
            keyring=Keyring(snapshot.newest_key_ms, snapshot.forgotten_ms),
            journal=self._journal,
            describe=encode_value(self._description()),
            fresh=lambda: str(uuid4()),
            defect=lambda incident, error: _log.error("defect", incident=incident, exc_info=error),
            manifest_kind=lambda storage_id: config.files_of(storage_id).manifest,
        )

    def _description(self) -> dict[str, Any]:
        return {
            "service": "storage-service",
            "version": version("storage-service"),
            "protocol": PROTOCOL_VERSION,
            "service_id": self._service_id,
            "journal_id": self._journal_id,
            "events_endpoint": self._config.endpoints.events,
            "limits": self._config.limits,
            "commands": described(),
        }

    # A life

    async def run(self) -> None:
        """Serve until a signal. Returns when everything that was accepted is committed and answered."""
        loop = self._loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_defect)
        config = self._config
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._stop)
        settings = config.conversion
        self._scripts = Scripts(
            loop,
            Settings(settings.timeout_s, settings.grace_s, settings.log_bytes, settings.env),
            self._on_progress,
            self._on_ended,
        )
        self._manifests = ManifestProcesses(loop, config.mounts, config.manifest.processes, self._outcome)
        try:
            tails, last_seq = self._journal.tails(), self._journal.last_seq
            self._publisher = Publisher(self._context, config.endpoints.events, tails, last_seq)
            self._endpoint = Endpoint(
                loop, self._context, config.endpoints.commands, config.limits.message_bytes, self._on_messages
            )
        except Exception:
            self._context.destroy(linger=0)
            raise
        for warning in config.warnings:
            _log.warning(warning)
        await self._recover()
        await self._warn_of_mounts()
        self._endpoint.start_reading()
        loop.call_later(HEARTBEAT_S, self._heartbeat)
        notify("READY=1")
        _log.info(
            "ready",
            commands=config.endpoints.commands,
            events=config.endpoints.events,
            state_dir=str(config.state_dir),
            pid=os.getpid(),
        )
        await self._stopping.wait()
        await self._end()

    async def _recover(self) -> None:
        """Go on with what an earlier life left open."""
        snapshot, desk = self._snapshot, self._desk
        running = [each for each in snapshot.conversions if each.state == "running"]
        ended = 0
        if running:
            ids = [each.conversion_id for each in running]
            grace = self._config.conversion.grace_s
            ended = await self._loop.run_in_executor(None, end_leftovers, ids, grace)
        desk.restore(snapshot.records(), snapshot.intents, self._now())
        for each in running:
            reason = "the service ended while it ran"
            desk.ended(Ended(each.conversion_id, each.attempt, "interrupted", reason=reason), self._now())
        acqs = [node for node in snapshot.nodes if isinstance(node, Acq)]
        _log.info(
            "recovered",
            journal_id=snapshot.journal_id,
            last_seq=snapshot.last_seq,
            storages=len(snapshot.storages),
            acquisitions_open=sum(acq.state == "open" for acq in acqs),
            acquisitions_to_seal=sum(acq.state != "open" and not acq.sealed for acq in acqs),
            conversions_queued=len(snapshot.conversions) - len(running),
            conversions_interrupted=len(running),
            processes_ended=ended,
            manifests_to_write=len(snapshot.dues),
            intents=len(snapshot.intents),
        )
        self._after()

    async def _warn_of_mounts(self) -> None:
        for state in await self._mounts.states(MOUNTS_WAIT_S):
            if state["state"] != "ok":
                _log.warning("a mount point cannot be used; what needs it is unavailable", **state)

    def _stop(self) -> None:
        if self._stopping.is_set():
            _log.warning("second signal: ending at once")
            os._exit(128 + signal.SIGTERM)
        self._stopping.set()

    async def _end(self) -> None:
        """No new commands; what was accepted is committed and answered; scripts are interrupted."""
        notify("STOPPING=1")
        _log.info("stopping")
        self._endpoint.stop_reading()
        self._desk.start_no_more()
        self._manifests.close()
        await self._scripts.close()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not self._desk.is_quiet():
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            _log.warning("commands at doors are left to the next start", **self._desk.work.counts())
        self._ended = True
        if self._tick is not None:
            self._tick.cancel()
        self._endpoint.close(LINGER_MS)
        self._publisher.close(LINGER_MS)
        await self._loop.run_in_executor(None, self._context.term)
        for pool in (self._writer_thread, self._lookup_thread):
            pool.shutdown()
        self._queries.close()
        self._mounts.close()
        self._lookups.close()
        self._writer.close()
        self._lock.release()
        _log.info("stopped", last_seq=self._journal.last_seq, replies_dropped=self._endpoint.dropped)

    # What happens

    def _now(self) -> Now:
        return Now(time.time(), time.monotonic())

    def _on_messages(self, received: list[list[bytes]]) -> None:
        limits = self._config.limits
        self._desk.take([open_message(parts, limits) for parts in received], self._now())
        self._after()

    def _on_ended(self, result: Ended) -> None:
        self._queries.progress.pop(result.conversion_id, None)
        self._desk.ended(result, self._now())
        self._after()

    def _on_progress(self, conversion_id: str, value: float) -> None:
        self._queries.progress[conversion_id] = value
        found = self._desk.state.records.get(("conversion", conversion_id))
        if isinstance(found, Conversion) and found.state == "running":
            told = render.conversion(replace(found, progress=value), self._desk.state.places)
            self._publisher.tell("conversion.progress", found.storage_id, found.acq_id, to_wire(time.time()), told)

    def _answered(self, answers: list[tuple[Ticket, bytes | Refusal]]) -> None:
        for ticket, result in answers:
            self._desk.answered(ticket, result, self._now())
        self._after()

    def _status(self) -> dict[str, Any]:
        """What of `get_status` this file knows."""
        return {
            "started_at": self._started_at,
            "queues": self._desk.counts()
            | self._manifests.progress()
            | {"replies_dropped": self._endpoint.dropped},
            "warnings": list(self._config.warnings),
        }

    def _on_tick(self) -> None:
        self._desk.tick(self._now())
        self._after()

    def _heartbeat(self) -> None:
        self._loop.call_later(HEARTBEAT_S, self._heartbeat)
        service = {
            "service_id": self._service_id,
            "started_at": self._started_at,
            "journal_id": self._journal_id,
        }
        if not self._stopping.is_set():
            self._publisher.heartbeat(to_wire(time.time()), service)

    # What the desk wants

    def _after(self) -> None:
        """Carry out what the desk wants, commit what waits, and wake it when it wants to be woken."""
        if self._ended:
            # What a door says now is left to the next start, which asks it again.
            return
        while self._desk.out:
            self._carry_out(self._desk.out.take())
        batch = self._desk.cut()
        if batch is not None:
            self._writer_thread.submit(self._commit, batch, time.time())
        if self._tick is not None:
            self._tick.cancel()
        wait = self._desk.next_tick() - time.monotonic()
        self._tick = self._loop.call_later(max(wait, 0.0), self._on_tick)
        self._quiet.set()

    def _carry_out(self, out: Out) -> None:
        for parts in out.replies:
            self._endpoint.send(parts)
        for row in out.events:
            self._publisher.publish(row.topic, row.seq, row.body)
        if out.look_ups:
            self._hand(self._lookup_thread, partial(self._lookups.look_up, out.look_ups), self._looked_up)
        if out.queries:
            self._queries.answer(out.queries)
        for work_id, order in out.orders:
            self._mounts.carry_out(order, partial(self._outcome, work_id))
        for script in out.scripts:
            self._mounts.open_script(script, partial(self._start_script, script))
        for conversion_id in out.cancels:
            self._scripts.cancel(conversion_id)
        self._manifests.carry_out(out.manifests, out.manifest_cancels)

    def _hand(self, pool: ThreadPoolExecutor, work: Callable[[], Any], tell: Callable[[Any], None]) -> None:
        """Do `work` in a thread; `tell` hears in the loop what came of it, an exception too."""

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001  what a thread meets is told in the loop
                result = error
            self._loop.call_soon_threadsafe(tell, result)

        pool.submit(run)

    def _outcome(self, work_id: str, result: Any) -> None:
        self._desk.outcome(work_id, result, self._now())
        self._after()

    def _looked_up(self, found: Any) -> None:
        if isinstance(found, Exception):
            self._crash("the database cannot be read", found)
        self._desk.looked_up(found, self._now())
        self._after()

    def _start_script(self, order: RunScript, opened: tuple[Any, Any, int] | Fault) -> None:
        if isinstance(opened, Fault):
            reason = opened.message
            self._on_ended(Ended(order.conversion_id, order.attempt, "not_started", reason=reason))
            return
        script, folder, log_fd = opened
        self._scripts.start(order, script, folder, log_fd, self._mounts.pool(order.mp))
        if self._desk.work.is_cancelled(order.conversion_id):
            self._scripts.cancel(order.conversion_id)

    # The transaction

    def _commit(self, batch: Batch, wall: float) -> None:
        """In the writer's thread."""
        result: Committed | Exception
        try:
            result = self._writer.commit(batch, wall)
        except Exception as error:  # noqa: BLE001  told in the loop
            result = error
        self._loop.call_soon_threadsafe(self._committed, batch, result)

    def _committed(self, batch: Batch, result: Committed | Exception) -> None:
        if isinstance(result, NotWrittenError):
            _log.error("not written", reason=str(result))
            self._desk.rolled_back(batch, str(result), self._now())
        elif isinstance(result, UnknownOutcomeError):
            self._crash("a commit failed, and nobody can tell whether it is durable", result)
        elif isinstance(result, Exception):
            self._crash("a commit met a defect", result)
        else:
            self._desk.committed(batch, self._now(), result.forgotten_ms)
            if result.forgotten:
                self._desk.expire_again()
        self._after()

    def _on_defect(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody caught: memory may no longer be what the database says."""
        self._crash(context["message"], context.get("exception") or RuntimeError(context["message"]))

    def _crash(self, what: str, error: BaseException) -> None:
        """End without a reply: the next start reads what is true."""
        _log.critical(what, exc_info=error)
        sys.stderr.flush()
        os._exit(EXIT_UNKNOWN_OUTCOME)
