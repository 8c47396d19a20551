"""One attempt of a conversion, from its runner's start until nothing of it is left.

    running -> ending (TERM, after the grace KILL: the runner's work) -> nothing is left, log synced -> Ended
                 ^ the script is over, or it is to be ended

All of it is callbacks on the loop's thread, each a bounded piece of work: 64 KiB of output read, a line heard. How
the script ended is what the keeper says on the lifeline; the attempt's end is that of runner and keeper (the
pidfd, and the end of the lifeline that both hold), never that of the output's pipe, which a grandchild may hold
open for ever. The lock says then whether something is left after all, and that is looked for and ended.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from storage_service.doors.conversion_lock import Locks
from storage_service.doors.conversion_output import Log, ProgressLines
from storage_service.doors.conversion_start import Settings, Started
from storage_service.doors.process_group import end_leftovers
from storage_service.doors.runner import GONE_GRACE_S, ITSELF, LEFT
from storage_service.failpoints import passing
from storage_service.rules.work import Ended, RunScript

logger = structlog.get_logger(__name__)

TURN_BYTES = 64 * 1024  # read from one script in one turn of the loop
LAST_TURNS = 16  # turns' worth read at once when a script is over: as much as a pipe can hold, 1 MiB
PROGRESS_EVERY_S = 1.0
LATE_AFTER_S = 5.0  # what a runner may take beyond the grace before its work is done for it
SWEEP_EVERY_S = (0.01, 0.25)  # between two looks at what is left: the first pause, doubled up to the last


class Place(NamedTuple):
    """Where attempts run: all that they share. `sweeps` has threads for looking at all processes."""

    loop: asyncio.AbstractEventLoop
    settings: Settings
    locks: Locks
    sweeps: Executor


class Attempt:
    """A started script. It owns what `started` and `log_fd` hold; at its end it calls `on_over`, once."""

    def __init__(
        self,
        place: Place,
        order: RunScript,
        started: Started,
        log_fd: int,
        write: Executor,
        on_progress: Callable[[str, float], None],
        on_over: Callable[[Ended], None],
    ) -> None:
        self.progress: float | None = None
        self._loop = place.loop
        self._settings = place.settings
        self._locks = place.locks
        self._sweeps = place.sweeps
        self._order = order
        self._folder = started.folder
        self._pid = started.pid
        self._pidfd: int | None = started.pidfd  # None once its end was seen
        self._lifeline: socket.socket | None = started.lifeline  # None once at its end
        self._pipe: int | None = started.pipe  # None once closed
        self._log = Log(place.loop, log_fd, place.settings.log_bytes, write, self._read_on)
        self._lines = ProgressLines()
        self._on_progress = on_progress
        self._on_over = on_over

        self._asked: tuple[str, str] | None = None  # how and why it is to end
        self._heard = b""  # the unfinished line of the lifeline
        self._refusal = ""
        self._runner_code = 0
        self._exit_code: int | None = None
        self._why = ITSELF
        self._script_is_over = False
        self._is_clear = False
        self._sweeping = False
        self._nothing_left = False
        self._log_is_ending = False
        self._log_is_synced = False
        self._told = False
        self._pause_s = SWEEP_EVERY_S[0]
        self._stuck_told = False
        self._progress_at = float("-inf")  # when it was last told, on the loop's clock
        self._progress_handle: asyncio.Handle | None = None

        too_long = f"timed out: it ran longer than {self._settings.timeout_s:g} s"
        self._next: asyncio.Handle = self._loop.call_later(
            self._settings.timeout_s, self.end, "timed_out", too_long
        )
        self._loop.add_reader(started.pidfd, self._on_runner_over)
        self._loop.add_reader(started.lifeline, self._hear)
        self._read_on()

    def end(self, how: str, reason: str) -> None:
        """End it, for this reason, unless it is over by itself or being ended already."""
        self._hear()
        if self._asked is not None or self._script_is_over or self._lifeline is None:
            return
        self._asked = how, reason
        with suppress(OSError):  # nobody is there: its end is about to be seen
            self._lifeline.send(b"e")
        self._be_patient()

    def give_up(self) -> None:
        """Tell its end now, with something of it left or its log not synced; the log is closed when it can be."""
        if self._told:
            return
        what = "its log could not be synced" if self._nothing_left else "processes of it could not be ended"
        ended = self._ended()
        # One that ended by itself is as good as never told: it is to run again.
        how = "interrupted" if ended.how == "exited" else ended.how
        reason = f"{ended.reason or 'the service was stopped'}, and {what} in time"
        if not self._nothing_left:
            self._release()
            self._end_log()
        self._tell(replace(ended, how=how, reason=reason))

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

    # What the runner says

    def _hear(self) -> None:
        while self._lifeline is not None:
            try:
                data = self._lifeline.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            *lines, self._heard = (self._heard + data).split(b"\n")
            for line in lines:
                self._on_line(line.decode().split())
            if not data:
                self._close_lifeline()
                self._look()

    def _on_line(self, words: list[str]) -> None:
        match words:
            case ["over", code, why]:
                self._exit_code, self._why = int(code), int(why)
            case ["refused", number]:
                self._refusal = self._why_not(os.strerror(int(number)))
            case ["no_namespace", number]:
                why_not = f"no PID namespace is granted any more: {os.strerror(int(number))}"
                self._refusal = self._why_not(why_not)
            case ["clear"]:
                self._is_clear = True
                return
        if not self._script_is_over:
            self._script_is_over = True
            self._read_the_rest()
            self._end_log()  # while runner and keeper end: a sync takes as long as they do
            if self._asked is None:
                self._be_patient()

    def _why_not(self, what: str) -> str:
        return f"the script {self._order.script} could not be started in {self._folder}: {what}"

    def _read_the_rest(self) -> None:
        for _ in range(LAST_TURNS):
            if not self._read():
                break
        self._close_pipe()
        self._see_progress(b"\n")  # its last line may lack the end

    def _be_patient(self) -> None:
        self._next.cancel()
        self._next = self._loop.call_later(self._settings.grace_s + LATE_AFTER_S, self._on_late)

    def _on_late(self) -> None:
        """The runner does not end it: it was stopped, or hangs. Done for it, from here."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._sweep(0.0)

    # Its end

    def _on_runner_over(self) -> None:
        if self._pidfd is None:
            return
        self._close_pidfd()
        with suppress(ChildProcessError):  # another has waited for it
            _, status = os.waitpid(self._pid, 0)
            self._runner_code = os.waitstatus_to_exitcode(status)
        self._look()

    def _look(self) -> None:
        """Runner and keeper may both be gone: is anything left?"""
        if self._pidfd is not None or self._lifeline is not None or self._sweeping or self._nothing_left:
            return
        if self._is_clear and self._locks.is_free(self._order.conversion_id):
            self._all_gone()
        else:
            self._sweep(min(self._settings.grace_s, GONE_GRACE_S))

    def _sweep(self, grace_s: float) -> None:
        if self._sweeping or self._nothing_left or self._told:
            return
        self._sweeping = True
        self._next.cancel()
        id = self._order.conversion_id
        locks = [str(self._locks.path(id))]
        future = self._loop.run_in_executor(self._sweeps, end_leftovers, [id], grace_s, locks)
        future.add_done_callback(self._swept)

    def _swept(self, future: asyncio.Future[int]) -> None:
        self._sweeping = False
        # That /proc could not be read does not mean that nothing is left.
        was_read = not future.cancelled() and future.exception() is None
        if self._told:
            return
        both_gone = self._pidfd is None and self._lifeline is None
        if was_read and both_gone and self._locks.is_free(self._order.conversion_id):
            self._all_gone()
            return
        if not self._stuck_told and self._pause_s == SWEEP_EVERY_S[1]:
            self._stuck_told = True
            logger.warning("conversion_cannot_be_ended", conversion_id=self._order.conversion_id)
        self._next = self._loop.call_later(self._pause_s, self._sweep, 0.0)
        self._pause_s = min(2 * self._pause_s, SWEEP_EVERY_S[1])

    def _all_gone(self) -> None:
        passing("conversion.clear")
        self._nothing_left = True
        self._read_the_rest()
        self._release()
        self._end_log()
        self._tell_if_over()

    def _end_log(self) -> None:
        """Nothing more comes: the pipe is closed."""
        if not self._log_is_ending:
            self._log_is_ending = True
            self._log.close(self._on_log_closed)

    def _release(self) -> None:
        self._next.cancel()
        self._close_pipe()
        self._close_lifeline()
        if self._pidfd is not None:
            self._close_pidfd()
            with suppress(ChildProcessError):
                os.waitpid(self._pid, os.WNOHANG)

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            self._loop.remove_reader(self._lifeline)
            self._lifeline.close()
            self._lifeline = None

    def _close_pidfd(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _ended(self) -> Ended:
        """What came of it, as far as it is known."""
        asked = self._asked
        if self._refusal:
            how, reason = "not_started", self._refusal
        elif self._exit_code is None and self._runner_code > 0 and asked is None:
            how = "not_started"
            reason = self._why_not(f"its runner ended with exit code {self._runner_code}, and its log says why")
        elif self._exit_code is None:
            how, reason = asked or ("interrupted", "its runner was killed")
        elif self._why == ITSELF:
            how, reason = "exited", ""
        elif self._why == LEFT:
            how, reason = asked or ("interrupted", "its runner was ended")
        else:
            how, reason = asked or ("interrupted", "")
        order = self._order
        return Ended(order.conversion_id, order.attempt, how, self._exit_code, self.progress, reason)

    def _on_log_closed(self) -> None:
        passing("conversion.log_synced")
        self._log_is_synced = True
        self._tell_if_over()

    def _tell_if_over(self) -> None:
        if not (self._nothing_left and self._log_is_synced):
            return
        ended = self._ended()
        if ended.how == "exited" and ended.exit_code == 0:
            ended = replace(ended, reason=self._log.fault)
        self._tell(ended)

    def _tell(self, ended: Ended) -> None:
        if self._told:
            return
        self._told = True
        if self._progress_handle is not None:
            self._progress_handle.cancel()
        self._on_over(ended)
