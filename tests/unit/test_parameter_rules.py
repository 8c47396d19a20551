"""How many parameters an acquisition has room for: a row of them is judged as each of them would be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from storage_protocol.codec import params_bytes
from storage_protocol.limits import Limits
from storage_protocol.names import NUMBER_BYTES, Value, value_bytes
from storage_service.rules.parameters import how_many_fit, params_over
from storage_service.rules.state import Acq
from tests.support.world import World

Given = list[tuple[str, Value]]


ACQ = World().init().config().run().acq().acquisition()


def acq_with(params: dict[str, Value]) -> Acq:
    return replace(ACQ, params=params, params_bytes=params_bytes(params))


def one_after_the_other(acq: Acq, given: Given, limits: Limits) -> int:
    """How many are set until the first one is refused."""
    for fit, (name, value) in enumerate(given):
        if params_over(acq, {name: value}, limits):
            return fit
        acq = replace(acq, params={**acq.params, name: value})
        acq = replace(acq, params_bytes=params_bytes(acq.params))
    return len(given)


def most(given: Given) -> int:
    """What all of them count, were none of them there already."""
    return sum(value_bytes(name) + value_bytes(value) for name, value in given)


names = st.one_of(st.sampled_from(["a", "b", "c", "long name", "\u00fc"]), st.text(min_size=1, max_size=4))
texts = st.text(alphabet="x\u00fc\u20ac\U0001f600", max_size=12)
values: st.SearchStrategy[Value] = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.just(0.5), texts)
limits = st.builds(Limits, params=st.integers(0, 8), params_bytes=st.integers(0, 120))


@settings(max_examples=1000)
@given(
    st.dictionaries(names, values, max_size=5),
    st.lists(st.tuples(names, values), max_size=10),
    limits,
    st.one_of(st.just(0), st.integers(0, 100)),
)
def test_as_many_fit_as_would_be_set_one_after_the_other(
    params: dict[str, Value], given: Given, limits: Limits, above: int
) -> None:
    acq = acq_with(params)
    assert how_many_fit(acq, given, most(given) + above, limits) == one_after_the_other(acq, given, limits)
    assert (acq.params, acq.params_bytes) == (params, params_bytes(params))


ROWS: list[tuple[Given, int]] = [
    ([], 0),
    ([("new", 1)], 1),
    ([("new", 1), ("newer", 1)], 1),
    ([("x", 2), ("y", "z"), ("new", 1), ("x", 3), ("newer", 1)], 4),
    ([("x", "text"), ("x", None), ("y", "text")], 3),
    ([("x", "t" * 21)], 1),
    ([("x", "t" * 22)], 0),
    ([("new", "t" * 10), ("new", "t" * 11)], 1),
    ([("x", ""), ("new", "t" * 18), ("x", "t")], 2),
    ([("x", "\u20ac" * 7)], 1),
    ([("x", "\u20ac" * 8)], 0),
]


@pytest.mark.parametrize(("given", "fit"), ROWS)
def test_what_stands_there_already_makes_room_when_it_is_set_anew(given: Given, fit: int) -> None:
    acq = acq_with({"x": 1, "y": "text"})
    limits = Limits(params=3, params_bytes=27)
    assert acq.params_bytes == 1 + NUMBER_BYTES + 1 + 4
    for above in (0, 10_000):
        assert how_many_fit(acq, given, most(given) + above, limits) == fit
