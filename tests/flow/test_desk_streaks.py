"""Parameters in a row come to the same as one by one: a streak is a shorter way, and not another one.

The same commands are sent again and again to copies of one place: so that they are decided in streaks, and so that
none of them can be. While somebody else's storage is at a door, every command goes the long way.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from storage_protocol import codec
from storage_protocol import commands as c
from storage_protocol.commands import Command
from storage_protocol.keys import uuid7
from storage_protocol.limits import Limits
from storage_service.desk.messages import Opened, open_message
from tests.support.memory_store import MemoryStore
from tests.support.step_shell import START, StepShell, close, config, init, new_acq, new_run

LIMITS = Limits(params=9, params_bytes=160, value_bytes=64)
START_MS = int(START * 1000)
DAY_MS = 86_400_000
STORED = "stored before"


def own(storage_id: str) -> bytes:
    """Storages have keys of their own: those of one connection may overtake each other."""
    return storage_id.encode().ljust(10, b"\0")


def stored_key(storage_id: str) -> str:
    return uuid7(START_MS, own(storage_id))


# The place


def set_param(storage_id: str, acq_id: str, param: str = STORED, value: Any = 1) -> c.SetParamAcq:
    return c.SetParamAcq(storage_id=storage_id, acq_id=acq_id, param=param, value=value)


@cache
def place() -> MemoryStore:
    """Storages s and t with open acquisitions, n without RunDB, and w, which is not configured."""
    shell = StepShell(limits=LIMITS).must(init("w", brg_name="w", brg_path="w"))
    for storage_id, more in (("s", {}), ("t", {}), ("n", {"use_rundb": False})):
        shell.must(init(storage_id, brg_name=storage_id, brg_path=storage_id, **more), config(storage_id))
        shell.must(new_run(storage_id), new_acq(storage_id))
        assert shell.call(set_param(storage_id, f"root/{storage_id}/r/a"), stored_key(storage_id)).ok
    shell.must(new_acq(acq_name="b"), new_acq(acq_name="done"), close("root/s/r/done"))
    store = shell.store
    assert isinstance(store, MemoryStore)
    store.forgotten_ms = START_MS - 4 * DAY_MS
    return store


def a_place(*, in_memory: bool = True) -> StepShell:
    """A life on a copy of it, in which no door answers. `in_memory`: all that is set is known already."""
    shell = StepShell(limits=LIMITS, store=copy.deepcopy(place()))
    shell.door = lambda order: None
    for storage_id, acq_id in (("s", "a"), ("s", "b"), ("s", "done"), ("t", "a"), ("n", "a")):
        if in_memory:
            asked = replace(set_param(storage_id, f"root/{storage_id}/r/{acq_id}"), uid="of nobody")
            assert not shell.call(asked).ok
    shell.replies.clear()
    shell.messages.clear()
    return shell


def with_a_door_held(shell: StepShell) -> StepShell:
    """While the storage w is at its door, there are no streaks."""
    shell.send(config("w"), peer=b"w")
    return shell.run()


# What is sent

Asked = tuple[Command, str | None]

TARGETS = [
    *[("s", "root/s/r/a")] * 8,
    *[("s", "root/s/r/b")] * 3,
    *[("t", "root/t/r/a")] * 3,
    *[("n", "root/n/r/a")] * 2,
    ("s", "root/s/r/done"),
    ("s", "root/s/r/none"),
    ("s", "root/t/r/a"),
    ("nobody", "root/s/r/a"),
]
# In the middle of a row: it is for another segment or life, another acquisition, or of another storage.
ASTRAY: list[dict[str, Any]] = [
    *[{}] * 20,
    {"segment": 1},
    {"segment": 2},
    {"uid": "of another one"},
    {"acq_id": "root/s/r/b"},
    {"storage_id": "t"},
]
OTHERS: list[Command] = [
    c.MarkAsFinished(storage_id="s", acq_id="root/s/r/b"),
    c.MarkAsFinished(storage_id="t"),
    close("root/s/r/a"),
    c.AbortAcq(storage_id="t", acq_id="root/t/r/a"),
    c.RegisterProducer(storage_id="s", producer="p"),
    c.SetParamRun(storage_id="s", run_name="r", param="p0", value=1),
    c.AnnotateNode(node_id="root/s/r/a", name="quality", value="good"),
    c.Ping(),
    c.Describe(),
    c.GetAcq(acq_id="root/s/r/a"),
    c.GetStorage(storage_id="t"),
    c.ListStorages(),
]
NAMES = [*(f"p{number}" for number in range(7)), "ü", "of a longer name", STORED]
# The last one is more than a value may have, and has its refusal before anything is decided.
VALUES = [*(None, True, 7, 2.5, "", "x", "x" * 20, "ü" * 15, "y" * 50), "z" * 65]
KINDS = [*[""] * 6, *["fresh"] * 12, *["again 0", "again 1", "again 2"] * 2, "plain 0", "plain 1"]
SELDOM = ["stored", "old", "expired", "ahead"]


def key_of(kind: str, storage_id: str, at: int) -> str | None:
    """
    fresh    made now, for this command alone; `ahead`: by a clock that is wrong
    again    made now, and given to several commands; `plain`: the same, and no UUIDv7
    stored   in the database, with a command; `old`: from before that, and never used; `expired`: long before
    """
    match kind.partition(" "):
        case ("fresh", *_):
            return uuid7(START_MS + 10_000 - at, own("fresh"))
        case ("again", _, number):
            return uuid7(START_MS + 5_000 + int(number), own(storage_id))
        case ("plain", _, number):
            return f"{storage_id} {number}"
        case ("ahead", *_):
            return uuid7(START_MS + DAY_MS, own(storage_id))
        case ("stored", *_):
            return stored_key(storage_id)
        case ("old", *_):
            return uuid7(START_MS - 1, own(storage_id))
        case ("expired", *_):
            return uuid7(START_MS - 5 * DAY_MS, own(storage_id))
        case _:
            return None


Row = list[tuple[str, Any, str, dict[str, Any]]]


def row_of(target: tuple[str, str], row: Row) -> list[tuple[Command, str]]:
    """Commands of one target, each with the kind of its key."""
    found: list[tuple[Command, str]] = []
    for param, value, kind, astray in row:
        asked = set_param(*target, param, value)
        if kind == "stored" and param == STORED:
            asked = set_param(*target)
        elif astray:
            asked = replace(asked, **astray)
        found.append((asked, kind))
    return found


def keyed(rows: list[list[tuple[Command, str]]]) -> list[Asked]:
    asked = [each for row in rows for each in row]
    return [
        (command, key_of(kind, getattr(command, "storage_id", ""), at)) for at, (command, kind) in enumerate(asked)
    ]


one = st.tuples(
    st.sampled_from(NAMES), st.sampled_from(VALUES), st.sampled_from(KINDS + SELDOM), st.sampled_from(ASTRAY)
)
in_a_row = st.builds(row_of, st.sampled_from(TARGETS), st.lists(one, min_size=1, max_size=12))
another = st.tuples(st.sampled_from(OTHERS), st.sampled_from(KINDS)).map(lambda each: [each])
many = st.lists(st.one_of(in_a_row, in_a_row, in_a_row, another), min_size=1, max_size=8).map(keyed)
"""Parameters in rows, and here and there something else."""


def framed(asked: Sequence[Asked]) -> list[bytes]:
    return [codec.encode_command(at, *each) for at, each in enumerate(asked)]


# How it is sent


def one_by_one(shell: StepShell, frames: list[bytes]) -> None:
    """Each by itself, the next when nothing moves any more; and none is a streak."""
    with_a_door_held(shell)
    for frame in frames:
        shell.take([b"p", frame])
        shell.run()


def in_one_message_the_long_way(shell: StepShell, frames: list[bytes]) -> None:
    with_a_door_held(shell).take([b"p", *frames])


def in_one_message(shell: StepShell, frames: list[bytes]) -> None:
    shell.take([b"p", *frames])


def in_bites(shell: StepShell, frames: list[bytes]) -> None:
    """One message, of which a few commands are taken at once."""
    opened = Opened([b"p", b"", *frames], LIMITS)
    while opened.left:
        shell.desk.take([opened.bite(5, 1 << 20)[0]], shell.now)
        shell.turn()


def in_one_take(shell: StepShell, frames: list[bytes]) -> None:
    """Each a message of its own, and all of them taken at once."""
    shell.desk.take([open_message([b"p", frame], LIMITS) for frame in frames], shell.now)


def in_some_messages(shell: StepShell, frames: list[bytes]) -> None:
    """A few at once, some of them in messages of several."""
    sizes = [1, 1, 1, 4, 2, 1, 7]
    while frames:
        bites = []
        for size in sizes[len(frames) % 3 :]:
            taken, frames = frames[:size], frames[size:]
            bites += [open_message([b"p", *taken], LIMITS)] if taken else []
        shell.desk.take(bites, shell.now)
        shell.turn()


# What it came to


def memory(shell: StepShell) -> dict[Any, Any]:
    return {key: record for key, record in shell.desk.state.records.items() if record is not None}


def bodies(shell: StepShell) -> list[bytes]:
    """The new events."""
    return [row.body for row in shell.store.journal[place().last_seq :]]


def of_each(events: list[bytes]) -> dict[str, list[bytes]]:
    """The events of each storage, without their numbers: storages may overtake each other."""
    found: dict[str, list[bytes]] = {}
    for told in map(msgspec.msgpack.decode, events):
        found.setdefault(told["storage_id"], []).append(codec.encode_value({**told, "seq": 0, "prev_seq": 0}))
    return found


def came_to(shell: StepShell) -> dict[str, Any]:
    """Everything that must not depend on how commands were sent, when nothing moves any more."""
    shell.sound()
    for parts in shell.messages:
        ids: list[Any] = [codec.decode_reply(frame).id for frame in parts[1:] if frame]
        assert ids == list(range(ids[0], ids[0] + len(ids))), "the replies of a message are not in order"
    known = memory(shell)
    # The bytes of the parameters are counted anew in the store.
    assert known == {key: shell.store.record(key) for key in known}
    assert shell.desk.keyring.at_work == {}
    return {
        "replies": {id: reply for (peer, id), reply in shell.replies.items() if peer == b"p"},
        "events": of_each(bodies(shell)),
        "records": shell.store.everything(),
        "memory": known,
        "keys": {key: remembered for key, (remembered, _) in shell.store.keys.items()},
    }


WAYS = [in_one_message_the_long_way, in_one_message, in_bites, in_one_take, in_some_messages]
IN_ORDER = WAYS[:3]
"""Of one message, nothing overtakes anything, whatever storage it concerns."""


@given(many, st.booleans())
def test_however_commands_are_sent_they_come_to_the_same(asked: list[Asked], in_memory: bool) -> None:
    frames = framed(asked)
    reference = a_place(in_memory=in_memory)
    one_by_one(reference, frames)
    expected, told = came_to(reference), bodies(reference)
    assert len(expected["replies"]) == len(frames)
    for code in {reply.error.code if reply.error else "ok" for reply in expected["replies"].values()}:
        event(code)
    for way in WAYS:
        shell = a_place(in_memory=in_memory)
        way(shell, frames)
        shell.run()
        assert came_to(shell) == expected, way.__name__
        assert way not in IN_ORDER or bodies(shell) == told, way.__name__


@settings(max_examples=100)
@given(many)
def test_what_was_rolled_back_never_happened_and_comes_to_the_same_when_it_is_sent_again(
    asked: list[Asked],
) -> None:
    frames = framed(asked)
    reference = a_place()
    one_by_one(reference, frames)
    expected, told = came_to(reference), bodies(reference)
    for way in (in_one_message, in_one_take):
        shell = a_place()
        before, keys = memory(shell), dict(shell.store.keys)
        shell.hold_commits = True
        way(shell, frames)
        shell.run()
        while shell.batch is not None:
            shell.roll_back().run()
        assert len(shell.replies) == len(frames)
        assert {key: memory(shell).get(key) for key in before} == before
        assert (shell.desk.keyring.at_work, shell.store.keys, bodies(shell)) == ({}, keys, [])
        shell.hold_commits = False
        shell.replies.clear()
        in_one_message(shell, frames)
        shell.run()
        assert came_to(shell) == expected
        assert bodies(shell) == told
