"""A configuration that a program writes to its standard output.

The program runs below a runner of its own, as a conversion script does (`runner`): what it starts, in whatever
session, ends with it, and it ends with the service. All of it is callbacks of the loop. The end is that of
the runner (its pidfd), never that of a pipe, which something that hangs in the kernel may hold open for ever.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

from storage_protocol.errors import TOO_LARGE, UNAVAILABLE, shown

from ...rules.work import Fault
from ..conversion_start import INHERITED, start_runner
from .interface import DOCUMENT_BYTES

TURN_BYTES = 64 * 1024  # read in one turn of the loop
LAST_TURNS = 16  # turns' worth read at once when all is over: as much as a pipe can hold, 1 MiB
ERRORS_BYTES = 4096  # of the standard error, the last, in which its last line is looked for
GRACE_S = 0.0  # from TERM to KILL: nobody waits for what it still would do
PATIENCE_S = 2.0  # what a cancel waits for processes that hang in the kernel; then they are left to the runner


class ProgramOutput:
    """Runs `argv`, without a shell, for each document; see `Configurations` for what its methods do and raise.

    A program without a slash is looked for along PATH. It is started in `/`, its standard input is empty, and its
    environment is PATH, HOME, LANG and what `fetch` is told. What it leaves running when it ends is killed; so is
    all of it when `fetch` is cancelled, or when it writes too much. An exit code other than 0 is a Fault.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        """Raises ValueError, with a sentence, when there is no program in it."""
        if not argv or not argv[0]:
            raise ValueError("A program's output needs a program to run.")
        self._argv = tuple(argv)
        self._runs: set[_Run] = set()

    @property
    def origin(self) -> str:
        return f"program:{self._argv[0]}"

    async def fetch(self, about: Mapping[str, str]) -> bytes:
        variables = {name: os.environ[name] for name in INHERITED if name in os.environ} | dict(about)
        try:
            run = _Run(self._argv, variables)
        except (OSError, ValueError) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            raise self._fault(f"could not be started: {why}") from error
        self._runs.add(run)
        try:
            await run.over.wait()
        finally:
            await run.end()
            self._runs.discard(run)
        if run.too_large:
            message = f"The program {self._argv[0]} wrote more than {DOCUMENT_BYTES} bytes and was killed."
            raise Fault(TOO_LARGE, message, limit=DOCUMENT_BYTES)
        if run.exit_code:
            raise self._fault(f"{_ending(run.exit_code)}{run.last_error()}")
        if run.exit_code is None:
            raise self._fault(f"could not be run: {run.refusal or 'its runner was ended'}")
        return b"".join(run.blocks)

    async def close(self) -> None:
        """Kill what still runs, and wait until it is gone."""
        for run in list(self._runs):
            await run.end()

    def _fault(self, what: str) -> Fault:
        return Fault(UNAVAILABLE, f"The program {self._argv[0]} {what}.", reason=what)


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with the exit code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by the signal {-code}"


class _Run:
    """A program from its start until nothing of it is left, and then `over` is set.

    blocks     what it wrote; not all of it when it was `too_large`
    exit_code  its own, negative a signal; None when it did not run, and `refusal` says why
    """

    def __init__(self, argv: Sequence[str], variables: dict[str, str]) -> None:
        """Raises OSError or ValueError when no runner can be started for it."""
        self.over = asyncio.Event()
        self.blocks: list[bytes] = []
        self.too_large = False
        self.exit_code: int | None = None
        self.refusal = ""
        self._size = 0
        self._errors = b""
        self._heard = b""
        self._loop = asyncio.get_running_loop()
        with ExitStack() as undo, ExitStack() as theirs:
            ends = []
            for _ in range(2):
                reading, writing = os.pipe()
                undo.callback(os.close, reading)
                theirs.callback(os.close, writing)
                os.set_blocking(reading, False)
                ends.append((reading, writing))
            lock = os.open(os.devnull, os.O_RDONLY)  # there is nothing to find it by after: it has one owner
            theirs.callback(os.close, lock)
            (self._output, output), (self._stderr, errors) = ends
            # The failpoints of conversions are none of its: it gets of the environment what an interpreter needs.
            mine = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
            words = [str(GRACE_S), "0", "/", *argv]
            self._pid, self._pidfd, self._lifeline = start_runner(words, mine, variables, lock, output, errors)
            undo.pop_all()
        self._open = {self._output, self._stderr}
        self._loop.add_reader(self._output, self._read_output)
        self._loop.add_reader(self._stderr, self._read_errors)
        self._loop.add_reader(self._pidfd, self._on_over)

    async def end(self) -> None:
        """Have all of it killed, unless it is over, and wait until nothing is left; at most PATIENCE_S."""
        self._kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self.over.wait()
        # Of what is not over now, runner and keeper see the lifeline's end; the loop reaps the runner when it can.
        self._close()

    def last_error(self) -> str:
        """The last line of its standard error, to stand behind a sentence; empty when there is none."""
        lines = self._errors.decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f": {shown(said[-1], 200)}" if said else ""

    def _kill(self) -> None:
        if not self.over.is_set():
            with suppress(OSError):  # it is gone, and its end is about to be seen
                self._lifeline.send(b"e")

    def _read_output(self) -> bool:
        data = self._read(self._output)
        self._size += len(data)
        if self._size > DOCUMENT_BYTES:
            self.too_large = True
            self._forget(self._output)
            self._kill()
        elif data:
            self.blocks.append(data)
        return bool(data) and not self.too_large

    def _read_errors(self) -> bool:
        data = self._read(self._stderr)
        self._errors = (self._errors + data)[-ERRORS_BYTES:]
        return bool(data)

    def _read(self, fd: int) -> bytes:
        if fd not in self._open:
            return b""
        try:
            data = os.read(fd, TURN_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            self._forget(fd)
        return data

    def _forget(self, fd: int) -> None:
        if fd in self._open:
            self._open.discard(fd)
            self._loop.remove_reader(fd)
            os.close(fd)

    def _on_over(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        os.waitpid(self._pid, 0)
        for read in self._read_output, self._read_errors:
            for _ in range(LAST_TURNS):
                if not read():
                    break
        self._hear()
        self.over.set()
        self._close()

    def _hear(self) -> None:
        """What the keeper has told: it is little, and waits in the lifeline until the end."""
        with suppress(OSError):
            while data := self._lifeline.recv(4096):
                self._heard += data
        for line in self._heard.decode().splitlines():
            match line.split():
                case ["over", code, _]:
                    self.exit_code = int(code)
                case ["refused", number]:
                    self.refusal = os.strerror(int(number))

    def _close(self) -> None:
        for fd in list(self._open):
            self._forget(fd)
        self._lifeline.close()
