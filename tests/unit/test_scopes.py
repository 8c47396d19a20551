"""Who is in whose way: the index gives what the definition does."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from storage_service.desk.scopes import Scopes
from storage_service.rules.scope import Scope, above

NODES = ["", "root/g", "root/g/r", "root/g/r/a", "root/g/r/a/b", "root/g/r/ab", "root/g/r{n}", "root/h/r/a"]
SCOPES = st.builds(Scope, st.sampled_from(["", "s", "t"]), st.booleans(), st.sampled_from(NODES))
STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.none() | SCOPES), max_size=12)


def collide(one: Scope, other: Scope) -> bool:
    """The definition: the same storage, one of them all of it, or nodes of which one is the other or above it."""
    if one.storage and one.storage == other.storage and (one.whole or other.whole):
        return True
    inner, outer = sorted((f"{one.node}/", f"{other.node}/"), key=len, reverse=True)
    return bool(one.node and other.node) and inner.startswith(outer)


def test_a_node_is_below_itself_and_all_above_it() -> None:
    assert above("root/g/r") == ["root", "root/g", "root/g/r"]


@given(STEPS, SCOPES)
def test_in_the_way_is_who_collides(steps: list[tuple[str, Scope | None]], asked: Scope) -> None:
    scopes, held = Scopes(), dict[str, Scope]()
    for holder, scope in steps:
        if scope is None:
            assert scopes.release(holder) == (held.pop(holder, None) is not None)
        else:
            scopes.hold(holder, scope)
            held[holder] = scope
    nobody: Any = object()
    there = {holder for holder, scope in held.items() if collide(scope, asked)}
    found = scopes.in_the_way(asked, nobody)
    assert (found in there) if there else found is None
    for holder in held:
        scopes.release(holder)
    assert scopes.in_the_way(Scope("s", whole=True, node="root"), nobody) is None
    assert not scopes.held


def test_nobody_is_in_their_own_way() -> None:
    scopes = Scopes()
    mine: Any = object()
    other: Any = object()
    scopes.hold(mine, Scope("s", node="root/g/r/a"))
    assert scopes.in_the_way(Scope("s", node="root/g/r/a"), mine) is None
    assert scopes.in_the_way(Scope("s", node="root/g/r"), other) is mine
