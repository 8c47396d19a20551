"""What a runner of conversions needs of the kernel: to be the reaper of all below it, and to end that.

Of the standard library it imports what starts quickly, like `runner`, and no `signal`, whose enums take as long
as all the rest. Numbers of signals are those of Linux on every machine that measurements are taken with.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import time

PAUSE_S = (0.01, 0.25)  # between two looks at what is being ended: the first, doubled up to the last

SIGKILL, SIGPIPE, SIGTERM, SIGCHLD, SIGXFSZ = 9, 13, 15, 17, 25
_SIG_BLOCK, _SIG_SETMASK = 0, 2
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_CLONE_NEWUSER, _CLONE_NEWPID = 0x10000000, 0x20000000
_PIDFD_SEND_SIGNAL = 424  # on every architecture; the C library of Debian 11 has no name for it
_SIGNALFD_SIGINFO = 128  # bytes of one signal read from a signalfd; the first four are its number

_libc = ctypes.CDLL(None, use_errno=True)


def _done(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def try_kill(pid: int, number: int) -> None:
    """Signal a child that is not reaped, or -1: all in the namespace. Without one, nothing happens."""
    try:
        os.kill(pid, number)
    except OSError:  # it is gone, or not ours
        return


def try_killpg(group: int, number: int) -> bool:
    """Signal the process group of a child that is not reaped; whether there is one."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


def die_with_parent(number: int) -> None:
    """Have the kernel send this process that signal when the thread that started it ends. Raises OSError."""
    _done(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0))


def enter_namespace() -> None:
    """Make what is forked next the first process of a new PID namespace. Raises OSError where none is granted.

    Who may not is given a user namespace for it, in which the user is who it was.
    """
    try:
        _done(_libc.unshare(_CLONE_NEWPID))
    except PermissionError:
        uid, gid = os.geteuid(), os.getegid()
        _done(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWPID))
        for name, text in ("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


class Signals:
    """TERM and CHLD, blocked and read from `fd`: none comes between a look and a wait."""

    def __init__(self) -> None:
        mask = ctypes.create_string_buffer(128)
        self._before = ctypes.create_string_buffer(128)
        _libc.sigemptyset(mask)
        for number in (SIGTERM, SIGCHLD):
            _libc.sigaddset(mask, number)
        _done(_libc.sigprocmask(_SIG_BLOCK, mask, self._before))
        self.fd = _done(_libc.signalfd(-1, mask, os.O_CLOEXEC | os.O_NONBLOCK))

    def has_term(self) -> bool:
        """Take what has come; whether TERM was among it."""
        term = False
        try:
            while data := os.read(self.fd, _SIGNALFD_SIGINFO):
                term = term or int.from_bytes(data[:4], sys.byteorder) == SIGTERM
        except BlockingIOError:
            return term
        return term

    def give_back(self) -> None:
        """What the interpreter and this program have changed of signals: for what is executed next."""
        for number in (SIGPIPE, SIGXFSZ):
            _libc.signal(number, None)
        _done(_libc.sigprocmask(_SIG_SETMASK, self._before, None))


class Reaper:
    """A process to which everything below falls. With `first` it is the first one of a PID namespace."""

    def __init__(self, signals: Signals, *, first: bool) -> None:
        _done(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
        self.signals = signals
        self.kill_at: float | None = None  # on the monotonic clock; set once the end has begun
        self.poll = select.poll()
        self.poll.register(signals.fd, select.POLLIN)
        self._first = first
        self._asked: set[tuple[int, bytes]] = set()  # (pid, start time) of those that had their TERM
        self._pause_s = PAUSE_S[0]

    def reap(self) -> bool:
        """Reap what is over, each through `on_over`; False when no child is left."""
        try:
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self.on_over(found.si_pid)
        except ChildProcessError:
            return False
        return True

    def on_over(self, pid: int) -> None:
        """A child is over and must be reaped here: until then its number is no other's."""
        os.waitpid(pid, 0)

    def begin_to_end(self, grace_s: float) -> bool:
        """KILL is due after that time, or sooner if it was due already. False when the end had begun before."""
        began = self.kill_at is None
        at = time.monotonic() + grace_s
        self.kill_at = at if self.kill_at is None else min(self.kill_at, at)
        return began

    def end(self, asked_group: int) -> None:
        """What is below, and not of a group that had its TERM, gets TERM once; when it is time, all get KILL."""
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            self._kill()
        elif not self._first:
            for pid, (_, group, started) in _below(os.getpid()).items():
                if group != asked_group and (pid, started) not in self._asked:
                    self._asked.add((pid, started))
                    _send(pid, started, SIGTERM)

    def _kill(self) -> None:
        if self._first:
            try_kill(-1, SIGKILL)
            return
        me = os.getpid()
        # A child that is not reaped pins its number and its group's. What is deeper becomes a child now.
        for pid, (parent, group, _) in _below(me).items():
            if parent == me:
                if group != os.getpgrp():
                    try_killpg(group, SIGKILL)
                try_kill(pid, SIGKILL)

    def wait(self) -> list[tuple[int, int]]:
        """Until something happens, or it is time to look again at what is being ended."""
        if self.kill_at is None:
            return self.poll.poll()
        until_kill_s = self.kill_at - time.monotonic()
        pause_s = min(self._pause_s, until_kill_s) if until_kill_s > 0 else self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSE_S[1])
        return self.poll.poll(1 + int(1000 * pause_s))


def _stat(pid: int) -> list[bytes]:
    """The fields of proc_pid_stat(5) from the third on; none of a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].split()
    except OSError:
        return []


def _below(root: int) -> dict[int, tuple[int, int, bytes]]:
    """Every process below, zombies too: pid to parent, group and start time."""
    try:
        pids = map(int, filter(str.isdecimal, os.listdir("/proc")))
    except OSError:  # no descriptor is free: the next look sees them
        return {}
    seen = {pid: fields for pid in pids if (fields := _stat(pid))}
    below: dict[int, tuple[int, int, bytes]] = {}
    known = {root}
    while fresh := [pid for pid in seen if pid not in known and int(seen[pid][1]) in known]:
        known.update(fresh)
        below |= {pid: (int(seen[pid][1]), int(seen[pid][2]), seen[pid][19]) for pid in fresh}
    return below


def _send(pid: int, started: bytes, number: int) -> None:
    """Signal this very process, or nothing: its start time is looked at again under a pidfd."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    if _stat(pid)[19:20] == [started]:
        _libc.syscall(_PIDFD_SEND_SIGNAL, pidfd, number, None, 0)
    os.close(pidfd)
