"""Which processes are left of a conversion whose runner is gone, and how they are ended: Linux only.

Whatever a script starts inherits the run token in its environment and the lock file of its conversion, and is
found by either. A number in /proc may be another process a moment later, so nothing is signalled by its pid
alone: see `send`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import NamedTuple

TOKEN = "STORAGE_CONVERSION_TOKEN"  # noqa: S105 - the name of a variable; its value is no secret

SLICE = 64  # processes looked at in one step of a scan, about a millisecond
ROUNDS = 8  # listings of one scan: each looks at what was forked while the one before was read
PATIENCE_S = 5.0  # how long after KILL a start-up waits for what does not die (it hangs in the kernel)


class Process(NamedTuple):
    """A process as /proc showed it.

    parent, group, session are pids; `started` (clock ticks since the boot) tells it from a later process that was
    given the same pid. `alive` is false for one that is over and was not reaped yet.
    """

    pid: int
    parent: int
    group: int
    session: int
    started: int
    alive: bool


def look(pid: int) -> Process | None:
    """The process as it is now; None when there is none or it is not ours to see.

    Raises OSError when /proc cannot be read for another reason (no descriptor free): that never means "gone".
    """
    stat = _read(pid, "stat")
    if not stat:
        return None
    # The name before the last parenthesis is free text; what follows is field 3 and on of proc_pid_stat(5).
    fields = stat[stat.rindex(b")") + 2 :].split()
    # Of a process whose first thread is over while others run the state is Z too: then there is more than one.
    alive = fields[0] not in (b"Z", b"X") or int(fields[17]) > 1
    return Process(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), alive)


def token_of(pid: int) -> str:
    """The run token in the environment that the process began with; "" when it has none. Raises as `look`."""
    prefix = f"{TOKEN}=".encode()
    for entry in (_read(pid, "environ") or b"").split(b"\0"):
        if entry.startswith(prefix):
            return os.fsdecode(entry[len(prefix) :])
    return ""


def scan(mine: Callable[[Process], bool]) -> Iterator[list[Process]]:
    """Look at every process, `SLICE` a step, and yield those alive that are `mine`. Raises as `look`.

    What forks and ends during the scan does not slip through: new pids are listed and looked at in turn.
    """
    seen: set[int] = set()
    for _ in range(ROUNDS):
        fresh = [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if pid not in seen]
        if not fresh:
            return
        seen.update(fresh)
        for at in range(0, len(fresh), SLICE):
            looked = (look(pid) for pid in fresh[at : at + SLICE])
            yield [process for process in looked if process and process.alive and mine(process)]


def holds(pid: int, files: Collection[str]) -> bool:
    """Whether the process has one of these files open, by absolute path. Raises as `look`."""
    folder = f"/proc/{pid}/fd"
    try:
        fds = os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    # The link says enough: to look at the file itself would hang where its mount does.
    for fd in fds:
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if os.readlink(f"{folder}/{fd}") in files:
                return True
    return False


def send(process: Process, number: int) -> None:
    """Signal this very process, or nothing: what has its pid by now is looked at again under a pidfd.

    A pidfd pins a process, and the start time says that the pinned one is the one that was scanned. A process
    that is gone, or that we may not signal, is passed over.
    """
    with suppress(OSError):
        pidfd = os.pidfd_open(process.pid)
        try:
            again = look(process.pid)
            if again and again.started == process.started:
                signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def end_leftovers(conversion_ids: Collection[str], grace_s: float, locks: Collection[str] = ()) -> int:
    """End what is left running of these conversions, of a runner or a service that was killed. For a thread.

    Every process with a run token of one of them, every one that has a file of `locks` open (absolute paths), and
    every process of their process groups gets TERM and, `grace_s` seconds later, KILL, until a scan finds none;
    `PATIENCE_S` after the KILL it gives up. This process, those above it and the process groups they are in are
    left alone, but for members that are found themselves. Returns how many processes were ended. Raises OSError
    when /proc cannot be read.
    """
    wanted, files = frozenset(conversion_ids), frozenset(locks)
    spared = _lineage()
    spared_pids = {process.pid for process in spared}
    spared_groups = {process.group for process in spared} | {0}  # 0: a group from outside this PID namespace
    kill_at = time.monotonic() + grace_s
    met: set[tuple[int, int]] = set()  # (pid, started) of all that were ever found: they stay found
    asked: set[tuple[int, int]] = set()

    def is_of_them(process: Process) -> bool:
        if token_of(process.pid).rpartition(":")[0] in wanted:
            return True
        return bool(files) and holds(process.pid, files)

    pause_s = 0.01
    while wanted or files:
        alive = [process for part in scan(lambda process: process.pid not in spared_pids) for process in part]
        found = {process for process in alive if _identity(process) in met or is_of_them(process)}
        groups = {process.group for process in found} - spared_groups
        left = [process for process in alive if process in found or process.group in groups]
        met.update(map(_identity, left))
        now = time.monotonic()
        if not left or now > kill_at + PATIENCE_S:
            return len(met) - len(left)
        for process in left:
            if now >= kill_at:
                send(process, signal.SIGKILL)
            elif _identity(process) not in asked:
                asked.add(_identity(process))
                send(process, signal.SIGTERM)
        time.sleep(min(pause_s, max(kill_at - now, 0.01)))
        pause_s = min(2 * pause_s, 0.25)
    return 0


def _identity(process: Process) -> tuple[int, int]:
    return process.pid, process.started


def _lineage() -> list[Process]:
    """This process and those above it."""
    lineage = []
    pid = os.getpid()
    while pid and (process := look(pid)):
        lineage.append(process)
        pid = process.parent
    return lineage


def _read(pid: int, name: str) -> bytes | None:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
