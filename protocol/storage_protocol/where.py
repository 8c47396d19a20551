"""The `where` of `find_nodes` (SPEC 4.4): conditions on parameters, all of which must hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from . import names
from .errors import Refusal, bad_request, invalid_name, shown

OPERATORS = ("eq", "ne", "lt", "le", "gt", "ge", "in", "like")
MAX_IN = 256
MAX_CONDITIONS = 64


class Condition(Struct, frozen=True):
    """`param operator operand`; the operand of `in` is a tuple of values, of `like` a text with `*` and `?`."""

    param: str
    operator: str
    operand: Any


def parse(where: Mapping[str, Any]) -> tuple[Condition, ...] | Refusal:
    """The conditions of a `where`, or why it is none."""
    conditions = []
    for param, wanted in where.items():
        if wrong := names.param(param):
            return invalid_name("where", "param", f"{shown(param)} is no name of a parameter: {wrong}.")
        comparisons = wanted if isinstance(wanted, dict) else {"eq": wanted}
        if not comparisons:
            return _bad(param, "an empty map", "it must hold one of " + ", ".join(OPERATORS))
        for operator, operand in comparisons.items():
            if why := _wrong(operator, operand):
                return _bad(param, f"{operator}: {shown(operand)}", why)
            operand = tuple(operand) if operator == "in" else operand
            conditions.append(Condition(param, operator, operand))
    if len(conditions) > MAX_CONDITIONS:
        return bad_request(f"where has {len(conditions)} conditions; {MAX_CONDITIONS} are the most.", "where")
    return tuple(conditions)


def _wrong(operator: str, operand: object) -> str | None:
    if operator not in OPERATORS:
        return "the comparisons are " + ", ".join(OPERATORS)
    if operator == "in":
        if not isinstance(operand, (list, tuple)) or len(operand) > MAX_IN:
            return f"in takes a list of at most {MAX_IN} values"
        return next((wrong for each in operand if (wrong := names.value(each))), None)
    if operator == "like":
        return None if isinstance(operand, str) else "like takes a text with * and ?"
    return names.value(operand)


def _bad(param: str, what: str, why: str) -> Refusal:
    return bad_request(f"where has {what} for {shown(param)}; {why}.", "where")
