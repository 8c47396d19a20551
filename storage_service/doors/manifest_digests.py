"""Digests of many files at once, by several processes: for who holds data against their manifests."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from storage_service.doors.manifest_tree import digest_of, open_file

CHUNK_FILES = 64
CHUNK_BYTES = 32 << 20
TELL_EVERY_S = 0.1

Digest = tuple[bytes, str | None, str]
"""A path, with its BLAKE3; or None, and why."""

_shared: list[Any] = []


class Stopped(Exception):
    """The process that wants the digests wants them no more."""


class Digests:
    """A context: a pool of `processes`, or none: then it is this one that reads. `tell` hears, in this thread, how
    many bytes were read by all so far."""

    def __init__(self, processes: int, tell: Callable[[int], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self._read = context.Value("Q", 0)
        self._stop = context.Value("b", 0, lock=False)
        self._most = 2 * processes
        self._tell = tell
        shared = self._read, self._stop
        self._pool = (
            ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(*shared, os.getpid()))
            if processes
            else None
        )
        _shared[:] = shared

    def __enter__(self) -> Digests:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.value = 1
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def of(self, folder: Path, paths: Iterator[bytes]) -> Iterator[Digest]:
        """The digests of the files at these paths, in any order. Bounded: paths are asked for as they are read.

        Raises BrokenProcessPool when a process was ended by somebody else.
        """
        out: set[Future[list[Digest]]] = set()
        for chunk in _chunks(folder, paths):
            if self._pool is None:
                yield from _digests(os.fsencode(folder), chunk)
                self._tell(int(self._read.value))
                continue
            out.add(self._pool.submit(_digests, os.fsencode(folder), chunk))
            while len(out) >= self._most:
                out = yield from self._done(out)
        while out:
            out = yield from self._done(out)

    def _done(self, out: set[Future[list[Digest]]]) -> Any:
        done, out = wait(out, TELL_EVERY_S, FIRST_COMPLETED)
        self._tell(int(self._read.value))
        for each in done:
            yield from each.result()
        return out


def _chunks(folder: Path, paths: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Work for one process at a time: some small files, or a large one."""
    chunk: list[bytes] = []
    size = 0
    for path in paths:
        chunk.append(path)
        with suppress(OSError):
            size += os.stat(os.path.join(os.fsencode(folder), path), follow_symlinks=False).st_size
        if len(chunk) >= CHUNK_FILES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


# In the processes of the pool


def _begin(read: Any, stop: Any, parent: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: they end with who started them
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for who started us
    _shared[:] = [read, stop]


def _heard(count: int) -> None:
    read, stop = _shared
    if stop.value:
        raise Stopped
    with read.get_lock():
        read.value += count


def _digests(folder: bytes, paths: list[bytes]) -> list[Digest]:
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return [_digest(top, path) for path in paths]
    finally:
        os.close(top)


def _digest(top: int, path: bytes) -> Digest:
    try:
        fd = open_file(top, path)
        try:
            return path, digest_of(fd, _heard)[0], ""
        finally:
            os.close(fd)
    except OSError as error:
        return path, None, error.strerror or type(error).__name__
