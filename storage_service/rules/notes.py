"""What is noted of runs and acquisitions after the fact: their quality, and comments (SPEC 4.4.7).

Nothing of it touches the node itself, nor its files: it may be sealed for years.
"""

from __future__ import annotations

from storage_protocol import commands, errors, records

from . import facts
from .decision import Accepted, Decision, Moment, plain
from .facts import Event
from .state import Group, State

QUALITY = "quality"
QUALITIES = ("good", "bad", "unknown")


def annotate_node(state: State, command: commands.AnnotateNode, now: Moment) -> Decision:
    node = state.node(command.node_id)
    if command.node_id == "root" or (isinstance(node, Group) and node.visible):
        message = f"{errors.shown(command.node_id)} is a group; only runs and acquisitions can be annotated."
        return errors.bad_request(message, "node_id")
    if node is None or isinstance(node, Group) or not node.visible:
        return errors.not_found("node", command.node_id)
    if command.name == QUALITY and command.value not in QUALITIES:
        message = f"The quality would be {errors.shown(command.value)}; it must be one of {', '.join(QUALITIES)}."
        return errors.bad_request(message, "value")
    fact = facts.NodeAnnotated(node.node_id, command.name, command.value, command.author)
    noted = records.Annotation(node.node_id, node.uid, command.name, command.value, command.author, now.time)
    return Accepted((Event(fact, node.storage_id, node.node_id),), plain(noted))


def findable(fact: facts.NodeAnnotated) -> str:
    """The name under which `find_nodes` finds it: no parameter is in its way."""
    return f"@{fact.name}"
