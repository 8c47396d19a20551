"""The producers that are programs of their own: started, killed, put to rest, and their records read."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.polling import within
from tests.torture.asked import Asked


class Staff:
    """So many producers of one service. `book` has what they asked, by id, as of the last `settle`."""

    def __init__(self, folder: Path, commands: str, count: int, seed: int) -> None:
        self.folder = folder
        self.commands = commands
        self.chance = random.Random(f"staff {seed}")
        self.book: dict[int, Asked] = {}
        self.wrong: list[str] = []
        self.kills = 0
        self.numbers = range(1, count + 1)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._read: dict[int, int] = dict.fromkeys(self.numbers, 0)
        self._resting: dict[int, bool] = {}
        for number in self.numbers:
            self._place(number).mkdir(parents=True)

    def _place(self, number: int) -> Path:
        return self.folder / str(number)

    def open(self) -> None:
        """Start them all."""
        for number in self.numbers:
            self._start(number)

    def _start(self, number: int) -> None:
        place = self._place(number)
        words = [sys.executable, "-m", "tests.torture.producer", self.commands, str(place), str(number)]
        with (place / "errors").open("ab") as errors:
            seed = str(self.chance.getrandbits(32))
            self._processes[number] = subprocess.Popen([*words, seed], stdout=errors, stderr=errors)

    def disturb(self) -> None:
        """`kill -9` one of them now and then; it is started again."""
        for number, process in self._processes.items():
            if self.chance.random() < 0.1:
                process.kill()
                process.wait()
                self.kills += 1
                self._start(number)

    def settle(self, patience_s: float) -> bool:
        """Ask nothing new until `wake`; whether all were done within the deadline."""
        for number in self.numbers:
            (self._place(number) / "rest").touch()
        ended: list[int] = []

        def is_over() -> bool:
            for number in self.numbers:
                self._read_on(number)
                if (code := self._processes[number].poll()) is not None:
                    self.wrong.append(f"wrong: producer {number} has ended: {code}, {self._errors(number)}")
                    ended.append(number)
            return bool(ended) or all(self._resting.get(number) for number in self.numbers)

        return within(patience_s, is_over, every_s=0.05) and not ended

    def _errors(self, number: int) -> str:
        return (self._place(number) / "errors").read_text(errors="replace")[-2000:]

    def unanswered(self) -> list[str]:
        """What has no answer, and may never get one since its producer was killed."""
        return [str(asked) for asked in self.book.values() if not asked.settled]

    def wake(self) -> None:
        """Go on."""
        self._resting.clear()
        for number in self.numbers:
            (self._place(number) / "rest").unlink(missing_ok=True)

    @property
    def acknowledged(self) -> int:
        """Commands that were answered with ok, as far as the records were read."""
        return sum(bool(asked.answered) for asked in self.book.values())

    def _read_on(self, number: int) -> None:
        path = self._place(number) / "told"
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._read[number])
            text = file.read()
        whole = text.rpartition(b"\n")[0]
        self._read[number] += len(whole) + 1 if whole else 0
        for line in whole.splitlines():
            # A producer that was killed while it wrote leaves half a line, and the next life goes on behind it.
            with contextlib.suppress(ValueError):
                self._take(number, json.loads(line))

    def _take(self, number: int, line: dict[str, Any]) -> None:
        if "resting" in line or "alive" in line:
            self._resting[number] = bool(line.get("resting"))
        elif "cmd" in line:
            self.book[line["id"]] = Asked.recorded(line["id"], line["cmd"], line["args"], line["at"], number)
        elif (asked := self.book.get(line["id"])) is None:
            self.wrong.append(f"wrong: producer {number} was answered what it never asked: {line}")
        elif "result" in line:
            asked.answered, asked.result = line["at"], line["result"]
        else:
            asked.code = line["code"]
            # A repeat of what was done already, by a life that does not know of it, is what these say.
            if line["code"] not in ("wrong_state", "not_found", "already_exists"):
                self.wrong.append(f"wrong: {asked} was refused: {line['error']}")

    def close(self) -> None:
        """End them."""
        for process in self._processes.values():
            process.kill()
            process.wait()
