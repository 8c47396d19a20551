"""One attempt of a conversion: a script's process, from its start until nothing of it is left.

    running -> ending (TERM, after the grace KILL) -> nothing is left -> log synced -> Ended
                 ^ the script is over, or it is to be ended

All of it is callbacks on the loop's thread, each a bounded piece of work: 64 KiB of output read, 64 processes
looked at. A script's end is its pidfd's, never its pipe's, which a grandchild may hold open for ever. It is
reaped last: while it is a zombie, its pid, process group and session cannot come to mean another process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from pathlib import Path

import structlog
from msgspec import Struct, field

from storage_service.doors.conversion_output import Log, ProgressLines
from storage_service.doors.process_group import TOKEN, Process, descendants, look, scan, send
from storage_service.rules.work import Ended, RunScript

logger = structlog.get_logger(__name__)

INHERITED = ("PATH", "HOME", "LANG")
TURN_BYTES = 64 * 1024  # read from one script in one turn of the loop
LAST_TURNS = 16  # turns' worth read at once when a script is over: as much as a pipe can hold, 1 MiB
PROGRESS_EVERY_S = 1.0
SWEEP_EVERY_S = (0.01, 0.25)  # between two looks at what is left: the first pause, doubled up to the last
STUCK_AFTER_S = 5.0  # after KILL, what is still there hangs in the kernel: worth a line in the service's log


class Settings(Struct, frozen=True):
    """How scripts are run.

    timeout_s  seconds until a script is ended
    grace_s    seconds from TERM to KILL
    log_bytes  how much of its output is kept
    env        what every script finds in its environment
    """

    timeout_s: float
    grace_s: float
    log_bytes: int
    env: dict[str, str] = field(default_factory=dict)


class Started(Struct, frozen=True):
    """A script's process, itself as leader of its session, its pidfd, and the reading end of its output."""

    process: subprocess.Popen[bytes]
    leader: Process
    pidfd: int
    pipe: int


