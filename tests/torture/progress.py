"""How each part is getting on: what its process has said last."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.torture.parts import Part, Size

WORDS = ("cycles", "faults", "acknowledged", "lost", "doubled", "wrong")
NUMBERS = ("seconds", "seed")


@dataclass
class Progress:
    """A part, its size, and its newest numbers. `state`: waiting, running, done, failed, or skipped."""

    part: Part
    size: Size
    seed: int
    state: str = "waiting"
    doing: str = ""
    newest: str = ""
    numbers: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(WORDS, 0))
    found: list[str] = field(default_factory=list)
    kept: str = ""
    began: float = 0.0
    seconds: float = 0.0

    process: subprocess.Popen[bytes] | None = None
    stopped: bool = False
    # What it wrote that was no JSON, for people.
    lines: deque[bytes] = field(default_factory=lambda: deque(maxlen=500))

    @property
    def elapsed(self) -> float:
        """Seconds that it took, or has taken so far."""
        return time.monotonic() - self.began if self.state == "running" else self.seconds

    @property
    def rate(self) -> float:
        """Acknowledged commands a second, or cycles where there are none."""
        return (self.numbers["acknowledged"] or self.numbers["cycles"]) / max(self.elapsed, 0.001)

    @property
    def repeat(self) -> str:
        """The command that does it again, from the seed of what was found."""
        done = self.numbers["cycles"]
        sized = Size(cycles=done) if self.state == "failed" and done else self.size
        cycles = "" if sized.cycles is None else f" --cycles {sized.cycles}"
        seconds = "" if sized.seconds is None else f" --seconds {sized.seconds:.0f}"
        return f"python -m tests.torture {self.part.name} --seed {self.seed}{cycles}{seconds}"

    def run(self, folder: Path, ended: threading.Event) -> None:
        """Run it to its end, or until `ended` is set. Its output is kept in the folder when it has failed."""
        if not self.part.is_there:
            self.state = "skipped"
            return
        self.state, self.began = "running", time.monotonic()
        words = [sys.executable, "-m", self.part.module, *self.part.words(self.size, self.seed, folder)]
        with tempfile.TemporaryFile() as errors:
            quiet = subprocess.DEVNULL
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, stdin=quiet)
            self.process = process
            with process:
                last = self._follow(process, ended)
                if ended.is_set():
                    self.stop()
            code = process.returncode
            errors.seek(0)
            said = errors.read()
        self.seconds = time.monotonic() - self.began
        failures = sum(int(self.numbers[name]) for name in ("lost", "doubled", "wrong"))
        if not last and not ended.is_set():
            self.numbers["wrong"] += 1
            self.found.append(
                f"wrong: it ended with {code} and no result: {said[-2000:].decode(errors='replace')}"
            )
        elif code and not failures and not ended.is_set():
            self.numbers["wrong"] += 1
            self.found.append(f"wrong: it ended with {code}: {said[-2000:].decode(errors='replace')}")
        bad = any(self.numbers[name] for name in ("lost", "doubled", "wrong"))
        self.state = "failed" if bad else "ended early" if ended.is_set() else "done"
        if bad:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self.part.name}.out").write_bytes(b"".join(self.lines) + said)
            (folder / f"{self.part.name}.found").write_text("\n".join(self.found) + "\n")
            self.kept = self.kept or str(folder)

    def stop(self) -> None:
        """Ask its process to end."""
        if self.process is not None and not self.stopped:
            self.stopped = True
            self.process.terminate()

    def _follow(self, process: subprocess.Popen[bytes], ended: threading.Event) -> bool:
        """Take its lines; whether the last one was a result."""
        assert process.stdout is not None
        result = False
        for line in process.stdout:
            if ended.is_set():
                return False
            try:
                told = json.loads(line)
                self._take(told)
            except (ValueError, TypeError, KeyError, AttributeError):
                self.lines.append(line)
                result = False
                continue
            result = "doing" not in told
        return result

    def _take(self, told: dict[str, Any]) -> None:
        self.numbers = {name: int(told[name]) for name in WORDS}
        self.seed = told.get("seed") or self.seed
        self.doing, self.newest = told.get("doing", ""), told.get("newest", "")
        # Some parts tell how many, and what to the other output.
        self.found = told["found"] if isinstance(told.get("found"), list) else self.found
        self.kept = told.get("kept", self.kept)
