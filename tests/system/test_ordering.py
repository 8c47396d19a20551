"""Section 2, the order of replies: each reflects all that was sent before on its own connection, and all that was
acknowledged before it was asked for on any other.

Several connections send at random, without waiting for replies. Each alone changes storages of its own, so that a
model knows what every one of its commands comes to; and all ask about everybody's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack
import pytest
import zmq

from tests.support.service import Service
from tests.support.wire import NoReply, Storage, Wire, read_reply

MESSAGES = 500
PATIENCE_S = 60.0


class Acq(NamedTuple):
    """`life`: which of the acquisitions of that name it is; `value`: the parameter that was set last."""

    life: int
    segment: int
    state: str
    value: int


class Books(NamedTuple):
    """One storage as the model has it: its only run, and the only acquisition in that."""

    run_life: int
    run_value: int
    acq: Acq | None


class Kept:
    """The model of one storage: `history` after each command sent, of which so many are `acknowledged`."""

    def __init__(self, storage: Storage, owner: int) -> None:
        self.storage_id, self.group, self.owner = storage.storage_id, storage.group, owner
        self.run_id, self.acq_id = f"{storage.group}/run", f"{storage.group}/run/acq"
        self.history = [Books(0, 0, None)]
        self.acknowledged = 0


class Asked(NamedTuple):
    """A command that was sent. `place`: of a change, its own in the history; of a query, the oldest allowed."""

    cmd: str
    kept: Kept
    place: int
    wanted: str
    changes: bool


class Talker:
    """One connection: what it sent, and a look at each reply as it comes."""

    def __init__(self, endpoint: str, number: int, kind: int) -> None:
        self.wire, self.number, self.is_req = Wire(endpoint, kind, PATIENCE_S), number, kind == zmq.REQ
        self.asked: dict[int, Asked] = {}
        self.sent = 0

    def send(self, commands: list[tuple[Asked, dict[str, Any]]]) -> None:
        frames = []
        for asked, args in commands:
            self.sent += 1
            self.asked[self.sent] = asked
            frames.append(msgpack.packb({"id": self.sent, "cmd": asked.cmd, "args": args}))
        self.wire.send_raw(frames)

    def read(self, timeout_s: float) -> int:
        """Read the next message, if one comes; how many replies it had."""
        try:
            frames = self.wire.recv_raw(timeout_s)
        except NoReply:
            return 0
        for frame in frames:
            reply = read_reply(frame)
            check(self.asked.pop(reply["id"]), reply)
        return len(frames)


def change(kept: Kept, random: random.Random) -> tuple[Asked, dict[str, Any]]:
    """A random command that changes a storage, and what the model says that it comes to."""
    old = kept.history[-1]
    acq, place = old.acq, len(kept.history)
    args: dict[str, Any] = {"storage_id": kept.storage_id}
    cmd = random.choice(
        ("set_param_acq_storage",) * 4
        + ("set_param_run_storage",) * 2
        + ("new_acq_storage",) * 3
        + ("close_acq_storage", "abort_acq_storage", "new_run_storage")
    )
    new, wanted = old, "ok"
    match cmd:
        case "set_param_acq_storage":
            args |= {"acq_id": kept.acq_id, "param": "value", "value": place}
            if acq is not None and acq.state == "open":
                new = old._replace(acq=acq._replace(value=place))
            else:
                wanted = "wrong_state" if acq else "not_found"
        case "set_param_run_storage":
            args |= {"run_name": "run", "param": "value", "value": place}
            new = old._replace(run_value=place)
        case "close_acq_storage" | "abort_acq_storage":
            args |= {"acq_id": kept.acq_id}
            goal = "finished" if cmd == "close_acq_storage" else "aborted"
            if acq is None:
                wanted = "not_found"
            elif acq.state == "open":
                new = old._replace(acq=acq._replace(state=goal))
            elif acq.state != goal:
                wanted = "wrong_state"
        case "new_acq_storage":
            mode = random.choice(("append", "append", "remove"))
            args |= {"run_name": "run", "acq_name": "acq", "mode": mode}
            if acq is None or (mode == "remove" and acq.state != "open"):
                args["params"] = {"life": place, "value": 0}
                new = old._replace(acq=Acq(place, 1, "open", 0))
            elif mode == "remove":
                wanted = "wrong_state"
            elif acq.state != "open":
                new = old._replace(acq=acq._replace(segment=acq.segment + 1, state="open"))
        case "new_run_storage":
            args |= {"run_name": "run", "mode": "remove", "params": {"life": place, "value": 0}}
            if acq is not None and acq.state == "open":
                wanted = "wrong_state"
            else:
                new = Books(place, 0, None)
    kept.history.append(new)
    return Asked(cmd, kept, place, wanted, changes=True), args


def question(kept: Kept, talker: Talker, random: random.Random) -> tuple[Asked, dict[str, Any]]:
    """A random query about a storage; the oldest state that its reply may tell."""
    cmd, args = random.choice(
        (
            ("get_acq", {"acq_id": kept.acq_id}),
            ("get_node", {"node_id": kept.acq_id}),
            ("get_run", {"run_id": kept.run_id}),
            ("get_storage", {"storage_id": kept.storage_id}),
            ("list_storages", {}),
            ("list_acqs", {"storage_id": kept.storage_id}),
            ("find_nodes", {"under": kept.group, "kind": "acq", "where": {"value": {"ge": 0}}}),
        )
    )
    own = kept.owner == talker.number
    oldest = len(kept.history) - 1 if own else kept.acknowledged
    return Asked(cmd, kept, oldest, "", changes=False), dict(args)


def seen_acq(told: dict[str, Any]) -> Acq:
    return Acq(told["params"]["life"], told["segment"], told["state"], told["params"]["value"])


def seen(asked: Asked, reply: dict[str, Any]) -> tuple[Callable[[Books], Any], Any]:
    """What of the books a reply tells, and what it tells."""
    kept = asked.kept
    result: Any = reply.get("result")
    if not reply["ok"]:
        assert reply["error"]["code"] == "not_found", (asked, reply)
        return (lambda books: books.acq), None
    match asked.cmd:
        case "get_acq" | "get_node" | "new_acq_storage" | "close_acq_storage" | "abort_acq_storage":
            return (lambda books: books.acq), seen_acq(result)
        case "get_run" | "new_run_storage":
            params = result["params"]
            return (lambda books: (books.run_life, books.run_value)), (params["life"], params["value"])
        case "list_acqs" | "find_nodes":
            found = [seen_acq(each) for each in result["acqs" if asked.cmd == "list_acqs" else "nodes"]]
            return (lambda books: [books.acq] if books.acq else []), found
        case "list_storages":
            (result,) = [each for each in result["storages"] if each["storage_id"] == kept.storage_id]
    return (lambda books: [kept.acq_id] if books.acq and books.acq.state == "open" else []), result["open_acqs"]


def check(asked: Asked, reply: dict[str, Any]) -> None:
    """Hold a reply against the model."""
    kept = asked.kept
    if asked.changes:
        code = "ok" if reply["ok"] else reply["error"]["code"]
        assert code == asked.wanted, (asked.cmd, asked.place, kept.history[asked.place - 1], reply)
        if code == "ok" and not asked.cmd.startswith("set_param"):
            part, told = seen(asked, reply)
            assert told == part(kept.history[asked.place]), (asked.cmd, reply)
        kept.acknowledged = max(kept.acknowledged, asked.place)
        return
    part, told = seen(asked, reply)
    allowed = [part(books) for books in kept.history[asked.place :]]
    assert told in allowed, f"{asked.cmd} tells {told}, which is older than {allowed[0]} or never was"


def prepared(storage: Storage, owner: int) -> Kept:
    """A storage whose run is there."""
    storage.run(params={"life": 0, "value": 0})
    return Kept(storage, owner)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_replies_reflect_what_was_sent_before_them_and_acknowledged_elsewhere(
    service: Service, wire: Wire, plan: Callable[..., Storage], seed: int
) -> None:
    chance = random.Random(seed)
    kinds = (zmq.DEALER, zmq.DEALER, zmq.DEALER, zmq.REQ, zmq.REQ)
    talkers = [Talker(service.commands, number, kind) for number, kind in enumerate(kinds)]
    books = [prepared(plan(wire).open(), talker.number) for talker in talkers for _ in range(2)]
    try:
        for _ in range(MESSAGES):
            talker = chance.choice(talkers)
            if talker.is_req and talker.asked:
                talker.read(PATIENCE_S)
            own = [kept for kept in books if kept.owner == talker.number]
            commands = [
                change(chance.choice(own), chance)
                if chance.random() < 0.5
                else question(chance.choice(own * 3 + books), talker, chance)
                for _ in range(chance.choice((1, 1, 1, 2, 3, 8)))
            ]
            talker.send(commands)
            if chance.random() < 0.1:
                while any(each.read(0) for each in talkers if not each.is_req):
                    pass
        deadline = time.monotonic() + PATIENCE_S
        for talker in talkers:
            while talker.asked:
                assert time.monotonic() < deadline, f"{len(talker.asked)} commands have no reply"
                talker.read(1.0)
        for kept in books:
            told = wire.call("get_run", run_id=kept.run_id)["params"]
            assert (told["life"], told["value"]) == kept.history[-1][:2]
    finally:
        for talker in talkers:
            talker.wire.close()


def test_a_query_between_two_marks_of_one_message_tells_of_the_first_alone(storage: Storage, wire: Wire) -> None:
    storage.run()
    acq = storage.acq(producers_count=2)
    mark = msgpack.packb(
        {"cmd": "mark_as_finished_storage", "args": {"storage_id": storage.storage_id, "acq_id": acq["acq_id"]}}
    )
    get = msgpack.packb({"cmd": "get_acq", "args": {"acq_id": acq["acq_id"]}})
    replies = [reply["result"] for reply in wire.exchange(get, mark, get, mark, get)]
    assert [reply["finished"] for reply in replies] == [0, 1, 1, 2, 2]
    assert [reply["state"] for reply in replies] == ["open", "open", "open", "finished", "finished"]
