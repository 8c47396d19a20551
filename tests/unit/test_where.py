"""The `where` of `find_nodes` (SPEC 4.4)."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol.errors import Refusal
from storage_protocol.where import Condition, parse


@pytest.mark.parametrize(
    ("where", "conditions"),
    [
        ({}, ()),
        ({"x": 1}, (Condition("x", "eq", 1),)),
        ({"x": None}, (Condition("x", "eq", None),)),
        ({"x": "undef"}, (Condition("x", "eq", "undef"),)),
        ({"x": {"ge": 1, "lt": 2}}, (Condition("x", "ge", 1), Condition("x", "lt", 2))),
        ({"x": {"in": [1, "a", None]}}, (Condition("x", "in", (1, "a", None)),)),
        ({"x": {"in": []}}, (Condition("x", "in", ()),)),
        ({"x": {"like": "a*?"}}, (Condition("x", "like", "a*?"),)),
        ({"x": {"ne": True}, "y": 0.5}, (Condition("x", "ne", True), Condition("y", "eq", 0.5))),
        ({"x": {"in": [0] * 256}}, (Condition("x", "in", (0,) * 256),)),
    ],
    ids=str,
)
def test_conditions(where: dict[str, Any], conditions: tuple[Condition, ...]) -> None:
    assert parse(where) == conditions


@pytest.mark.parametrize("operator", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_every_comparison(operator: str) -> None:
    assert parse({"x": {operator: 1}}) == (Condition("x", operator, 1),)


@pytest.mark.parametrize(
    "where",
    [
        {"x": {}},
        {"x": {"equals": 1}},
        {"x": {"eq": 1, "nope": 1}},
        {"x": [1, 2]},
        {"x": {"eq": [1]}},
        {"x": {"eq": {"eq": 1}}},
        {"x": {"in": 1}},
        {"x": {"in": "abc"}},
        {"x": {"in": [0] * 257}},
        {"x": {"in": [[1]]}},
        {"x": {"like": 1}},
        {"x": 2**63},
        {"x": {"lt": b"raw"}},
        {f"x{number}": 1 for number in range(65)},
    ],
    ids=lambda where: str(where)[:40],
)
def test_what_is_no_condition_is_a_bad_request(where: dict[str, Any]) -> None:
    refusal = parse(where)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.details) == ("bad_request", {"field": "where"})


@pytest.mark.parametrize("name", ["", " x", "x" * 129, "a\nb"])
def test_a_name_that_no_parameter_can_have_is_invalid(name: str) -> None:
    refusal = parse({name: 1})
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.details) == ("invalid_name", {"field": "where", "rule": "param"})
