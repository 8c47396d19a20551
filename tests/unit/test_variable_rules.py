"""Variables: what a sum is, and what is none (SPEC 4.3.3)."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol import commands as c
from storage_protocol.errors import Refusal
from storage_service.rules import decide
from storage_service.rules.decision import Accepted, Moment
from storage_service.rules.state import Places, State, Variable, variable_key
from storage_service.rules.variables import add_var, set_var

MOST, LEAST = 2**63 - 1, -(2**63)
ABSENT: Any = object()


def holding(value: Any) -> State:
    state = State(Places())
    state.records[variable_key("default", "x")] = None if value is ABSENT else Variable("default", "x", value)
    return state


def added(value: Any, delta: int | float) -> Accepted | Refusal:
    decision = add_var(holding(value), c.AddVar(name="x", delta=delta))
    assert isinstance(decision, Accepted | Refusal)
    return decision


@pytest.mark.parametrize(
    ("value", "delta", "total"),
    [
        (ABSENT, 3, 3), (ABSENT, 0.5, 0.5), (1, 2, 3), (1, -2, -1), (1, 0, 1), (1, 0.5, 1.5), (0.5, 1, 1.5),
        (MOST - 1, 1, MOST), (LEAST + 1, -1, LEAST), (MOST, LEAST, -1), (1.0, 1, 2.0), (MOST, 1.0, float(MOST)),
    ],
)  # fmt: skip
def test_a_sum_keeps_an_int_an_int(value: Any, delta: int | float, total: int | float) -> None:
    decision = added(value, delta)
    assert isinstance(decision, Accepted)
    assert repr(decision.answer.value) == repr({"value": total})
    assert decision.registers == (Variable("default", "x", total),)
    assert repr(decision.registers[0].value) == repr(total)
    assert decision.events == ()


@pytest.mark.parametrize(
    ("value", "delta", "field"),
    [
        (True, 1, "name"), (False, 1, "name"), (None, 1, "name"), ("1", 1, "name"), ("", 0.5, "name"),
        (MOST, 1, "delta"), (LEAST, -1, "delta"), (1.5e308, 1.5e308, "delta"), (-1.5e308, -1.5e308, "delta"),
    ],
)  # fmt: skip
def test_what_is_no_number_and_what_has_no_room_changes_nothing(value: Any, delta: float, field: str) -> None:
    decision = added(value, delta)
    assert isinstance(decision, Refusal)
    assert (decision.code, decision.details) == ("bad_request", {"field": field})
    assert decision.message.endswith(".")


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "", "undef"])
def test_a_variable_is_set_whatever_it_was(value: Any) -> None:
    decision = set_var(State(Places()), c.SetVar(ns="n", name="x", value=value))
    assert isinstance(decision, Accepted)
    assert decision.registers == (Variable("n", "x", value),)
    assert decision.answer.value == {"value": value}


def test_only_a_sum_needs_to_know_what_there_was() -> None:
    state = State(Places())
    assert decide.needs(state, c.SetVar(name="x", value=1)) == []
    assert decide.needs(state, c.AddVar(ns="n", name="a/b", delta=1)) == [("variable", "n/a/b")]
    assert decide.decide(holding(1), c.AddVar(name="x", delta=1), Moment("", 0.0, 0.0, str), None)  # type: ignore[arg-type]
