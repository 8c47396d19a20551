"""Starting the programs that are measured, and ending them whatever happens."""

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

END_S = 15  # after SIGTERM; then SIGKILL
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None)


class StartError(Exception):
    """A program that is to be measured does not run as it should; the message says which and why."""


def end_with_parent() -> None:
    """Called in a new process: have it killed when the bench itself is killed and can clean up nothing."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def program(module: str, *words: str, log: Path, asked: bool = False) -> Iterator[subprocess.Popen[str]]:
    """`python -m module words...`, as `started` has it. Raises StartError when it cannot be started."""
    with started([sys.executable, "-m", module, *words], log, asked) as process:
        yield process


@contextmanager
def started(words: list[str], log: Path, asked: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process, its standard output a pipe, its standard error in the file `log`.

    Where it is `asked` something, its standard input is a pipe, too. It is ended when the block is left. Settings
    of the service in the bench's own environment do not reach it.

    Raises StartError when it cannot be started.
    """
    environment = {name: text for name, text in os.environ.items() if not name.startswith("STORAGE_SERVICE__")}
    with log.open("w") as errors:
        try:
            process = subprocess.Popen(
                words,
                cwd=CHECKOUT,
                env=environment,
                stdin=subprocess.PIPE if asked else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=end_with_parent,
            )
        except OSError as error:
            raise StartError(f"{words[0]} cannot be started: {error}") from error
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def last_words(log: Path) -> str:
    """The last line that a program wrote to its standard error, or a note that there is none."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote no word of it")


def memory_mib(pid: int) -> float:
    """Of a process, in memory; 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


@contextmanager
def reference(kind: str, folder: Path) -> Iterator[tuple[str, int]]:
    """One of the references (`echo`, `store` or `loop`), ready: its endpoint and process id.

    `store` writes to `store.db` in the folder, `loop` to `loop.db`.

    Raises StartError when it cannot be started.
    """
    log = folder / f"{kind}.log"
    database = [] if kind == "echo" else [str(folder / f"{kind}.db")]
    with program("bench.reference", kind, "tcp://127.0.0.1:*", *database, log=log) as process:
        endpoint = process.stdout.readline().strip() if process.stdout else ""
        if not endpoint:
            raise StartError(f"the reference {kind!r} does not start: {last_words(log)}")
        yield endpoint, process.pid
