"""What does not come: the barrier without silent producers, and what is told of them."""

from __future__ import annotations

import pytest

from storage_protocol.records import CountedMark
from storage_service.rules import barrier, silence
from storage_service.rules.state import Acq
from tests.support.world import World


def marks(*producers: str | None) -> tuple[CountedMark, ...]:
    return tuple(CountedMark(each, True, {}, "") for each in producers)


@pytest.mark.parametrize(
    ("required", "expected", "marked", "silent", "over"),
    [
        (("a", "b"), 2, ("a",), {"b"}, True),
        (("a", "b"), 2, ("a",), set(), False),
        (("a", "b"), 2, ("a",), {"a"}, False),
        (("a", "b"), 2, (), {"a", "b"}, True),  # everybody is silent: it is over
        (("a", "b"), 2, (), {"b"}, False),
        (("a", "b", "c"), 3, ("a",), {"b"}, False),  # c is waited for
        (("a", "b"), 3, ("a",), {"b"}, False),  # so is one without a name
        (("a", "b"), 3, ("a", None), {"b"}, True),
        (("a",), 2, (None,), {"a"}, True),
        ((), 1, (), set(), False),  # who has no name cannot be silent
        ((), 0, (), set(), False),  # only closing finishes it
    ],
)
def test_nobody_but_silent_producers_is_waited_for(
    required: tuple[str, ...], expected: int, marked: tuple[str | None, ...], silent: set[str], over: bool
) -> None:
    assert barrier.is_met_without(required, expected, marks(*marked), silent) is over


def waiting(**init: float) -> World:
    world = World().init(**init).register("a").register("b").config().run()
    return world.acq(convert_script="convert").mark("a", summary={"events": 7})


def ended(world: World) -> Acq:
    acq = world.acquisition()
    assert (acq.state, acq.verdict) == ("finished", "partial")
    assert world.conversion_state() == "queued"
    return acq


def test_a_finish_time_out_says_who_is_missing_and_why() -> None:
    world = waiting()
    events = world.apply(silence.finish_timed_out(world.acquisition(), 2.5, world.moment()))
    assert [each.fact.TYPE for each in events] == ["acquisition.finished", "conversion.queued"]
    acq = ended(world)
    assert barrier.missing(acq.required, acq.marks) == ("b",)
    assert acq.reason == "finish_timeout_s: 2.5 s have passed since the first mark"


def test_an_acquisition_without_its_silent_producers_is_partial() -> None:
    world = waiting()
    assert silence.others_marked(world.acquisition(), ["a"], world.moment()) == []
    world.apply(silence.others_marked(world.acquisition(), ["b"], world.moment()))
    assert ended(world).reason == "producer_timeout_s: nothing is heard of b"


def test_what_has_ended_is_not_ended_again() -> None:
    world = waiting().close()
    acq = world.acquisition()
    assert silence.finish_timed_out(acq, 1.0, world.moment()) == []
    assert silence.others_marked(acq, ["b"], world.moment()) == []


def test_a_producer_is_lost_once_and_back_once() -> None:
    world = waiting()
    for expected in (["storage.producer_lost"], []):
        events = world.apply(silence.producers_silent(world.storage(), ["b"], 1.5))
        assert [each.fact.TYPE for each in events] == expected
    storage = world.storage()
    assert storage.lost == ("b",)
    assert [(each.what, each.message) for each in storage.warnings] == [
        ("producer_lost", "Nothing was heard of the producer b for 1.5 s.")
    ]
    for expected in (["storage.producer_back"], []):
        events = world.apply(silence.producer_heard(world.storage(), "b"))
        assert [each.fact.TYPE for each in events] == expected
    assert world.storage().lost == ()


def test_nobody_is_lost_where_nothing_is_acquired() -> None:
    world = waiting().close()
    assert silence.producers_silent(world.storage(), ["b"], 1.5) == []
