"""Conversions of acquisitions that lie elsewhere: a copy on this host, in which the script runs.

1. All files of the acquisition are fetched into a folder of their own; the script's log is made in it.
2. When the script has ended, what is new or was changed is put beside the data, each file in one step, the log
   last. The service's own files are never put back, links are passed over, and what the script deleted stays.
3. The copy is then deleted. What a killed service left is deleted before the next one; the attempt runs anew.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from storage_service.doors.manifest_format import is_own
from storage_service.rules.work import ACQ_LOG, ACQ_MARKER, Ended, Fault, RunScript

COPY_BYTES = 1 << 20
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC

State = dict[str, tuple[int, int]]
"""Of each file below a folder: its bytes, and when it was changed."""


class Elsewhere(Protocol):
    """A mount point from which files are fetched, and to which they are brought. Both raise `Fault`."""

    def fetch(self, path: tuple[str, ...], to: Path) -> None:
        """Copy every file of a folder."""

    def bring(self, path: tuple[str, ...], id: str, uid: str, folder: Path, names: list[str]) -> None:
        """Put these files of a folder of this host into the folder that has this marker."""


class _Copy(NamedTuple):
    order: RunScript
    door: Elsewhere
    folder: Path
    before: State
    thread: Executor


class Scratch:
    """The copies below a folder, which is this object's own. `fetch` is for several threads at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._is_clear = False
        self._copies: dict[str, _Copy] = {}

    def fetch(self, door: Elsewhere, order: RunScript, thread: Executor) -> tuple[Path, int]:
        """The copy for an attempt, and its open log. For a thread: it takes its time; what the script makes
        is brought back in one of `thread`. Raises `Fault`."""
        self._clear()
        folder = self._folder / f"{order.conversion_id}-{order.attempt}"
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            door.fetch(order.path, folder)
            self._copies[order.conversion_id] = _Copy(order, door, folder, _state(folder), thread)
            return folder, os.open(folder / order.log_name, _LOG_FLAGS, 0o666)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            said = error.strerror or type(error).__name__
            raise Fault("unavailable", f"No copy can be made in {self._folder}: {said}.", reason=said) from error
        except Fault:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _clear(self) -> None:
        """Once, delete what an earlier life has left: nothing of it runs any more when an attempt begins."""
        with self._lock:
            if not self._is_clear:
                with suppress(OSError):
                    for left in self._folder.iterdir():
                        shutil.rmtree(left, ignore_errors=True)
                self._is_clear = True

    def ended(self, result: Ended, tell: Callable[[Ended], None]) -> bool:
        """Bring back what an attempt has made, in a thread; `tell` then hears its result, there. False: it had no
        copy, and nobody is told."""
        copy = self._copies.pop(result.conversion_id, None)
        if copy is None:
            return False

        def work() -> None:
            told = result
            try:
                # What the service itself ended runs again from the start.
                if result.how != "interrupted":
                    _bring(copy)
            except (Fault, OSError) as error:
                why = error.message if isinstance(error, Fault) else f"{error.strerror or error}."
                told = replace(result, how="not_published", reason=f"its files cannot be brought back: {why}")
            shutil.rmtree(copy.folder, ignore_errors=True)
            tell(told)

        copy.thread.submit(work)
        return True


def in_copy(order: RunScript, folder: Path) -> RunScript:
    """The order as a script finds it that runs in a copy."""
    place = {"ACQ_DIR": str(folder), "ACQ_METADATA": str(folder / ACQ_MARKER)}
    return replace(order, argv=(str(folder), *order.argv[1:]), env={**order.env, **place})


def _bring(copy: _Copy) -> None:
    log = copy.order.log_name
    now = _state(copy.folder)
    made = sorted(name for name, state in now.items() if copy.before.get(name) != state and not _is_ours(name))
    names = [*(name for name in made if name != log), *([log] if log in now else [])]
    env = copy.order.env
    copy.door.bring(copy.order.path, env["ACQ_ID"], env["ACQ_UID"], copy.folder, names)


def _is_ours(name: str) -> bool:
    return name in (ACQ_MARKER, ACQ_LOG) or is_own(os.fsencode(name))


def _state(folder: Path) -> State:
    return {name: (status.st_size, status.st_mtime_ns) for name, status in _files(folder)}


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    for at, _, names in os.walk(folder):
        for name in names:
            path = Path(at, name)
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(folder)), path.stat(follow_symlinks=False)


def copied(source: Iterator[bytes], target: Path, mtime_ns: int) -> None:
    """Write what comes into a file below a copy, with its time. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for data in source:
            file.write(data)
    os.utime(target, ns=(mtime_ns, mtime_ns))
