"""The finish barrier, sentence by sentence, and against a model that was written without looking at it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_protocol import commands as c
from storage_protocol.records import CountedMark
from storage_service.rules import barrier
from tests.support.world import World

ACQ = "root/g/r/a"
Name = str | None
Crowd = list[tuple[Name, bool]]


def opened(*registered: Name, count: int = 0, **args: Any) -> World:
    """A storage with these producers registered (None: without a name), and an acquisition of it."""
    world = World().init(producers_count=count).config().run()
    for name in registered:
        world.register(name)
    return world.acq(**args)


def marked(world: World, producer: Name, ok: bool = True) -> bool:
    """Mark; whether it counted."""
    command = c.MarkAsFinished(storage_id="s", acq_id=ACQ, producer=producer, ok=ok)
    return bool(world.do(command).reply.counted)


def counted(world: World, producers: Iterable[Name]) -> list[bool]:
    return [marked(world, producer) for producer in producers]


# At its start an acquisition copies the registered names R and n = max(producers_count, |R| + producers_unnamed)


@pytest.mark.parametrize(
    ("registered", "count", "expected"),
    [
        ((), 0, 0),
        ((), 1, 1),
        ((), 3, 3),
        (("a",), 0, 1),
        (("a", "b"), 1, 2),
        (("a", "b"), 5, 5),
        ((None, None), 1, 2),
        (("a", None), 0, 2),
        (("a", "b", None), 4, 4),
    ],
)
def test_n_is_the_larger_of_the_count_and_the_registrations(
    registered: tuple[Name, ...], count: int, expected: int
) -> None:
    acq = opened(*registered, count=count).acquisition()
    assert acq.expected == expected
    assert acq.required == tuple(name for name in registered if name)


def test_a_later_registration_is_for_later_acquisitions() -> None:
    world = opened("a", count=1).register("late").register(None)
    assert (world.acquisition().required, world.acquisition().expected) == (("a",), 1)
    world.acq(acq_name="b")
    later = world.acquisition("root/g/r/b")
    assert (later.required, later.expected) == (("a", "late"), 3)


def test_a_producer_that_is_unregistered_is_still_waited_for_by_the_open_acquisition() -> None:
    world = opened("a", "b")
    world.must(c.UnregisterProducer(storage_id="s", producer="b"))
    assert counted(world, ["a"]) == [True]
    assert world.acq_state() == "open"
    assert counted(world, ["b"]) == [True]
    assert world.acq_state() == "finished"


def test_producers_of_the_call_replace_the_names_and_the_unnamed() -> None:
    acq = opened("a", None, None, count=1, producers=("x", "y")).acquisition()
    assert (acq.required, acq.expected) == (("x", "y"), 2)


def test_producers_of_the_call_leave_the_storages_count() -> None:
    acq = opened("a", None, count=4, producers=("x",)).acquisition()
    assert (acq.required, acq.expected) == (("x",), 4)


def test_the_count_of_the_call_replaces_the_count_and_the_unnamed() -> None:
    acq = opened("a", None, None, count=9, producers_count=2).acquisition()
    assert (acq.required, acq.expected) == (("a",), 2)


def test_no_names_and_no_count_of_the_call_expect_nobody() -> None:
    acq = opened("a", None, count=7, producers=(), producers_count=0).acquisition()
    assert (acq.required, acq.expected) == ((), 0)


def test_a_name_that_is_given_twice_is_expected_once() -> None:
    acq = opened(count=0, producers=("x", "x")).acquisition()
    assert (acq.required, acq.expected) == (("x",), 1)


# Each name counts once


def test_a_name_counts_once() -> None:
    world = opened("a", "b")
    assert counted(world, ["a", "a", "a"]) == [True, False, False]
    assert len(world.acquisition().marks) == 1


def test_a_name_outside_r_counts_once() -> None:
    world = opened(count=3)
    assert counted(world, ["x", "x"]) == [True, False]


def test_marks_without_a_name_count_each() -> None:
    world = opened(count=3)
    assert counted(world, [None, None]) == [True, True]


# Finished when every name of R has marked and n marks are counted


def test_every_name_must_mark() -> None:
    world = opened("a", "b", count=3)
    assert counted(world, [None, "a"]) == [True, True]
    assert world.acq_state() == "open"
    assert counted(world, ["b"]) == [True]
    assert world.acq_state() == "finished"


def test_n_marks_must_be_counted() -> None:
    world = opened("a", "b", count=3)
    assert counted(world, ["a", "b"]) == [True, True]
    assert world.acq_state() == "open"
    assert counted(world, ["x"]) == [True]
    assert world.acq_state() == "finished"


# Unnamed marks and names outside R fill only the n - |R| places that no name holds


@pytest.mark.parametrize("stranger", [None, "x"])
def test_others_do_not_take_the_place_of_a_name(stranger: Name) -> None:
    world = opened("a", "b")
    assert counted(world, [stranger, "a", stranger]) == [False, True, False]
    assert world.acq_state() == "open"
    assert barrier.missing(world.acquisition().required, world.acquisition().marks) == ("b",)


def test_others_fill_the_free_places_and_no_more() -> None:
    world = opened("a", count=3)
    assert counted(world, ["x", None, None, "y"]) == [True, True, False, False]
    assert world.acq_state() == "open"
    assert counted(world, ["a"]) == [True]
    assert world.acq_state() == "finished"


# n = 0


def test_with_n_zero_only_closing_finishes_it() -> None:
    world = opened(count=0)
    assert counted(world, [None, "x"]) == [False, False]
    assert world.acq_state() == "open"
    world.close()
    assert (world.acq_state(), world.acquisition().verdict) == ("finished", "complete")


# The verdict


def test_all_marks_that_say_ok_make_it_complete() -> None:
    world = opened("a", count=2)
    counted(world, ["a", None])
    assert world.acquisition().verdict == "complete"


def test_one_mark_that_is_not_ok_makes_it_partial() -> None:
    world = opened("a", count=2)
    marked(world, "a", ok=False)
    marked(world, None, ok=False)
    acq = world.acquisition()
    assert (acq.state, acq.verdict) == ("finished", "partial")
    assert barrier.failed(acq.marks) == ("a", None)
    assert barrier.missing(acq.required, acq.marks) == ()


def test_closed_before_all_have_marked_is_partial_and_says_who_is_missing() -> None:
    world = opened("a", "b", "c", count=5)
    counted(world, ["b", None])
    reply = world.do(c.CloseAcq(storage_id="s", acq_id=ACQ, reason="beam lost")).reply
    assert (reply.verdict, reply.missing, reply.failed) == ("partial", ("a", "c"), ())
    assert (reply.expected, reply.finished, reply.reason) == (5, 2, "beam lost")


def test_closed_with_all_names_but_too_few_marks_is_partial() -> None:
    world = opened("a", count=2)
    counted(world, ["a"])
    assert world.close().acquisition().verdict == "partial"


def test_a_partial_acquisition_is_converted_like_a_complete_one() -> None:
    world = opened("a", convert_script="convert")
    outcome = world.do(c.CloseAcq(storage_id="s", acq_id=ACQ))
    assert outcome.types == ["acquisition.finished", "conversion.queued"]
    assert world.acquisition().verdict == "partial"


# The model: a list of who holds a place


class Board:
    """R seats with a name on them, and n - |R| chairs."""

    def __init__(self, required: list[str], n: int) -> None:
        self.seats = dict.fromkeys(required, False)
        self.chairs = n - len(required)
        self.seen: set[str] = set()
        self.unhappy = False

    def mark(self, name: Name, ok: bool) -> bool:
        if name is not None and name in self.seen:
            return False
        if name in self.seats:
            self.seats[str(name)] = True
        elif self.chairs > 0:
            self.chairs -= 1
        else:
            return False
        if name is not None:
            self.seen.add(name)
        self.unhappy |= not ok
        return True

    @property
    def full(self) -> bool:
        return self.chairs == 0 and all(self.seats.values())


people = st.sampled_from([None, "a", "b", "c", "d", "e"])
crowds = st.lists(st.tuples(people, st.booleans()), max_size=14)
teams = st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True, max_size=4)


@given(required=teams, unnamed=st.integers(0, 2), count=st.integers(0, 6), crowd=crowds)
def test_the_barrier_is_the_board(required: list[str], unnamed: int, count: int, crowd: Crowd) -> None:
    n = barrier.expected_marks(tuple(required), count, unnamed)
    assert n == max(count, len(required) + unnamed)
    board = Board(required, n)
    marks: tuple[CountedMark, ...] = ()
    for name, ok in crowd:
        if n and board.full:
            break
        counts = barrier.counts(tuple(required), n, marks, name)
        assert counts == board.mark(name, ok)
        if counts:
            marks = (*marks, CountedMark(name, ok, {}, ""))
        assert len(marks) <= n
        assert barrier.is_met(tuple(required), n, marks) == (n > 0 and board.full)
    assert barrier.missing(tuple(required), marks) == tuple(r for r, there in board.seats.items() if not there)
    whole = n == 0 or board.full
    verdict = "complete" if whole and not board.unhappy else "partial"
    assert barrier.verdict(tuple(required), n, marks) == verdict


@settings(max_examples=100)
@given(required=teams, unnamed=st.integers(0, 2), count=st.integers(0, 5), crowd=crowds)
def test_an_acquisition_is_finished_exactly_once(
    required: list[str], unnamed: int, count: int, crowd: Crowd
) -> None:
    world = opened(*required, *[None] * unnamed, count=count)
    n = max(count, len(required) + unnamed)
    board, finished = Board(required, n), 0
    for name, ok in crowd:
        over = n > 0 and board.full
        command = c.MarkAsFinished(storage_id="s", acq_id=ACQ, producer=name, ok=ok)
        outcome = world.do(command)
        assert outcome.reply.counted == (not over and board.mark(name, ok))
        finished += outcome.types.count("acquisition.finished")
        assert finished == (n > 0 and board.full)
        assert outcome.types == [
            *["acquisition.producer_finished"] * outcome.reply.counted,
            *["acquisition.finished"] * (not over and finished),
        ]
    if finished:
        assert world.acquisition().verdict == ("partial" if board.unhappy else "complete")
