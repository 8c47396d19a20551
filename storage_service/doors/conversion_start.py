"""How an attempt of a conversion is started: a runner, with all that it has to know and hold."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct, field

from storage_service import failpoints
from storage_service.doors.process_group import TOKEN
from storage_service.rules.work import RunScript

INHERITED = ("PATH", "HOME", "LANG")
OF_RUNNERS = ("LD_LIBRARY_PATH", failpoints.VARIABLE)  # what an interpreter may need to start, and tests
# Without the site's packages and the environment's wishes; as a module, so that its bytecode is kept.
_ABOVE = str(Path(__file__).absolute().parents[2])
_CODE = f"import sys; sys.path.append({_ABOVE!r}); from storage_service.doors.runner import main; main()"
RUNNER = (sys.executable, "-ISc", _CODE)
"""The words that start a runner, before its arguments."""


class Settings(Struct, frozen=True):
    """How scripts are run.

    timeout_s      seconds until a script is ended
    grace_s        seconds from TERM to KILL
    log_bytes      how much of its output is kept
    locks          the folder of the lock files
    env            what every script finds in its environment
    pid_namespace  whether a script runs below a PID namespace of its own
    """

    timeout_s: float
    grace_s: float
    log_bytes: int
    locks: Path
    env: dict[str, str] = field(default_factory=dict)
    pid_namespace: bool = False


class Protection(Struct, frozen=True):
    """What keeps a script from outliving its owner, besides runner and lock, which it always has.

    pid_namespace  whether it runs below a PID namespace of its own
    reason         one sentence why not, where the configuration asks for it; else None
    """

    pid_namespace: bool
    reason: str | None = None

    def told(self) -> dict[str, object]:
        """As `get_status` has it."""
        return {"runner": True, "flock": True, "pid_namespace": self.pid_namespace, "reason": self.reason}


class Started(Struct, frozen=True):
    """A runner, and where it starts the script.

    pid, pidfd  its process
    pipe        the reading end of the script's output, non-blocking
    lifeline    our end of it, non-blocking
    """

    folder: Path
    pid: int
    pidfd: int
    pipe: int
    lifeline: socket.socket


def token(conversion_id: str, attempt: int) -> str:
    """The run token of an attempt, which everything below it has in its environment."""
    return f"{conversion_id}:{attempt}"


def find_protection(settings: Settings) -> Protection:
    """Try what the kernel grants. Blocks for the start of one process."""
    if not settings.pid_namespace:
        return Protection(False)
    try:
        code = subprocess.run([*RUNNER, "probe"], stdin=subprocess.DEVNULL, check=False).returncode
        why = os.strerror(code)
    except OSError as error:
        code, why = 1, str(error)
    if not code:
        return Protection(True)
    return Protection(False, f"conversion.pid_namespace is true, but conversions run without one: {why}.")


def spawn(order: RunScript, script: Path, folder: Path, settings: Settings, lock: int) -> Started:
    """Start a runner in a session of its own, which starts the script. `lock` stays the caller's.

    Neither `folder` nor the script is touched here: they may hang, and the loop must not. Raises OSError or
    ValueError (a NUL in a word) when it cannot be started; then nothing of it is left.
    """
    variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
    variables |= settings.env | order.env | {TOKEN: token(order.conversion_id, order.attempt)}
    mine = {name: os.environ[name] for name in OF_RUNNERS if name in os.environ} | {TOKEN: variables[TOKEN]}
    how = [str(settings.grace_s), str(int(settings.pid_namespace)), str(folder), str(script.absolute())]
    with ExitStack() as undo, ExitStack() as theirs:
        pipe, writing = os.pipe()
        undo.callback(os.close, pipe)
        theirs.callback(os.close, writing)
        os.set_blocking(pipe, False)
        pid, pidfd, lifeline = start_runner([*how, *order.argv], mine, variables, lock, writing, writing)
        undo.pop_all()
        return Started(folder, pid, pidfd, pipe, lifeline)


def start_runner(
    words: Sequence[str], mine: dict[str, str], variables: dict[str, str], lock: int, output: int, errors: int
) -> tuple[int, int, socket.socket]:
    """Start a runner in a session of its own: its process, as pid and pidfd, and our end of its lifeline.

    `words` are its arguments from GRACE_S on, `mine` is its environment and `variables` that of what it starts,
    `output` and `errors` are where that writes. The descriptors stay the caller's. Raises OSError or ValueError
    (a NUL in a word) when it cannot be started; then nothing of it is left.
    """
    with ExitStack() as undo, ExitStack() as theirs:
        lifeline, other = socket.socketpair()
        undo.callback(lifeline.close)
        theirs.callback(other.close)
        lifeline.setblocking(False)
        environment = as_file(variables)
        theirs.callback(os.close, environment)
        same = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (lock, environment)]  # to be inherited
        pid = os.posix_spawn(
            RUNNER[0],
            [*RUNNER, str(lock), str(environment), *words],
            mine,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, other.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, errors, 2),
                *same,
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD],
        )
        undo.callback(os.waitpid, pid, 0)
        undo.callback(os.kill, pid, signal.SIGKILL)
        pidfd = os.pidfd_open(pid)
        undo.pop_all()
        return pid, pidfd, lifeline


def as_file(variables: dict[str, str]) -> int:
    """An environment as a file in memory: nobody else reads it there. Raises ValueError for a NUL in it."""
    if any("\0" in text for pair in variables.items() for text in pair):
        raise ValueError("embedded null byte")
    text = "".join(f"{name}={value}\0" for name, value in variables.items())
    fd = os.memfd_create("environment")
    with ExitStack() as undo:
        undo.callback(os.close, fd)
        rest = memoryview(os.fsencode(text))
        while rest:
            rest = rest[os.write(fd, rest) :]
        undo.pop_all()
    return fd
