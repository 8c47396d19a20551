"""The mount points of this host, each with a bounded pool of threads: one that hangs keeps no other waiting.

An order that is not done after `DEADLINE_S` is told as `unavailable`, though its thread may still hang in the
kernel. Until every such order came back, the mount point is given nothing more: what is late can then never undo
what is newer. Seals, which sync data, may take as long as they need and have threads of their own. So have logs of
conversions, one a mount point, in which they keep their order.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from msgspec.structs import replace

from storage_protocol.records import TrashEntry

from .doors.conversion_scratch import Scratch
from .doors.log_writer import LogWriter
from .doors.mount_kinds import door_of
from .doors.remote_mount import RemoteMount
from .doors.remote_trash import RemoteTrash
from .doors.runnable import runnable_script
from .doors.trash import Measured, Place, Trash
from .doors.trash_schedule import Schedule
from .failpoints import passing
from .mount_answers import NO_ANSWER as NO_ANSWER
from .mount_answers import away, does_not_answer, not_configured
from .mount_tables import Mount
from .rules.space import Look
from .rules.work import (
    ACQ_MARKER,
    Ended,
    Failed,
    Fault,
    MakeFolder,
    Order,
    ReachMount,
    Result,
    RunScript,
    SyncData,
)

THREADS = 4
SEAL_THREADS = 2
DEADLINE_S = 10.0

_log = structlog.get_logger("storage_service")

T = TypeVar("T")
Tell = Callable[[Result], None]
Opened = tuple[Path, Path, int] | Fault
Bounds = tuple[int, int]
"""Bytes that must be free for a new acquisition, and below which a mount point is told to be low; 0: never."""


class Door(Protocol):
    """What a mount point can do; every fault of the outside is a `Failed`, or a `Fault` that is raised."""

    def carry_out(self, order: Order) -> Result: ...

    def open_log(self, path: tuple[str, ...], name: str) -> int: ...

    def local_path(self, path: tuple[str, ...]) -> Path: ...

    def free_bytes(self) -> int | None: ...

    def sweep(self, keep_s: float, expired: Callable[[tuple[TrashEntry, ...]], None]) -> Schedule[Any]: ...

    def close(self) -> None: ...

    @property
    def trash(self) -> Trash | RemoteTrash: ...


class _Mount:
    """One mount point: its door, its threads, what is late, and the look at it that `get_status` waits for."""

    def __init__(self, mp: str, door: Door, bounds: Bounds = (0, 0), elsewhere: bool = False) -> None:
        self.minimum, self.low = bounds
        self.elsewhere = elsewhere
        self.mp = mp
        self.door = door
        self.pool = ThreadPoolExecutor(THREADS, f"mount {mp}")
        self.seals = ThreadPoolExecutor(SEAL_THREADS, f"seals {mp}")
        self.logs = ThreadPoolExecutor(1, f"logs {mp}")
        self.late: set[object] = set()
        self.probe: asyncio.Future[dict[str, Any]] | None = None
        self.sweep: Schedule[Any] | None = None

    def in_time(
        self,
        pool: Executor,
        deadline_s: float,
        work: Callable[[], T],
        refuse: Callable[[], T],
        tell: Callable[[T], None],
        discard: Callable[[T], None] = lambda result: None,
    ) -> None:
        """Do `work` in a thread. `tell` hears what came of it, or after the deadline what `refuse` says; what
        comes after that is for `discard`."""
        loop, told = asyncio.get_running_loop(), False
        this = object()

        def overdue() -> None:
            nonlocal told
            told = True
            if not self.late:
                _log.error("a mount point does not answer", mp=self.mp, after_s=deadline_s)
            self.late.add(this)
            tell(refuse())

        def finished(result: T) -> None:
            timer.cancel()
            if not told:
                tell(result)
                return
            discard(result)
            self.late.discard(this)
            if not self.late:
                _log.info("a mount point answers again", mp=self.mp)

        def run() -> None:
            # What was told as failed while it waited for a thread is not begun any more.
            result = refuse() if told else work()
            passing("mounts.outcome_known")
            loop.call_soon_threadsafe(finished, result)

        timer = loop.call_later(deadline_s, overdue)
        pool.submit(run)


class Mounts:
    """Hands orders to the door of their mount point. Used by the loop's thread; `tell` is called there."""

    def __init__(
        self,
        mounts: Mapping[str, Mount],
        scripts_dir: Path,
        door: Callable[[str, Mount, Path], Door] = door_of,
        deadline_s: float = DEADLINE_S,
        bounds: Callable[[str], Bounds] = lambda mp: (0, 0),
        scratch: Scratch | None = None,
    ) -> None:
        self.scratch = scratch
        self._deadline_s = deadline_s
        self._scripts_dir = scripts_dir
        self._mounts = {
            mp: _Mount(mp, door(mp, mount, scripts_dir), bounds(mp), mount.path is None)
            for mp, mount in mounts.items()
        }
        self._watching: asyncio.TimerHandle | None = None
        # All mount points share the scripts folder: where it hangs, what needs no script goes on.
        self._scripts = _Mount("the scripts folder", door("", Mount(path=scripts_dir), scripts_dir))

    def carry_out(self, order: Order, tell: Tell) -> None:
        """Do what the order says; `tell` hears what came of it, in time or as `unavailable`."""
        mount = self._mounts.get(order.mp)
        if mount is None:
            tell(not_configured(order))
        elif mount.late:
            tell(does_not_answer(mount.mp))
        elif isinstance(order, SyncData):
            loop = asyncio.get_running_loop()
            mount.seals.submit(lambda: loop.call_soon_threadsafe(tell, _done(mount.door, order)))
        elif isinstance(order, MakeFolder) and order.script is not None and mount.elsewhere and not self.scratch:
            message = f"{mount.mp} lies elsewhere, and conversion.remote is refuse; leave {order.script} out."
            tell(Failed("invalid_name", message, {"field": "convert_script", "rule": "elsewhere"}))
        elif isinstance(order, MakeFolder) and order.script is not None:
            unchecked = replace(order, script=None)

            def checked(script: Path | Fault) -> None:
                if isinstance(script, Fault):
                    tell(Failed(script.code, script.message, script.details))
                else:
                    self.carry_out(unchecked, tell)

            self._find_script(order.script, checked)
        else:
            work, refuse = (lambda: _begun(mount, order)), (lambda: does_not_answer(mount.mp))
            mount.in_time(mount.pool, self._deadline_s, work, refuse, tell)

    def _find_script(self, name: str, tell: Callable[[Path | Fault], None]) -> None:
        """Where a script is, or why it cannot be run."""
        scripts = self._scripts

        def work() -> Path | Fault:
            try:
                return runnable_script(self._scripts_dir, name)
            except Fault as fault:
                return fault

        if scripts.late:
            tell(away("The scripts folder"))
        else:
            scripts.in_time(scripts.pool, self._deadline_s, work, lambda: away("The scripts folder"), tell)

    def open_script(self, order: RunScript, tell: Callable[[Opened], None]) -> None:
        """The script, the folder and the open log of a conversion; or why there are none, with the reason
        `NO_ANSWER` where the mount point as a whole cannot be reached."""
        mount = self._mounts.get(order.mp)
        if mount is None:
            tell(Fault("unavailable", f"The mount point {order.mp} is not configured any more.", reason="mount"))
        elif mount.late:
            tell(away(f"The mount point {mount.mp}"))
        else:

            def found(script: Path | Fault) -> None:
                if isinstance(script, Fault):
                    tell(script)
                    return
                if mount.elsewhere and self.scratch:  # for as long as it takes to fetch everything
                    loop = asyncio.get_running_loop()
                    mount.seals.submit(lambda: loop.call_soon_threadsafe(tell, self._open(mount, order, script)))
                    return
                work, refuse = (
                    (lambda: self._open(mount, order, script)),
                    (lambda: away(f"The mount point {mount.mp}")),
                )
                mount.in_time(mount.pool, self._deadline_s, work, refuse, tell, _close_log)

            self._find_script(order.script, found)

    def _open(self, mount: _Mount, order: RunScript, script: Path) -> Opened:
        door = mount.door
        try:
            if self.scratch and isinstance(door, RemoteMount):
                return (script, *self.scratch.fetch(door, order, mount.seals))
            return script, door.local_path(order.path), door.open_log(order.path, order.log_name)
        except Fault as fault:
            if fault.code == "unavailable" and isinstance(_done(door, ReachMount(mount.mp)), Failed):
                return away(f"The mount point {mount.mp}")
            return fault
        except Exception as error:  # noqa: BLE001  a defect of a door must reach who waits
            return Fault("unavailable", f"The conversion cannot be started: {error}.", reason=repr(error))

    def bring_back(self, result: Ended, tell: Callable[[Ended], None]) -> None:
        """Bring back what an attempt that ran in a copy has made; `tell` hears what came of both."""
        loop = asyncio.get_running_loop()
        if not self.scratch or not self.scratch.ended(result, lambda told: _call(loop, tell, told)):
            tell(result)

    def logs(self, mp: str) -> Executor:
        """Where the logs of conversions below this mount point are written; what is late has failed."""
        return LogWriter(self._mounts[mp].logs)

    async def states(self, wait_s: float) -> list[dict[str, Any]]:
        """How each mount point is, for `get_status`; one that does not answer in time is told as such."""
        asked = {mp: self._probe(each) for mp, each in self._mounts.items() if not each.late}
        if asked:
            await asyncio.wait(asked.values(), timeout=wait_s)
        told = {mp: answer.result() for mp, answer in asked.items() if answer.done()}
        return [told.get(mp) or _unavailable(mp, "it does not answer") for mp in self._mounts]

    def _probe(self, mount: _Mount) -> asyncio.Future[dict[str, Any]]:
        """One look at a time, however many ask: those at one that hangs would fill its threads and the queue."""
        if mount.probe is None or mount.probe.done():
            mount.probe = told = asyncio.get_running_loop().create_future()
            work, refuse = (lambda: _state(mount)), (lambda: _unavailable(mount.mp, "it does not answer"))
            mount.in_time(mount.pool, self._deadline_s, work, refuse, told.set_result)
        return mount.probe

    def watch(self, every_s: float, tell: Callable[[Look], None]) -> None:
        """Look at each mount point so often from now on; `tell` hears each look, in the loop."""
        loop = asyncio.get_running_loop()

        def looked(mount: _Mount, state: dict[str, Any]) -> None:
            if self._watching is not None:
                reason = f"The mount point {mount.mp} cannot be used: {state['reason']}"
                answers = state["state"] == "ok"
                free = state["free_bytes"]
                tell(Look(mount.mp, free, reason.rstrip(".") + ".", mount.minimum, mount.low, answers))

        def answered(mount: _Mount, told: asyncio.Future[dict[str, Any]]) -> None:
            looked(mount, told.result())

        def look() -> None:
            self._watching = loop.call_later(every_s, look)
            for mount in self._mounts.values():
                if mount.late:
                    looked(mount, _unavailable(mount.mp, "it does not answer"))
                else:
                    self._probe(mount).add_done_callback(partial(answered, mount))

        look()

    async def warn(self, wait_s: float) -> None:
        """Log which mount points cannot be used."""
        for state in await self.states(wait_s):
            if state["state"] != "ok":
                _log.warning("a mount point cannot be used; what needs it is unavailable", **state)

    def has(self, mp: str) -> bool:
        """Whether a mount point is configured."""
        return mp in self._mounts

    async def trash(
        self, mp: str | None, before: Place | None, limit: int, wait_s: float
    ) -> tuple[list[tuple[Place, TrashEntry]], bool, list[str]]:
        """The newest entries of the trash (of all mount points, or of one), older than `before`; whether there are
        more; and the mount points that did not answer in time."""
        asked = {
            each.mp: asyncio.wrap_future(each.pool.submit(each.door.trash.page, before, limit))
            for each in self._mounts.values()
            if mp in (None, each.mp) and not each.late
        }
        if asked:
            await asyncio.wait(asked.values(), timeout=wait_s)
        found, more = list[tuple[Place, TrashEntry]](), False
        silent = [each for each in self._mounts if mp in (None, each) and each not in asked]
        for name, answer in asked.items():
            if not answer.done() or answer.exception() is not None:
                silent.append(name)
                continue
            page, page_has_more = answer.result()
            found += [((*listed, name), entry) for listed, entry in page]
            more = more or page_has_more
        found.sort(key=lambda each: each[0], reverse=True)
        return found[:limit], more or len(found) > limit, silent

    def sweep(self, keep_s: float, expired: Callable[[tuple[TrashEntry, ...]], None]) -> None:
        """Sweep the trash of each mount point from now on; `expired` is called in the loop (see `Sweep`)."""
        loop = asyncio.get_running_loop()

        def tell(entries: tuple[TrashEntry, ...]) -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile; the next start finds them again
                loop.call_soon_threadsafe(expired, entries)

        for mount in self._mounts.values():
            mount.sweep = mount.door.sweep(keep_s, tell)
            mount.sweep.start()

    def close(self) -> None:
        """Take no more work. What hangs is not waited for."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        for mount in (self._scripts, *self._mounts.values()):
            if mount.sweep is not None:
                mount.sweep.stop()
            for pool in (mount.pool, mount.seals, mount.logs):
                pool.shutdown(wait=False, cancel_futures=True)
            mount.door.close()


def _call(loop: asyncio.AbstractEventLoop, tell: Callable[[Ended], None], told: Ended) -> None:
    loop.call_soon_threadsafe(tell, told)


def _close_log(opened: Opened) -> None:
    """Of a log that was opened too late: nothing was written to it, so that this waits for no disk."""
    if not isinstance(opened, Fault):
        os.close(opened[2])


def _done(door: Door, order: Order) -> Result:
    passing("mounts.order_taken")
    try:
        return door.carry_out(order)
    except Exception as error:  # noqa: BLE001  a defect of a door must reach who waits
        _log.error("a door failed", mp=order.mp, exc_info=error)
        return Failed("unavailable", f"The mount point {order.mp} failed: {error}.", {"reason": repr(error)})


def _begun(mount: _Mount, order: Order) -> Result:
    """As `_done`, but nothing new is begun where too little is free for it."""
    if mount.minimum and isinstance(order, MakeFolder) and order.marker_name == ACQ_MARKER:
        with suppress(OSError):  # the door says what is wrong with it
            free = mount.door.free_bytes()
            if free is not None and free < mount.minimum:
                message = (
                    f"The mount point {mount.mp} has {free} bytes free; a new acquisition needs {mount.minimum}. "
                    "Make room there and try again."
                )
                return Failed("unavailable", message, {"reason": "space"})
    return _done(mount.door, order)


def _state(mount: _Mount) -> dict[str, Any]:
    result = _done(mount.door, ReachMount(mount.mp))
    if isinstance(result, Failed):
        return _unavailable(mount.mp, result.message)
    try:
        free = mount.door.free_bytes()
    except OSError as error:
        return _unavailable(mount.mp, error.strerror or str(error))
    trash = mount.door.trash.measured
    return {"mp": mount.mp, "state": "ok", "free_bytes": free, "reason": None, "trash": trash}


def _unavailable(mp: str, reason: str) -> dict[str, Any]:
    return {"mp": mp, "state": "unavailable", "free_bytes": None, "reason": reason, "trash": Measured()}
