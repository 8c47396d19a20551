"""The mount points of this host, each with a bounded pool of threads: a slow one keeps no other waiting."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from .doors.folders import FolderMount, runnable_script
from .rules.work import Done, Failed, Fault, Order, ReachMount, Result, RunScript, Taken

THREADS_A_MOUNT = 4


class Mounts:
    """Hands orders to the door of their mount point. `tell` is called from a thread, with what came of it."""

    def __init__(self, roots: Mapping[str, Path], scripts_dir: Path) -> None:
        self._scripts_dir = scripts_dir
        self._doors = {mp: FolderMount(mp, root, scripts_dir) for mp, root in roots.items()}
        self._pools = {mp: ThreadPoolExecutor(THREADS_A_MOUNT, f"mount {mp}") for mp in roots}

    def carry_out(self, order: Order, tell: Callable[[Result], None]) -> None:
        door = self._doors.get(order.mp)
        if door is None:
            tell(_not_configured(order))
            return

        def work() -> None:
            try:
                result = door.carry_out(order)
            except Exception as error:  # noqa: BLE001  a defect of a door must reach who waits
                result = Failed(
                    "unavailable", f"The mount point {order.mp} failed: {error}.", {"reason": repr(error)}
                )
            tell(result)

        self._pools[order.mp].submit(work)

    def open_script(self, order: RunScript, tell: Callable[[tuple[Path, Path, int] | Fault], None]) -> None:
        """The script, the folder and the open log of a conversion; or why there are none."""
        door = self._doors.get(order.mp)
        if door is None:
            tell(Fault("unavailable", f"The mount point {order.mp} is not configured any more.", reason="mount"))
            return

        def work() -> None:
            try:
                script = runnable_script(self._scripts_dir, order.script)
                tell((script, door.local_path(order.path), door.open_log(order.path, order.log_name)))
            except Fault as fault:
                tell(fault)
            except Exception as error:  # noqa: BLE001  as above
                tell(Fault("unavailable", f"The conversion cannot be started: {error}.", reason=repr(error)))

        self._pools[order.mp].submit(work)

    def pool(self, mp: str) -> Executor:
        """Where files below this mount point are written."""
        return self._pools[mp]

    def states(self, tell: Callable[[dict[str, Any]], None]) -> int:
        """Ask each mount point how it is, for `get_status`; returns how many answers will come."""
        for mp, door in self._doors.items():
            self._pools[mp].submit(partial(_tell_state, mp, door, tell))
        return len(self._doors)

    def unanswered(self, mp: str) -> dict[str, Any]:
        return {"mp": mp, "state": "unavailable", "free_bytes": None, "reason": "it does not answer"}

    def names(self) -> list[str]:
        return list(self._doors)

    def close(self) -> None:
        """Take no more work. What hangs is not waited for."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


def _not_configured(order: Order) -> Done | Taken | Failed:
    if isinstance(order, ReachMount):
        message = f"The mount point {order.mp!r} is not configured; the service's [mounts] must name it."
        return Failed("not_found", message, {"what": "mount", "id": order.mp})
    message = f"The mount point {order.mp!r} is not configured any more; nothing can be done there until it is."
    return Failed("unavailable", message, {"reason": "mount point not configured"})


def _tell_state(mp: str, door: FolderMount, tell: Callable[[dict[str, Any]], None]) -> None:
    tell(_state(mp, door))


def _state(mp: str, door: FolderMount) -> dict[str, Any]:
    result = door.carry_out(ReachMount(mp))
    if isinstance(result, Failed):
        return {"mp": mp, "state": "unavailable", "free_bytes": None, "reason": result.message}
    try:
        disk = os.statvfs(door.local_path(()))
    except OSError as error:
        return {"mp": mp, "state": "unavailable", "free_bytes": None, "reason": error.strerror}
    return {"mp": mp, "state": "ok", "free_bytes": disk.f_bavail * disk.f_frsize, "reason": None}
