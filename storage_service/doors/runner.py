"""The runner of one attempt of a conversion: a program of its own, so that nothing of a script outlives anybody.

    service -- lifeline -- runner -> keeper -> script -> whatever that starts

Runner and keeper are this program, forked. Each is a subreaper: what is orphaned below it becomes its child, so
that "no child" means "nothing is left", whatever sessions, groups, environments and descriptors there were. The
keeper starts the script, ends what is below it, and tells. The runner is there for a keeper that is killed; the
keeper notices when the runner is. Of a script whose keeper is killed the kernel makes an end (PDEATHSIG).

    runner.py LOCK ENVIRONMENT GRACE_S NAMESPACE FOLDER SCRIPT [ARGUMENT...]
    runner.py probe                                   the exit code is 0, or why there is no PID namespace (errno)

LOCK          descriptor of the conversion's lock file, locked: everything below inherits it as `LOCK_FD`
ENVIRONMENT   descriptor of a file with the script's environment, NAME=VALUE each ended by a NUL
GRACE_S       seconds from TERM to KILL; at most `GONE_GRACE_S` when nobody waits for the result any more
NAMESPACE     1: the keeper is the first process of a PID namespace of its own; 0: it is not
FOLDER        where the script is started
SCRIPT        its path; a name without a slash is looked for along the PATH of ENVIRONMENT

Standard input is the lifeline, a stream socket. A byte on it: end the script. Its end: the service is gone. Told
on it, a line each: `no_namespace ERRNO` or `refused ERRNO` (the script was not started), `over CODE WHY` (the
script's exit code, negative a signal; why: see `ITSELF`, `ASKED`, `LEFT`), and `clear` (nothing of it is left).

It imports nothing of the service but `reaper`, and little of the library: every attempt waits for its start.
"""

from __future__ import annotations

import os
import select
import sys
import time

from .reaper import SIGKILL, SIGTERM, Reaper, Signals, die_with_parent, enter_namespace, try_kill, try_killpg

LIFELINE = 0
LOCK_FD = 200  # a script's own `exec 9>lock` would close a low one
GONE_GRACE_S = 1.0
KEEPER_SLACK_S = 0.5  # what a keeper may take beyond the grace before the runner does its work

ITSELF, ASKED, LEFT = 0, 1, 2  # a script ended by itself; by the service's word; for want of service or runner

_point, _, _count = os.environ.get("STORAGE_FAILPOINT", "").partition(":")
_left = int(_count or 1)


def passing(name: str) -> None:
    """As that of the service's failpoints: the process is at this place, and ends here if the place is armed."""
    global _left
    if name == _point:
        _left -= 1
        if not _left:
            os.kill(os.getpid(), SIGKILL)


def _say(lifeline: int, line: str) -> None:
    try:
        os.write(lifeline, f"{line}\n".encode())
    except OSError:  # nobody is there to hear it
        return


class Keeper(Reaper):
    """Starts a script, and ends it and what is below it. `above` is a pidfd of the runner."""

    def __init__(self, lifeline: int, grace_s: float, signals: Signals, *, above: int, first: bool) -> None:
        super().__init__(signals, first=first)
        self._lifeline = lifeline
        self._grace_s = grace_s
        self._wish: int | None = None  # why the script is to be ended
        self._why = ITSELF
        self._script = 0  # its pid and group; the group stays when the pid is reaped
        self._script_lives = False
        self._failure = -1
        for fd in (lifeline, above):
            self.poll.register(fd, select.POLLIN)

    def keep(self, folder: bytes, words: list[bytes], environment: dict[bytes, bytes]) -> None:
        """From the script's start until nothing is left."""
        passing("keeper.begun")
        self._start(folder, words, environment)
        passing("keeper.started")
        while self.reap():
            if self._wish is not None:
                self._obey(self._wish)
            if self.kill_at is not None:
                self.end(self._script)
            for fd, _ in self.wait():
                self._hear(fd)
        passing("keeper.clear")
        _say(self._lifeline, "clear")
        passing("keeper.clear_told")

    def _start(self, folder: bytes, words: list[bytes], environment: dict[bytes, bytes]) -> None:
        keeper = os.getpid()
        self._failure, failure = os.pipe()
        self._script = os.fork()
        self._script_lives = True
        if self._script:
            os.close(failure)
            return
        try:
            die_with_parent(SIGKILL)
            if os.getppid() == keeper:
                os.setsid()
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.chdir(folder)
                self.signals.give_back()
                os.execvpe(words[0], words, environment)  # noqa: S606 - no shell is wanted
        except OSError as error:
            os.write(failure, b"%d" % (error.errno or 0))
        finally:
            os._exit(127)

    def on_over(self, pid: int) -> None:
        if pid != self._script or not self._script_lives:
            os.waitpid(pid, 0)
            return
        passing("keeper.script_over")
        if self.kill_at is None:
            self._begin(self._grace_s)
        self._script_lives = False
        _, status = os.waitpid(pid, 0)
        if failure := os.read(self._failure, 16):
            _say(self._lifeline, f"refused {failure.decode()}")
        else:
            _say(self._lifeline, f"over {os.waitstatus_to_exitcode(status)} {self._why}")
        passing("keeper.script_told")

    def _hear(self, fd: int) -> None:
        if fd == self.signals.fd:
            if self.signals.has_term():
                self._wish = LEFT
        elif fd == self._lifeline and _read_byte(fd):
            self._wish = self._wish or ASKED
        else:
            self.poll.unregister(fd)
            self._wish = LEFT

    def _obey(self, why: int) -> None:
        self._wish = None
        grace_s = self._grace_s if why == ASKED else min(self._grace_s, GONE_GRACE_S)
        if self.kill_at is not None:
            self.begin_to_end(grace_s)
        elif self._script_lives:
            self._why = why
            self._begin(grace_s)
            passing("keeper.asked")

    def _begin(self, grace_s: float) -> None:
        """TERM, once: safe by number, since the script is not reaped yet."""
        self.begin_to_end(grace_s)
        if self._first:
            try_kill(-1, SIGTERM)
        elif not try_killpg(self._script, SIGTERM):  # not the leader of a group yet
            try_kill(self._script, SIGTERM)


