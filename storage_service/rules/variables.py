"""Variables: durable registers without history, set and added to (SPEC 4.3)."""

from __future__ import annotations

from storage_protocol import commands, errors, names

from .decision import Accepted, Decision, plain
from .state import State, Variable


def set_var(state: State, command: commands.SetVar) -> Decision:
    return _becomes(Variable(command.ns, command.name, command.value))


def add_var(state: State, command: commands.AddVar) -> Decision:
    """The sum is decided on the newest value, be it durable or not: no two commands add around each other."""
    found = state.variable(command.ns, command.name)
    before = 0 if found is None else found.value
    where = f"The variable {errors.shown(command.name)} of {command.ns}"
    if isinstance(before, bool) or not isinstance(before, int | float):
        message = f"{where} is {errors.shown(before)}, which is no number; set_var can make it one."
        return errors.bad_request(message, "name")
    value = before + command.delta
    if wrong := names.value(value):
        message = f"{where} is {before}; with {command.delta} more it would be {value}, and {wrong}."
        return errors.bad_request(message, "delta")
    return _becomes(Variable(command.ns, command.name, value))


def _becomes(variable: Variable) -> Accepted:
    return Accepted((), plain({"value": variable.value}), registers=(variable,))
