"""R5: a conversion whose service, runner or keeper is killed at any named point, twice in a row."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from storage_service import failpoints
from tests.support.conversion_life import SETTINGS, Life
from tests.support.polling import eventually
from tests.support.service import Died, Service
from tests.support.wire import NoReply

Make = Callable[..., Service]

DOORS = Path(failpoints.__file__).parent / "doors"
POINTS = sorted(
    point
    for path in DOORS.glob("*.py")
    for point in re.findall(r'passing\("((?:conversion|runner|keeper)\.\w+)"\)', path.read_text())
)

# Nobody can have told a result before one of these.
NEVER_PASSED = {"runner.begun", "keeper.begun", "keeper.started", "keeper.script_over"}


def test_there_are_points_in_service_runner_and_keeper() -> None:
    assert {point.partition(".")[0] for point in POINTS} == {"conversion", "runner", "keeper"}
    assert len(POINTS) == len(set(POINTS)) > 15


def has_succeeded(life: Life) -> bool:
    with life.service.connect(patience_s=1) as wire, contextlib.suppress(NoReply):
        return bool(life.conversion(wire)["state"] == "succeeded")
    return False


def has_attempt(life: Life, attempt: int) -> bool:
    with life.service.connect(patience_s=1) as wire, contextlib.suppress(NoReply):
        return bool(life.conversion(wire)["attempt"] >= attempt)
    return False


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_a_point_twice_in_a_row_leaves_nothing_and_gives_one_result(
    own_service: Make, point: str
) -> None:
    service = own_service({"conversion": SETTINGS})
    life = Life(service)
    life.reach("fled", 1)
    service.kill()
    eventually(lambda: life.processes() == {})
    # Where the keeper is asked to end a script, that has to be there.
    stays = point == "keeper.asked"
    if not stays:
        (life.folder / "go").touch()
    service.environment = {failpoints.VARIABLE: point}
    for attempt in (2, 3):
        with contextlib.suppress(Died):
            service.start()
        if stays:
            life.reach("fled", attempt)
        elif point.startswith("conversion."):
            eventually(lambda: not service.running or has_succeeded(life))
        else:
            # Its runner or keeper is killed, and the next attempt's too; or the result was told before.
            eventually(lambda: has_attempt(life, attempt + 1) or has_succeeded(life))  # noqa: B023
        if point in NEVER_PASSED:
            assert not has_succeeded(life)
        if point.startswith("conversion.") and attempt == 2:
            assert not service.running
        if service.running:
            service.kill()
        eventually(lambda: life.processes() == {})
    (life.folder / "go").touch()
    service.environment = {}
    service.start()
    life.check()