class Runner(Reaper):
    """Above the keeper: tells it that the service is gone, and does its work when it is killed."""

    def __init__(self, lifeline: int, grace_s: float, signals: Signals) -> None:
        super().__init__(signals, first=False)
        self._lifeline = lifeline
        self._grace_s = min(grace_s, GONE_GRACE_S)
        self._keeper = 0
        self._is_left = False
        self.poll.register(lifeline, select.POLLRDHUP)

    def watch(self, keeper: int) -> None:
        """Until neither the keeper nor anything else is left."""
        self._keeper = keeper
        while self.reap():
            if self._is_left and self._keeper and self.begin_to_end(self._grace_s + KEEPER_SLACK_S):
                try_kill(self._keeper, SIGTERM)
            if not self._keeper:
                self.begin_to_end(self._grace_s)
                self.end(0)
            elif self.kill_at is not None and time.monotonic() >= self.kill_at:
                try_kill(self._keeper, SIGKILL)
            for fd, _ in self.wait():
                if fd == self._lifeline:
                    self.poll.unregister(fd)
                    self._is_left = True
                elif self.signals.has_term():
                    self._is_left = True
        passing("runner.clear")

    def on_over(self, pid: int) -> None:
        os.waitpid(pid, 0)
        if pid == self._keeper:
            self._keeper = 0
            passing("runner.keeper_over")


def _read_byte(fd: int) -> bytes:
    try:
        return os.read(fd, 1)
    except OSError:  # a reset is an end, too
        return b""


def _is_hung_up(lifeline: int) -> bool:
    poll = select.poll()
    poll.register(lifeline, select.POLLRDHUP)
    return bool(poll.poll(0))


def probe() -> int:
    """0 when a PID namespace is granted; else the errno that says why not."""
    try:
        enter_namespace()
        child = os.fork()
        if not child:
            os._exit(0 if os.getpid() == 1 else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except OSError as error:
        return error.errno or 1


def run(lock: int, environment: int, grace_s: float, namespace: bool, folder: bytes, words: list[bytes]) -> None:
    """Run one attempt; see above. Raises OSError when this program itself cannot work."""
    entries = os.pread(environment, os.fstat(environment).st_size, 0).split(b"\0")[:-1]
    if lock != LOCK_FD:
        os.dup2(lock, LOCK_FD)
    # What the service itself was started with is no script's business.
    os.closerange(3, LOCK_FD)
    os.closerange(LOCK_FD + 1, 1 << 30)
    signals = Signals()
    if namespace:
        try:
            enter_namespace()
        except OSError as error:
            _say(LIFELINE, f"no_namespace {error.errno}")
            return
    die_with_parent(SIGTERM)
    runner = Runner(LIFELINE, grace_s, signals)
    above = os.pidfd_open(os.getpid())
    passing("runner.begun")
    if _is_hung_up(LIFELINE):
        return
    keeper = os.fork()
    if keeper:
        passing("runner.keeping")
        runner.watch(keeper)
        return
    variables = dict(entry.partition(b"=")[::2] for entry in entries)
    Keeper(LIFELINE, grace_s, signals, above=above, first=namespace).keep(folder, words, variables)


def main() -> None:
    """The program; see above."""
    if sys.argv[1:] == ["probe"]:
        sys.exit(probe())
    lock, environment, grace_s, namespace, folder, *words = map(os.fsencode, sys.argv[1:])
    try:
        run(int(lock), int(environment), float(grace_s), namespace == b"1", folder, words)
    except OSError as error:  # before the script was there, see `Reaper.end`
        _say(LIFELINE, f"refused {error.errno}")
    os._exit(0)  # of both, without the interpreter's own long end
