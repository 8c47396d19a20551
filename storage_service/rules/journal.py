"""The journal's oldest events are given up, when somebody asks for it (SPEC 4.6)."""

from __future__ import annotations

from storage_protocol import commands, errors

from .decision import Accepted, Decision, plain
from .state import State


def prune_events(state: State, command: commands.PruneEvents) -> Decision:
    """Nothing else depends on the journal: the tables are the state of record."""
    last_seq = state.last_seq()
    if command.before_seq > last_seq + 1:
        most = f"the journal ends with {last_seq}, so {last_seq + 1} is the most"
        message = f"before_seq is {command.before_seq}; {most}."
        return errors.bad_request(message, "before_seq")
    return Accepted((), plain({"before_seq": command.before_seq}), prunes_before=command.before_seq)
