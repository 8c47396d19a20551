"""The mount points of this host, each with a bounded pool of threads: one that hangs keeps no other waiting.

An order that is not done after `DEADLINE_S` is told as `unavailable`, though its thread may still hang in the
kernel. Until every such order came back, the mount point is given nothing more: what is late can then never undo
what is newer. Seals, which sync data, may take as long as they need and have threads of their own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import structlog

from storage_protocol.records import TrashEntry

from .doors.folders import FolderMount, runnable_script
from .doors.trash import Measured, Place, Trash
from .doors.trash_sweep import Sweep
from .rules.work import Failed, Fault, Order, ReachMount, Result, RunScript, WriteMarker

THREADS = 4
SEAL_THREADS = 2
DEADLINE_S = 10.0

_log = structlog.get_logger("storage_service")

Tell = Callable[[Result], None]


class Door(Protocol):
    """What a mount point can do; every fault of the outside is a `Failed`, or a `Fault` that is raised."""

    def carry_out(self, order: Order) -> Result: ...

    def open_log(self, path: tuple[str, ...], name: str) -> int: ...

    def local_path(self, path: tuple[str, ...]) -> Path: ...

    @property
    def trash(self) -> Trash: ...


class _Mount:
    """One mount point: its door, its threads, and the orders that are late."""

    def __init__(self, mp: str, door: Door) -> None:
        self.mp = mp
        self.door = door
        self.pool = ThreadPoolExecutor(THREADS, f"mount {mp}")
        self.seals = ThreadPoolExecutor(SEAL_THREADS, f"seals {mp}")
        self.late: set[object] = set()
        self.sweep: Sweep | None = None


class Mounts:
    """Hands orders to the door of their mount point. Used by the loop's thread; `tell` is called there."""

    def __init__(
        self,
        roots: Mapping[str, Path],
        scripts_dir: Path,
        door: Callable[[str, Path, Path], Door] = FolderMount,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._deadline_s = deadline_s
        self._scripts_dir = scripts_dir
        self._mounts = {mp: _Mount(mp, door(mp, root, scripts_dir)) for mp, root in roots.items()}

    def carry_out(self, order: Order, tell: Tell) -> None:
        """Do what the order says; `tell` hears what came of it, in time or as `unavailable`."""
        mount = self._mounts.get(order.mp)
        if mount is None:
            tell(_not_configured(order))
        elif isinstance(order, WriteMarker) and order.sync_data:
            loop = asyncio.get_running_loop()
            mount.seals.submit(lambda: loop.call_soon_threadsafe(tell, _done(mount.door, order)))
        elif mount.late:
            tell(_does_not_answer(mount.mp))
        else:
            self._in_time(mount, order, tell)

    def _in_time(self, mount: _Mount, order: Order, tell: Tell) -> None:
        loop, told = asyncio.get_running_loop(), False
        this = object()

        def overdue() -> None:
            nonlocal told
            told = True
            if not mount.late:
                _log.error("a mount point does not answer", mp=mount.mp, after_s=self._deadline_s)
            mount.late.add(this)
            tell(_does_not_answer(mount.mp))

        def finished(result: Result) -> None:
            timer.cancel()
            if not told:
                tell(result)
                return
            mount.late.discard(this)
            if not mount.late:
                _log.info("a mount point answers again", mp=mount.mp)

        def work() -> None:
            # What was told as failed while it waited for a thread is not begun any more.
            result = _does_not_answer(mount.mp) if told else _done(mount.door, order)
            loop.call_soon_threadsafe(finished, result)

        timer = loop.call_later(self._deadline_s, overdue)
        mount.pool.submit(work)

    def open_script(self, order: RunScript, tell: Callable[[tuple[Path, Path, int] | Fault], None]) -> None:
        """The script, the folder and the open log of a conversion; or why there are none."""
        mount = self._mounts.get(order.mp)
        if mount is None:
            tell(Fault("unavailable", f"The mount point {order.mp} is not configured any more.", reason="mount"))
            return
        loop, door = asyncio.get_running_loop(), mount.door

        def work() -> None:
            opened: tuple[Path, Path, int] | Fault
            try:
                script = runnable_script(self._scripts_dir, order.script)
                opened = script, door.local_path(order.path), door.open_log(order.path, order.log_name)
            except Fault as fault:
                opened = fault
            except Exception as error:  # noqa: BLE001  a defect of a door must reach who waits
                opened = Fault("unavailable", f"The conversion cannot be started: {error}.", reason=repr(error))
            loop.call_soon_threadsafe(tell, opened)

        mount.pool.submit(work)

    def pool(self, mp: str) -> Executor:
        """Where files below this mount point are written."""
        return self._mounts[mp].pool

    async def states(self, wait_s: float) -> list[dict[str, Any]]:
        """How each mount point is, for `get_status`; one that does not answer in time is told as such."""
        asked = {
            mp: asyncio.wrap_future(each.pool.submit(_state, each))
            for mp, each in self._mounts.items()
            if not each.late
        }
        if asked:
            await asyncio.wait(asked.values(), timeout=wait_s)
        told = {mp: answer.result() for mp, answer in asked.items() if answer.done()}
        return [told.get(mp) or _unavailable(mp, "it does not answer") for mp in self._mounts]

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
            mount.sweep = Sweep(mount.door.trash, mount.mp, keep_s, tell)
            mount.sweep.start()

    def close(self) -> None:
        """Take no more work. What hangs is not waited for."""
        for mount in self._mounts.values():
            if mount.sweep is not None:
                mount.sweep.stop()
            for pool in (mount.pool, mount.seals):
                pool.shutdown(wait=False, cancel_futures=True)


def _done(door: Door, order: Order) -> Result:
    try:
        return door.carry_out(order)
    except Exception as error:  # noqa: BLE001  a defect of a door must reach who waits
        _log.error("a door failed", mp=order.mp, exc_info=error)
        return Failed("unavailable", f"The mount point {order.mp} failed: {error}.", {"reason": repr(error)})


def _does_not_answer(mp: str) -> Failed:
    message = f"The mount point {mp} does not answer; try again when it does."
    return Failed("unavailable", message, {"reason": "no answer"})


def _not_configured(order: Order) -> Failed:
    if isinstance(order, ReachMount):
        message = f"The mount point {order.mp!r} is not configured; the service's [mounts] must name it."
        return Failed("not_found", message, {"what": "mount", "id": order.mp})
    message = f"The mount point {order.mp!r} is not configured any more; nothing can be done there until it is."
    return Failed("unavailable", message, {"reason": "mount point not configured"})


def _state(mount: _Mount) -> dict[str, Any]:
    result = _done(mount.door, ReachMount(mount.mp))
    if isinstance(result, Failed):
        return _unavailable(mount.mp, result.message)
    try:
        disk = os.statvfs(mount.door.local_path(()))
    except OSError as error:
        return _unavailable(mount.mp, error.strerror or str(error))
    free = disk.f_bavail * disk.f_frsize
    trash = mount.door.trash.measured
    return {"mp": mount.mp, "state": "ok", "free_bytes": free, "reason": None, "trash": trash}


def _unavailable(mp: str, reason: str) -> dict[str, Any]:
    return {"mp": mp, "state": "unavailable", "free_bytes": None, "reason": reason, "trash": Measured()}
