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
from functools import partial
from typing import Any
from uuid import uuid4

import structlog
import zmq
from msgspec.structs import replace

from storage_protocol.codec import encode_value
from storage_protocol.errors import Refusal
from storage_protocol.times import to_wire

from .bus.endpoint import Endpoint
from .bus.publisher import Publisher
from .config import Config
from .database import Database
from .description import description
from .desk.batch import Batch, Journal
from .desk.desk import EXPIRED, LOOKED, Desk, Now
from .desk.keyring import Keyring
from .desk.messages import Ticket
from .desk.out import Out
from .doors.conversion import Scripts, Settings
from .doors.conversion_scratch import Scratch
from .doors.manifest_processes import ManifestProcesses
from .doors.mount_kinds import make_first_mount
from .failpoints import passing
from .logbooks import Logbooks, elogs
from .mount_tables import folders
from .mounts import NO_ANSWER, Mounts
from .notify import notify
from .queries import READERS, Queries
from .reading import Reading
from .recovery import take_up
from .rules import render
from .rules.conversions import Policy
from .rules.state import Conversion, Places
from .rules.work import Ended, Fault, RunScript
from .sources import Sources
from .store.contents import SqliteContents
from .store.interface import Committed, NotWrittenError, Snapshot, UnknownOutcomeError
from .store.lock import StateLock
from .store.lookups import SqliteLookups
from .store.reader import Reader
from .store.sqlite import SqliteWriter
from .watchdog import Watchdog, end_within

