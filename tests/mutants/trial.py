"""One mutant on trial: a copy of the project, the patch, and the tests that are to fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import ROOT, Mutant

# One test that hangs because of the mutant is ended by pytest; this is for programs that are no tests.
PATIENCE_S = 1800.0
PACKAGES = ("storage_service", "storage_protocol", "storage_client")
# What a failing test, or a checker that found something, ends with. Any other code is a test that did not run.
FAILED = 1


class NoTrialError(Exception):
    """The trial says nothing: the copy is not used, or the test fails without the mutant."""


@dataclass(frozen=True)
class Verdict:
    """`by`: the words that caught it, None when it survives. `broken`: why there was no trial."""

    mutant: Mutant
    by: str | None
    seconds: float
    broken: str = ""


class Court:
    """Tries mutants, several at once if asked. What catches one has to pass without it, once for all of them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.sound = _copy(place / "sound")
        self._passed: dict[tuple[str, ...], str] = {}
        self._turns: dict[tuple[str, ...], threading.Lock] = {}
        self._lock = threading.Lock()

    def judge(self, mutant: Mutant) -> Verdict:
        """Never raises for what is the mutant's own fault."""
        began = time.monotonic()
        by, broken = None, ""
        folder = Path(tempfile.mkdtemp(prefix=f"{mutant.name}-", dir=self.place))
        try:
            copy = _copy(folder / "copy")
            _apply(mutant.path, copy)
            by = next((_told(words) for words in mutant.caught_by if self._catches(words, copy)), None)
        except NoTrialError as error:
            broken = str(error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return Verdict(mutant, by, time.monotonic() - began, broken)

    def _catches(self, words: tuple[str, ...], copy: Path) -> bool:
        if without := self._without(words):
            raise NoTrialError(without)
        code, output = _run(words, copy)
        if code not in (0, FAILED):
            raise NoTrialError(f"{_told(words)} ends with {code}, which is no failing test: {output}")
        return code == FAILED

    def _without(self, words: tuple[str, ...]) -> str:
        """Why these words do not pass without a mutant, empty when they do. Who asks for the same words waits."""
        with self._lock:
            turn = self._turns.setdefault(words, threading.Lock())
        with turn:
            if words not in self._passed:
                code, output = _run(words, self.sound)
                self._passed[words] = "" if code == 0 else f"without it, {_told(words)} ends with {code}: {output}"
            return self._passed[words]


def _told(words: tuple[str, ...]) -> str:
    pytest = words[:3] == (sys.executable, "-m", "pytest")
    return " ".join(words[7:] if pytest else ("python", *words[1:]))


def _copy(folder: Path) -> Path:
    """The files that git knows, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    _look_that_it_is_used(folder)
    return folder


def _environment(copy: Path) -> dict[str, str]:
    here = {name: value for name, value in os.environ.items() if not name.startswith(("STORAGE_", "PYTEST_"))}
    path = os.pathsep.join([str(copy), str(copy / "protocol")])
    return here | {"PYTHONPATH": path, "GIT_CEILING_DIRECTORIES": str(copy.parent)}


def _look_that_it_is_used(copy: Path) -> None:
    """Programs with this environment import the copy, wherever they are started, not what is installed."""
    lines = f"import {', '.join(PACKAGES)}\nprint(*(each.__file__ for each in ({', '.join(PACKAGES)})), sep='\\n')"
    words = [sys.executable, "-c", lines]
    ran = subprocess.run(words, cwd=copy.parent, env=_environment(copy), capture_output=True, text=True)
    files = ran.stdout.splitlines()
    if len(files) != len(PACKAGES) or not all(Path(each).is_relative_to(copy) for each in files):
        raise NoTrialError(f"the copy in {copy} is not what is imported: {files} {ran.stderr[-500:]}")


def _apply(patch: Path, copy: Path) -> None:
    words = ["git", "apply", "--whitespace=nowarn", str(patch)]
    ran = subprocess.run(words, cwd=copy, env=_environment(copy), capture_output=True, text=True)
    if ran.returncode:
        raise NoTrialError(f"it does not apply: {ran.stderr.strip()}")


def _run(words: tuple[str, ...], copy: Path) -> tuple[int, str]:
    """The exit code, and the end of what it wrote."""
    try:
        ran = subprocess.run(
            words,
            cwd=copy,
            env=_environment(copy),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        raise NoTrialError(f"{_told(words)} was not done after {PATIENCE_S:.0f} s") from None
    return ran.returncode, ran.stdout.decode(errors="replace")[-2000:]
