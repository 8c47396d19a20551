"""Parameters of runs and acquisitions: which may be set, and how many there may be (SPEC 2.11, 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storage_protocol import codec, commands
from storage_protocol.errors import Refusal
from storage_protocol.limits import Limits
from storage_protocol.names import Value, value_bytes

from . import facts
from .decision import Accepted, Decision, Moment, plain
from .facts import Event
from .lifecycle import transition
from .ownership import fitting_acq, own_run, run_id_of, the_storage, wrong_acq_state
from .state import Acq, Run, State

STORED, NOT_STORED = plain({"stored": True}), plain({"stored": False})
"""The answers of commands that set a parameter."""


def set_param_acq(state: State, command: commands.SetParamAcq, now: Moment, limits: Limits) -> Decision:
    acq = settable_acq(state, command)
    if not isinstance(acq, Acq):
        return acq
    if refusal := params_over(acq, {command.param: command.value}, limits):
        return refusal
    fact = facts.AcqParamSet(acq.node_id, command.param, command.value)
    return Accepted((Event(fact, acq.storage_id, acq.node_id),), STORED)


def settable_acq(state: State, command: commands.SetParamAcq) -> Acq | Decision:
    """The acquisition of which the command may set any parameter; else what becomes of the command."""
    acq = fitting_acq(state, command)
    if isinstance(acq, Refusal):
        return acq
    if transition("acquisition", acq.state, command.CMD) is None:
        return wrong_acq_state(acq, command.CMD)
    storage = state.storage(command.storage_id)
    if storage is not None and not storage.init.use_rundb:
        return Accepted((), NOT_STORED)
    return acq


def set_param_run(state: State, command: commands.SetParamRun, now: Moment, limits: Limits) -> Decision:
    storage = the_storage(state, command.storage_id)
    if isinstance(storage, Refusal):
        return storage
    run = own_run(state, storage, run_id_of(storage, command.run_name))
    if isinstance(run, Refusal):
        return run
    if not storage.init.use_rundb:
        return Accepted((), NOT_STORED)
    if refusal := params_over(run, {command.param: command.value}, limits):
        return refusal
    fact = facts.RunParamSet(run.node_id, command.param, command.value)
    return Accepted((Event(fact, storage.storage_id, run.node_id),), STORED)


def params_over(node: Run | Acq, more: Mapping[str, Value], limits: Limits) -> Refusal | None:
    """Why these parameters cannot be set on top of what the node has."""
    count, size, params = len(node.params), node.params_bytes, node.params
    for name, value in more.items():
        if name in params:
            size -= value_bytes(params[name])
        else:
            count += 1
            size += value_bytes(name)
        size += value_bytes(value)
    return codec.params_over(count, size, limits)


def how_many_fit(node: Acq, given: Sequence[tuple[str, Value]], most_bytes: int, limits: Limits) -> int:
    """How many of these parameters can be set one after the other, until one is too many or too large.

    most_bytes  what all of them count against the limit, at most: where even that fits, nothing is looked at
    """
    if len(node.params) + len(given) <= limits.params and node.params_bytes + most_bytes <= limits.params_bytes:
        return len(given)
    count, size, new = len(node.params), node.params_bytes, dict[str, Value]()
    for fit, (name, value) in enumerate(given):
        if name in new or name in node.params:
            size -= value_bytes(new[name] if name in new else node.params[name])
        else:
            count += 1
            size += value_bytes(name)
        size += value_bytes(value)
        if codec.params_over(count, size, limits):
            return fit
        new[name] = value
    return len(given)