HEARTBEAT_S = 1.0
LINGER_MS = 1000
# For how long a thread keeps the interpreter while the loop wants it: readers and the writer must not delay it.
SWITCH_S = 0.0005
# How long a start looks at mount points before it is ready all the same.
MOUNTS_WAIT_S = 1.0
# How long a stop waits for commands that are at a door; and, after the last script has ended, for its result.
PATIENCE_S = 5.0
RESULTS_S = 1.0
# How long a stop may take in all, beyond the grace of scripts.
ENDED_S = 6.0
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
        if not config.database_path.exists():
            make_first_mount(folders(config.mounts), config.state_dir)
        places = Places({mp: str(each.path) if each.path else None for mp, each in config.mounts.items()})
        writer = SqliteWriter(config.database_path)
        snapshot = writer.snapshot()
        untidy = partial(self._crash, "the database cannot be tidied up")
        self._database = Database(writer, SqliteLookups(config.database_path), untidy)
        readers = [Reader(config.database_path, places, snapshot.journal_id) for _ in range(READERS)]
        given = config.conversion
        scratch = Scratch(given.scratch_dir) if given.remote == "scratch" else None
        self._mounts = Mounts(config.mounts, given.scripts_dir, bounds=config.space.bounds, scratch=scratch)
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
        refused, rest = self._desk.overload.of_replies, self._desk.pacing.rest
        self._queries = Queries(readers, self._mounts, self._status, self._reads, refused, rest, self._answered)

    def _make_desk(self, places: Places, snapshot: Snapshot) -> Desk:
        config, conversion = self._config, self._config.conversion
        return Desk(
            places=places,
            limits=config.limits,
            policy=Policy(conversion.max_attempts, conversion.retry_backoff_s, conversion.max_interruptions),
            max_parallel=conversion.max_parallel,
            keys_keep_s=config.journal.keys_keep_days * 86_400.0,
            key_clock=snapshot.key_clock,
            keyring=Keyring(snapshot.newest_key_ms, snapshot.forgotten_ms, snapshot.keys_ahead),
            journal=self._journal,
            describe=encode_value(description(config, self._service_id, self._journal_id)),
            fresh=lambda: str(uuid4()),
            defect=lambda incident, error: _log.error("defect", incident=incident, exc_info=error),
            manifest_kind=lambda storage_id: config.files_of(storage_id).manifest,
            events_keep_s=config.journal.keep_days * 86_400.0,
            fetches=lambda storage_id: config.files_of(storage_id).config is not None,
            entries_of=lambda storage_id: config.files_of(storage_id).entries,
        )

    # A life

    async def run(self) -> None:
        """Serve until a signal. Returns when everything that was accepted is committed and answered."""
        sys.setswitchinterval(SWITCH_S)
        loop = self._loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_defect)
        self._watchdog = Watchdog(loop)
        config = self._config
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._stop)
        given = config.conversion
        locks = config.state_dir / "locks"
        settings = Settings(given.timeout_s, given.grace_s, given.log_bytes, locks, given.env, given.pid_namespace)
        self._scripts = Scripts(loop, settings, self._on_progress, self._on_ended)
        self._manifests = ManifestProcesses(loop, config.mounts, config.manifest.processes, self._outcome)
        self._sources = Sources(config, self._database.ask, self._mounts, self._outcome)
        contents = SqliteContents(config.database_path)
        self._logbooks = Logbooks(elogs(config.logbooks), contents, self._desk.state.places, self._outcome)
        try:
            tails, last_seq = self._journal.tails(), self._journal.last_seq
            self._publisher = Publisher(self._context, config.endpoints.events, tails, last_seq)
            self._endpoint = Endpoint(
                loop,
                self._context,
                config.endpoints.commands,
                config.limits.message_bytes,
                lambda received: self._reading.received(received),
                self._queries.go_on,
            )
            self._reading = Reading(loop, self._desk, config.limits, self._after, self._endpoint.go_on)
        except Exception:
            self._context.destroy(linger=0)
            raise
        for warning in self._warnings():
            _log.warning(warning)
        await self._recover()
        await self._mounts.warn(MOUNTS_WAIT_S)
        self._mounts.sweep(config.trash.keep_days * 86_400.0, partial(self._outcome, EXPIRED))
        self._mounts.watch(config.space.look_s, partial(self._outcome, LOOKED))
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
        passing("shell.recover")
        ids = [each.conversion_id for each in self._snapshot.conversions if each.state == "running"]
        ended = await self._loop.run_in_executor(None, self._scripts.end_leftovers, ids)
        told = take_up(self._desk, self._snapshot, self._now())
        passing("shell.recovered")
        _log.info("recovered", **told, processes_ended=ended)
        self._after()

    def _stop(self) -> None:
        if self._stopping.is_set():
            _log.warning("second signal: ending at once")
            os._exit(128 + signal.SIGTERM)
        self._stopping.set()
        # What hangs in a system call of the loop itself must not keep a stopped service from ending either.
        end_within(self._config.conversion.grace_s + ENDED_S, EXIT_UNKNOWN_OUTCOME)

    async def _end(self) -> None:
        """No new commands; what was accepted is committed and answered; scripts are interrupted."""
        notify("STOPPING=1")
        _log.info("stopping")
        self._endpoint.stop_reading()
        passing("shell.reading_stopped")
        self._desk.start_no_more()
        patience = self._loop.time() + PATIENCE_S
        self._manifests.close()
        await self._sources.close()
        await self._logbooks.close()
        await self._scripts.close()
        passing("shell.scripts_ended")
        try:
            async with asyncio.timeout_at(max(patience, self._loop.time() + RESULTS_S)):
                while self._reading or not self._desk.is_quiet():
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            _log.warning("commands at doors are left to the next start", **self._desk.work.counts())
        passing("shell.quiet")
        self._ended = True
        if self._tick is not None:
            self._tick.cancel()
        self._publisher.variables(self._desk.telling.rest(), self._now().wall)
        self._endpoint.close(LINGER_MS)
        self._publisher.close(LINGER_MS)
        await self._loop.run_in_executor(None, self._context.term)
        passing("shell.sockets_closed")
        self._queries.close()
        self._mounts.close()
        self._database.close()
        self._lock.release()
        self._watchdog.close()
        _log.info("stopped", last_seq=self._journal.last_seq, **self._endpoint.counts())

    # What happens

    def _now(self) -> Now:
        return Now(time.time(), time.monotonic())

    def _on_ended(self, result: Ended) -> None:
        self._mounts.bring_back(result, self._on_result)

    def _on_result(self, result: Ended) -> None:
        passing("shell.script_ended")
        self._queries.progress.pop(result.conversion_id, None)
        self._desk.ended(result, self._now())
        self._after()

    def _on_progress(self, conversion_id: str, value: float) -> None:
        self._queries.progress[conversion_id] = value
        found = self._desk.state.records.get(("conversion", conversion_id))
        if isinstance(found, Conversion) and found.state == "running":
            told = render.conversion(replace(found, progress=value), self._desk.state.places)
            self._publisher.tell("conversion.progress", found.storage_id, found.acq_id, to_wire(time.time()), told)

    def _reads(self, peer: bytes) -> bool:
        return not self._endpoint.backlog.waits(peer)

    def _answered(self, answers: list[tuple[Ticket, bytes | Refusal]]) -> None:
        for ticket, result in answers:
            self._desk.answered(ticket, result, self._now())
        self._after()

    def _status(self) -> dict[str, Any]:
        """What of `get_status` this file knows."""
        return {
            "started_at": self._started_at,
            "queues": {
                **self._desk.counts(),
                **self._manifests.progress(),
                **self._queries.counts(),
                **self._endpoint.counts(),
            },
            "logbooks": self._desk.work.logbooks.status(),
            "loop": self._watchdog.status(),
            "conversion_protection": self._scripts.protection.told(),
            "warnings": self._warnings(),
        }

    def _warnings(self) -> list[str]:
        return [*self._config.warnings, *filter(None, [self._scripts.protection.reason])]

    def _on_tick(self) -> None:
        self._tick = None
        self._desk.tick(self._now())
        self._after()

    def _heartbeat(self) -> None:
        self._loop.call_later(HEARTBEAT_S, self._heartbeat)
        ids = {"service_id": self._service_id, "started_at": self._started_at, "journal_id": self._journal_id}
        if not self._stopping.is_set():
            self._publisher.heartbeat(to_wire(time.time()), ids)

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
            passing("shell.batch_handed")
            self._reading.cut()
            self._database.commit(batch, self._desk.key_date(self._now()), partial(self._committed, batch))
        due = self._desk.next_tick()
        # A tick that comes too early finds nothing to do: it is cheaper than to put it off each time.
        if self._tick is None or due < self._tick.when():
            if self._tick is not None:
                self._tick.cancel()
            self._tick = self._loop.call_at(due, self._on_tick)
        self._quiet.set()

    def _carry_out(self, out: Out) -> None:
        if out.replies:
            self._endpoint.send(out.replies)
        passing("shell.replies_sent")
        self._publisher.publish(out.events)
        passing("shell.events_published")
        if out.look_ups:
            self._database.look_up(out.look_ups, self._looked_up)
        if out.queries:
            self._queries.answer(out.queries)
        if out.has_work:
            self._set_to_work(out)

    def _set_to_work(self, out: Out) -> None:
        self._publisher.variables(out.variables, self._now().wall)
        for work_id, order in out.orders:
            passing("shell.order_handed")
            self._mounts.carry_out(order, partial(self._outcome, work_id))
        for work_id, asked in out.readings:
            self._sources.take(work_id, asked)
        for script in out.scripts:
            passing("shell.script_handed")
            self._mounts.open_script(script, partial(self._start_script, script))
        for conversion_id in out.cancels:
            passing("shell.cancel_handed")
            self._scripts.cancel(conversion_id)
        passing("shell.manifests_handed")
        self._manifests.carry_out(out.manifests, out.manifest_cancels)
        passing("shell.logbooks_handed")
        self._logbooks.carry_out(out.logbooks)

    def _outcome(self, work_id: str, result: Any) -> None:
        passing("shell.outcome_told")
        self._desk.outcome(work_id, result, self._now())
        self._after()

    def _looked_up(self, found: Any) -> None:
        if isinstance(found, Exception):
            self._crash("the database cannot be read", found)
        self._desk.looked_up(found, self._now())
        self._after()

    def _start_script(self, order: RunScript, opened: tuple[Any, Any, int] | Fault) -> None:
        if isinstance(opened, Fault):
            how = "away" if opened.details.get("reason") == NO_ANSWER else "not_started"
            self._on_ended(Ended(order.conversion_id, order.attempt, how, reason=opened.message))
            return
        script, folder, log_fd = opened
        passing("shell.script_starts")
        self._scripts.start(order, script, folder, log_fd, self._mounts.logs(order.mp))
        passing("shell.script_started")
        if self._desk.work.is_cancelled(order.conversion_id):
            self._scripts.cancel(order.conversion_id)

    # The transaction

    def _committed(self, batch: Batch, result: Committed | Exception) -> None:
        if isinstance(result, NotWrittenError):
            _log.error("not written", reason=str(result))
            self._desk.rolled_back(batch, str(result), self._now())
        elif isinstance(result, UnknownOutcomeError):
            self._crash("a commit failed, and nobody can tell whether it is durable", result)
        elif isinstance(result, Exception):
            self._crash("a commit met a defect", result)
        else:
            passing("shell.committed_told")
            self._desk.committed(batch, self._now(), result.forgotten_ms)
            if result.forgotten:
                self._desk.expire_again()
        self._after()
        self._reading.go_on()

    def _on_defect(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody caught: memory may no longer be what the database says."""
        self._crash(context["message"], context.get("exception") or RuntimeError(context["message"]))

    def _crash(self, what: str, error: BaseException) -> None:
        """End without a reply: the next start reads what is true."""
        _log.critical(what, exc_info=error)
        sys.stderr.flush()
        os._exit(EXIT_UNKNOWN_OUTCOME)