def spawn(order: RunScript, script: Path, folder: Path, env: dict[str, str]) -> Started:
    """Start the script without a shell, in a session and process group of its own.

    Raises OSError, ValueError (a NUL in a word) or subprocess.SubprocessError when it cannot be started; then
    nothing of it is left.
    """
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= env | order.env | {TOKEN: _token(order)}
    with ExitStack() as undo:
        pipe, writing = os.pipe()
        undo.callback(os.close, pipe)
        os.set_blocking(pipe, False)
        try:
            process = subprocess.Popen(
                [script.absolute(), *order.argv],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        finally:
            os.close(writing)
        undo.callback(process.wait)
        undo.callback(os.killpg, process.pid, signal.SIGKILL)
        leader = look(process.pid)
        if leader is None:
            raise OSError("its process is not to be seen in /proc")
        started = Started(process, leader, os.pidfd_open(process.pid), pipe)
        undo.pop_all()
        return started


class Attempt:
    """A started script. It owns what `started` and `log_fd` hold; at its end it calls `on_over`, once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        order: RunScript,
        started: Started,
        log_fd: int,
        write: Executor,
        on_progress: Callable[[str, float], None],
        on_over: Callable[[Ended], None],
    ) -> None:
        self.progress: float | None = None
        self._loop = loop
        self._grace_s = settings.grace_s
        self._order = order
        self._process = started.process
        self._group = started.process.pid
        self._mine = descendants(started.leader, _token(order))
        self._pidfd = started.pidfd
        self._pipe: int | None = started.pipe  # None once closed
        self._log = Log(loop, log_fd, settings.log_bytes, write, self._read_on)
        self._lines = ProgressLines()
        self._on_progress = on_progress
        self._on_over = on_over

        self._how = "exited"
        self._reason = ""
        self._exit_code: int | None = None
        self._script_is_over = False
        self._nothing_left = False
        self._told = False
        self._kill_at: float | None = None  # on the loop's clock; set once TERM was sent
        self._asked: set[tuple[int, int]] = set()  # (pid, started) of those outside the group that had their TERM
        self._left: list[Process] = []  # what the present sweep has found
        self._pause_s = SWEEP_EVERY_S[0]
        self._stuck_told = False
        self._progress_at = float("-inf")  # when it was last told, on the loop's clock
        self._progress_handle: asyncio.Handle | None = None

        too_long = f"timed out: it ran longer than {settings.timeout_s:g} s"
        self._next: asyncio.Handle = loop.call_later(settings.timeout_s, self.end, "timed_out", too_long)
        loop.add_reader(self._pidfd, self._on_script_over)
        self._read_on()

    def end(self, how: str, reason: str) -> None:
        """End it, for this reason, unless it is over by itself or being ended already."""
        if self._kill_at is None and not self._has_exited():
            self._how, self._reason = how, reason
            self._begin_ending()

    def give_up(self) -> None:
        """Tell its end now, with something of it left or its log not synced; the log is closed when it can be."""
        if self._told:
            return
        what = "its log could not be synced" if self._nothing_left else "processes of it could not be ended"
        self._reason = f"{self._reason or 'the service was stopped'}, and {what} in time"
        if self._how == "exited":  # as good as never told: it is to run again
            self._how = "interrupted"
        if not self._nothing_left:
            self._release()
            self._process.poll()
            self._log.close(lambda: None)
        self._tell()

    # Output

    def _read_on(self) -> None:
        if self._pipe is not None:
            self._loop.add_reader(self._pipe, self._read)

    def _read(self) -> bool:
        """Read one turn's worth; False when there is no more for now."""
        if self._pipe is None:
            return False
        try:
            data = os.read(self._pipe, TURN_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close_pipe()
            return False
        self._log.add(data)
        self._see_progress(data)
        if not self._log.has_room:
            self._loop.remove_reader(self._pipe)  # until the log calls `_read_on`
        return True

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = None

    def _see_progress(self, data: bytes) -> None:
        value = self._lines.feed(data)
        if value is None:
            return
        self.progress = value
        if self._progress_handle is None:
            wait_s = self._progress_at + PROGRESS_EVERY_S - self._loop.time()
            if wait_s > 0:
                self._progress_handle = self._loop.call_later(wait_s, self._tell_progress)
            else:
                self._progress_handle = self._loop.call_soon(self._tell_progress)

    def _tell_progress(self) -> None:
        self._progress_handle = None
        self._progress_at = self._loop.time()
        if self.progress is not None:
            self._on_progress(self._order.conversion_id, self.progress)

    # Ending

    def _has_exited(self) -> bool:
        if self._script_is_over:
            return True
        try:
            return os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _on_script_over(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._script_is_over = True
        for _ in range(LAST_TURNS):
            if not self._read():
                break
        self._close_pipe()
        self._see_progress(b"\n")  # its last line may lack the end
        if self._kill_at is None:
            self._begin_ending()

    def _begin_ending(self) -> None:
        self._next.cancel()
        self._kill_at = self._loop.time() + self._grace_s
        self._signal_group(signal.SIGTERM)
        self._sweep()

    def _sweep(self) -> None:
        """Look for what is left, in steps, and signal it."""
        if self._is_time_to_kill():
            self._signal_group(signal.SIGKILL)
        self._left = []
        self._sweep_on(scan(self._mine))

    def _sweep_on(self, parts: Iterator[list[Process]]) -> None:
        try:
            part = next(parts, None)
        except OSError:  # /proc could not be read: that does not mean that nothing is left
            self._sweep_again()
            return
        if part is not None:
            self._left += part
            self._signal_outsiders(part)
            self._next = self._loop.call_soon(self._sweep_on, parts)
        elif self._left or not self._script_is_over:
            self._sweep_again()
        else:
            self._all_gone()

    def _sweep_again(self) -> None:
        until_kill_s = (self._kill_at or 0) - self._loop.time()
        if until_kill_s < -STUCK_AFTER_S and not self._stuck_told:
            self._stuck_told = True
            pids = [process.pid for process in self._left]
            logger.warning("conversion_cannot_be_ended", conversion_id=self._order.conversion_id, pids=pids)
        pause_s = min(self._pause_s, until_kill_s) if until_kill_s > 0 else self._pause_s
        self._pause_s = min(2 * self._pause_s, SWEEP_EVERY_S[1])
        self._next = self._loop.call_later(pause_s, self._sweep)

    def _is_time_to_kill(self) -> bool:
        return self._kill_at is not None and self._loop.time() >= self._kill_at

    def _signal_group(self, number: int) -> None:
        # Safe by number, and at once for all of it, those just forked included: its leader is not reaped yet.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, number)

    def _signal_outsiders(self, part: list[Process]) -> None:
        for process in part:
            identity = process.pid, process.started
            if process.group == self._group:
                continue
            if self._is_time_to_kill():
                send(process, signal.SIGKILL)
            elif identity not in self._asked:
                self._asked.add(identity)
                send(process, signal.SIGTERM)

    def _all_gone(self) -> None:
        self._nothing_left = True
        self._release()
        self._reap()
        self._log.close(self._on_log_closed)

    def _release(self) -> None:
        self._next.cancel()
        self._close_pipe()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)

    def _reap(self) -> None:
        # Not by Popen.wait, which calls it 0 when somebody else has reaped it.
        try:
            _, status = os.waitpid(self._process.pid, 0)
        except ChildProcessError:
            self._process.returncode = -1
            self._reason = self._reason or "its exit code is not known: another has waited for its process"
        else:
            self._exit_code = self._process.returncode = os.waitstatus_to_exitcode(status)

    def _on_log_closed(self) -> None:
        if self._how == "exited" and self._exit_code == 0:
            self._reason = self._log.fault
        self._tell()

    def _tell(self) -> None:
        if self._told:
            return
        self._told = True
        if self._progress_handle is not None:
            self._progress_handle.cancel()
        order = self._order
        ended = Ended(order.conversion_id, order.attempt, self._how, self._exit_code, self.progress, self._reason)
        self._on_over(ended)


def _token(order: RunScript) -> str:
    return f"{order.conversion_id}:{order.attempt}"
