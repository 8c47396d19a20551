"""What may be noted of a node, and of which (SPEC 4.4.7)."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol import commands as c
from storage_protocol.errors import Refusal
from storage_service.rules import decide
from storage_service.rules.decision import Accepted, Moment
from storage_service.rules.notes import annotate_node
from storage_service.rules.state import Acq, Group, Node, Places, Run, State

NOW = Moment("2026-05-04T07:30:00.000000Z", 0.0, 0.0, str)


def group(visible: bool = True) -> Group:
    return Group("root/g", "u", "g", "root", "file:///", "", visible, "")


def run(visible: bool = True) -> Run:
    return Run("root/g/r", "u", "r", "root/g", "s", "life", "file:///", "r", visible, "")


def acq(state: str = "open", visible: bool = True) -> Acq:
    place = ("file:///", "r/a", visible, "", "")
    return Acq("root/g/r/a", "u", "a", "root/g/r", "r", "s", *place, state=state, sealed=state != "open")


def noted(node: Node | None, name: str = "comment", value: Any = "fine", id: str = "") -> Accepted | Refusal:
    state = State(Places())
    command = c.AnnotateNode(node_id=id or (node.node_id if node else "root/x"), name=name, value=value)
    state.records["node", command.node_id] = node
    assert decide.needs(state, command) == [("node", command.node_id)]
    decision = annotate_node(state, command, NOW)
    assert isinstance(decision, Accepted | Refusal)
    return decision


@pytest.mark.parametrize("node", [run(), acq(), acq("finished"), acq("aborted")], ids=repr)
def test_runs_and_acquisitions_may_be_annotated_in_every_state(node: Run | Acq) -> None:
    decision = noted(node)
    assert isinstance(decision, Accepted)
    (event,) = decision.events
    assert (event.fact.TYPE, event.storage_id, event.subject) == ("node.annotated", "s", node.node_id)
    assert (decision.answer.value.uid, decision.answer.value.time) == ("u", NOW.time)


@pytest.mark.parametrize("node", [None, run(visible=False), acq(visible=False), group(visible=False)], ids=repr)
def test_what_is_not_in_the_rundb_is_not_found(node: Node | None) -> None:
    decision = noted(node)
    assert isinstance(decision, Refusal)
    assert (decision.code, decision.details["what"]) == ("not_found", "node")


@pytest.mark.parametrize(("node", "id"), [(group(), "root/g"), (None, "root")])
def test_a_group_is_refused_in_a_clear_sentence(node: Group | None, id: str) -> None:
    decision = noted(node, id=id)
    assert isinstance(decision, Refusal)
    assert (decision.code, decision.details) == ("bad_request", {"field": "node_id"})
    assert "only runs and acquisitions" in decision.message


@pytest.mark.parametrize("value", ["good", "bad", "unknown"])
def test_a_quality_is_one_of_three(value: str) -> None:
    assert isinstance(noted(acq(), "quality", value), Accepted)


@pytest.mark.parametrize("value", ["", "Good", "worse", None, True, 1, 0.5])
def test_a_quality_is_nothing_else(value: Any) -> None:
    decision = noted(acq(), "quality", value)
    assert isinstance(decision, Refusal)
    assert (decision.code, decision.details) == ("bad_request", {"field": "value"})


@pytest.mark.parametrize("value", ["", "x", None, True, 1, 0.5])
def test_a_comment_may_be_any_value(value: Any) -> None:
    assert isinstance(noted(run(), "Quality", value), Accepted)
