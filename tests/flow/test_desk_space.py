"""Looks at mount points on their way into the journal: a change is told once, and again when it was lost."""

from __future__ import annotations

from storage_service.desk.desk import LOOKED
from storage_service.rules.space import Look
from tests.support.step_shell import StepShell


def look(shell: StepShell, free: int | None, mp: str = "file:///") -> StepShell:
    shell.desk.outcome(LOOKED, Look(mp, free, "It does not answer.", 100, 1000), shell.now)
    return shell.run()


def told(shell: StepShell) -> list[tuple[str, object]]:
    return [(event.type, event.data["free_bytes"]) for event in shell.events]


def test_a_change_is_told_once() -> None:
    shell = StepShell()
    for free in (5000, 500, 400, 50, 40, None, None, 50, 5000, 5000):
        look(shell, free)
    assert told(shell) == [
        ("mount.low", 500), ("mount.full", 50), ("mount.unreachable", None),
        ("mount.recovered", 50), ("mount.full", 50), ("mount.recovered", 5000),
    ]  # fmt: skip
    assert {event.subject for event in shell.events} == {"file:///"}
    shell.sound()


def test_each_mount_point_is_told_of_by_itself() -> None:
    shell = StepShell()
    for mp in ("a", "b", "a"):
        look(shell, 50, mp)
    assert [event.subject for event in shell.events] == ["a", "b"]


def test_a_start_remembers_nothing_and_tells_what_is_wrong_once() -> None:
    shell = look(StepShell(), 50).restart()
    assert told(look(look(shell, 50), 50)) == [("mount.full", 50)]
    assert told(look(shell.restart(), 5000)) == []


def test_what_was_rolled_back_is_told_by_the_next_look() -> None:
    shell = look(StepShell(), 500)
    shell.hold_commits = True
    look(shell, 50)
    shell.roll_back().run()
    shell.hold_commits = False
    assert told(look(look(shell, 50), 50)) == [("mount.low", 500), ("mount.full", 50)]
    shell.sound()


def test_what_is_well_again_before_its_loss_was_durable_is_told_as_nothing() -> None:
    shell = StepShell()
    shell.hold_commits = True
    look(shell, 50)
    shell.roll_back().run()
    shell.hold_commits = False
    assert told(look(shell, 5000)) == []
