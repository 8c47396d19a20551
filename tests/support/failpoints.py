"""Which failpoints the code has, and a service whose lives end at them, one after another."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from storage_service.failpoints import VARIABLE
from tests.support.polling import within
from tests.support.service import Service
from tests.support.wire import NoReply, Refused, Wire

ROOT = Path(__file__).parents[2] / "storage_service"
MOST_ROUNDS = 3


class Place(NamedTuple):
    """A call of `passing`: its file below `storage_service`, its line, and the name, nil when it is no literal."""

    file: str
    line: int
    name: str | None

    @property
    def room(self) -> str:
        """The name's part before the dot."""
        return (self.name or "").partition(".")[0]


def places() -> list[Place]:
    """Every call of `passing` in the service's code, read from the code."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or "passing" not in (
                getattr(node.func, "id", None),
                getattr(node.func, "attr", None),
            ):
                continue
            given = node.args[0] if len(node.args) == 1 and not node.keywords else None
            literal = isinstance(given, ast.Constant) and isinstance(given.value, str)
            name = given.value if isinstance(given, ast.Constant) and literal else None
            found.append(Place(path.relative_to(ROOT).as_posix(), node.lineno, name))  # type: ignore[arg-type]
    return found


class Lives:
    """A service that is started with one failpoint after another, and unarmed when all have ended a life.

    `call` speaks with it across its deaths: a command is repeated with its key until it is answered.
    """

    def __init__(self, service: Service, names: list[str]) -> None:
        self.service = service
        self.acknowledged: list[tuple[str, dict[str, Any], str, Any]] = []
        self.deaths: list[str] = []
        self._names = iter(names)
        self._rounds = 0
        self._wire: Wire | None = None
        self._number = 0
        self.armed: str | None = ""
        self._begin()

    def _begin(self) -> None:
        self.armed = next(self._names, None)
        self.service.environment.pop(VARIABLE, None)
        if self.armed is not None:
            self.service.environment[VARIABLE] = self.armed
        self._rounds = 0
        self.service.launch()
        if self._wire is not None:
            self._wire.close()
        self._wire = self.service.connect(patience_s=0.2)

    def _look(self) -> None:
        """If it died, it died where it was to; the next life begins."""
        if self.service.running:
            return
        code = self.service.launched.wait()
        assert self.armed is not None, f"it ended with {code}, unarmed:\n{self.service.log_text()[-3000:]}"
        assert code == -9, f"armed with {self.armed} it ended with {code}:\n{self.service.log_text()[-3000:]}"
        self.deaths.append(self.armed)
        self._begin()

    def rounds(self) -> Iterator[int]:
        """The numbers of rounds of a workload, until the last failpoint has ended its lives."""
        number = 0
        while self.armed is not None:
            assert self._rounds < MOST_ROUNDS, f"the workload never passes {self.armed}"
            if self._rounds == 1:
                self._stop()
            self._rounds += 1
            number += 1
            yield number

    def _stop(self) -> None:
        """Tell the service to end, which passes places of its own. If it ended well, the same life goes on."""
        if self.service.running and self.service.terminate() == 0:
            self.service.start()
        self._look()

    def call(self, cmd: str, /, **args: Any) -> Any:
        """A command that changes something: its result. Repeated until it has one."""
        self._number += 1
        key = f"k{self._number}"
        result = self._answer(cmd, key, args)
        self.acknowledged.append((cmd, args, key, result))
        return result

    def ask(self, cmd: str, /, **args: Any) -> Any:
        """A query: its result."""
        return self._answer(cmd, None, args)

    def _answer(self, cmd: str, key: str | None, args: dict[str, Any]) -> Any:
        deadline = time.monotonic() + 60

        def answered() -> list[Any]:
            """The answer, or nothing: the service has died, or takes nothing now."""
            self._look()
            assert self._wire is not None
            number = self._wire.post(cmd, key=key, **args)
            while self.service.running and time.monotonic() < deadline:
                try:
                    return [self._wire.collect(number)]
                except NoReply:
                    continue
                except Refused as refused:
                    if refused.code not in ("unavailable", "overloaded"):
                        raise
                    break
            return []

        answer = within(60, answered)
        assert answer, f"{cmd} {args} has no answer:\n{self.service.log_text()[-3000:]}"
        return answer[0]

    def until(self, wanted: Callable[[dict[str, Any]], bool], cmd: str, /, **args: Any) -> None:
        """Ask until the answer is as wanted."""
        found: list[Any] = []

        def is_so() -> bool:
            found[:] = [self.ask(cmd, **args)]
            return wanted(found[0])

        assert within(60, is_so), f"it stays {found}\n{self.service.log_text()[-3000:]}"

    def close(self) -> None:
        """Close the connection; the service goes on."""
        if self._wire is not None:
            self._wire.close()
