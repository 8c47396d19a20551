"""Of each variable at most ten values a second are told, and always the newest (SPEC 4.3.5)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_service.desk.telling import QUIET_S, Telling
from storage_service.rules.state import Variable


def x(value: int, name: str = "x") -> Variable:
    return Variable("default", name, value)


def test_a_quiet_name_is_told_at_once_and_a_busy_one_later() -> None:
    telling = Telling()
    assert telling.changed([x(1), x(1, "y")], 0.0) == [x(1), x(1, "y")]
    assert telling.changed([x(2)], 0.01) == []
    assert telling.changed([x(3)], 0.02) == []
    assert telling.next() == pytest.approx(QUIET_S)
    assert telling.due(QUIET_S / 2) == []
    assert telling.due(QUIET_S) == [x(3)]
    assert telling.changed([x(4)], QUIET_S + 0.01) == []
    assert telling.due(2 * QUIET_S) == [x(4)]
    assert telling.due(3 * QUIET_S) == []
    assert telling.next() is None


def test_what_waits_at_the_end_is_told_then() -> None:
    telling = Telling()
    telling.changed([x(1)], 0.0)
    telling.changed([x(2)], 0.01)
    assert telling.rest() == [x(2)]
    assert (telling.rest(), telling.due(1.0)) == ([], [])


@given(st.lists(st.tuples(st.floats(0.0, 0.3), st.sampled_from("xy")), max_size=40))
def test_whatever_comes_each_name_is_told_seldom_and_at_last(steps: list[tuple[float, str]]) -> None:
    telling, mono = Telling(), 0.0
    told: list[tuple[float, Variable]] = []
    newest: dict[str, Variable] = {}

    def until(end: float) -> None:
        nonlocal mono
        while (due := telling.next()) is not None and due <= end:
            mono = max(mono, due)
            told.extend((mono, each) for each in telling.due(mono))
        mono = end

    for number, (wait, name) in enumerate(steps):
        until(mono + wait)
        newest[name] = x(number, name)
        told += [(mono, each) for each in telling.changed([newest[name]], mono)]
    until(mono + 1.0)
    assert telling.next() is None
    for name, last in newest.items():
        times = [at for at, each in told if each.name == name]
        assert [each for _, each in told if each.name == name][-1] == last
        assert all(later - sooner >= QUIET_S * 0.999 for sooner, later in pairwise(times))
