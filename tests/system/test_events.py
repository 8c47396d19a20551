"""Section 6: the journal, its live tail and its replay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest

from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import TIME, Event, Storage, Tail, Wire

Plan = Callable[..., Storage]

KEYS = {"v", "seq", "time", "type", "storage_id", "prev_seq", "subject", "data"}


def a_short_life(storage: Storage) -> int:
    """A storage from init to deinit with two runs; the seq of its last event."""
    before = storage.wire.last_seq()
    storage.open()
    storage.run("run1", params={"x": 1})
    storage.run("run10")
    storage.call("set_param_run_storage", run_name="run1", param="x", value=2)
    for run_name in ("run1", "run10"):
        for acq_name in ("a", "b"):
            storage.mark(storage.acq(acq_name, run_name))
    eventually(lambda: len(storage.events(before, "acquisition.sealed")) == 4)
    storage.call("deinit_storage", force=True)
    return int(storage.events(before)[-1]["seq"])


def test_the_live_tail_is_the_journal(wire: Wire, plan: Plan, tail: Tail) -> None:
    storage = plan(wire)
    before = wire.last_seq()
    last = a_short_life(storage)
    tail.wait(lambda event: event.body["seq"] == last)
    journal = storage.events(before)
    live = [event.body for event in tail.seen if event.body["storage_id"] == storage.storage_id]
    assert [body for body in live if body["seq"] is not None] == journal
    assert len(journal) >= 20


def test_every_message_has_its_topic_and_the_keys_of_the_page(wire: Wire, plan: Plan, tail: Tail) -> None:
    last = a_short_life(plan(wire))
    wire.call("new_group", name="told")
    tail.wait(lambda event: event.body["seq"] == last)
    tail.wait(lambda event: event.topic == "group.created/")
    for topic, body in tail.seen:
        if topic.startswith("variable/"):
            continue
        place = "" if body["storage_id"] is None else f"{body['storage_id']}/"
        assert topic == f"{body['type']}/{place}"
        assert set(body) == KEYS
        assert body["v"] == 1
        assert TIME.fullmatch(body["time"])
        assert isinstance(body["data"], dict)


def test_numbered_events_come_in_order_and_without_a_hole(wire: Wire, plan: Plan, tail: Tail) -> None:
    last = a_short_life(plan(wire))
    tail.wait(lambda event: event.body["seq"] == last)
    seqs = [event.body["seq"] for event in tail.seen if event.body["seq"] is not None]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def test_the_journal_has_no_hole_and_each_topic_is_a_chain(wire: Wire, plan: Plan) -> None:
    a_short_life(plan(wire))
    journal = wire.journal(limit=500)
    assert [event["seq"] for event in journal] == list(range(1, len(journal) + 1))
    newest: dict[tuple[str, str | None], int] = defaultdict(int)
    for event in journal:
        topic = (event["type"], event["storage_id"])
        assert event["prev_seq"] == newest[topic]
        newest[topic] = event["seq"]


def test_an_event_is_in_the_journal_before_the_reply(wire: Wire, other: Wire, plan: Plan) -> None:
    storage = plan(wire)
    for cmd, told in (("init_storage", "storage.initialized"), ("config_storage", "storage.configured")):
        before = other.last_seq()
        storage.call(cmd, **(storage.arguments if cmd == "init_storage" else {}))
        events = other.call("replay_events", after_seq=before)["events"]
        assert (told, storage.storage_id) in [(event["type"], event["storage_id"]) for event in events]


def test_a_replay_tells_where_the_journal_stands(wire: Wire, storage: Storage) -> None:
    storage.run()
    reply = wire.call("replay_events")
    assert set(reply) == {"events", "last_seq", "oldest_seq", "journal_id", "more"}
    assert reply["oldest_seq"] == 1
    assert reply["journal_id"] == wire.call("describe")["journal_id"]
    now = wire.last_seq()
    beyond = wire.call("replay_events", after_seq=now + 1000)
    assert (beyond["events"], beyond["more"]) == ([], False)


def test_a_replay_is_cut_at_its_limit(wire: Wire, plan: Plan) -> None:
    storage = plan(wire)
    before = wire.last_seq()
    a_short_life(storage)
    first = wire.call("replay_events", after_seq=before, limit=3)
    assert [event["seq"] for event in first["events"]] == [before + 1, before + 2, before + 3]
    assert first["more"] is True
    assert wire.journal(before, limit=3)[:20] == wire.journal(before)[:20]


def test_a_replay_takes_topics_as_a_subscription_does(wire: Wire, plan: Plan) -> None:
    storage = plan(wire)
    before = wire.last_seq()
    a_short_life(storage)
    name = storage.storage_id

    def types(*topics: str) -> list[str]:
        return [one["type"] for one in wire.journal(before, topics=list(topics)) if one["storage_id"] == name]

    assert types("run.created/") == ["run.created"] * 2
    assert types("run.") == ["run.created", "run.created", "run.param_set"]
    assert types(f"run.created/{name}/") == ["run.created"] * 2
    assert types(f"run.created/{name}x/") == []
    assert types("run.created/", "storage.conf") == ["storage.configured", "run.created", "run.created"]
    assert types("nothing.like.it/") == []
    assert types("r_n.") == []
    assert types("run%") == []
    assert types("") == storage.types(before)


def test_a_replay_of_a_subject_is_that_and_everything_below(wire: Wire, plan: Plan) -> None:
    storage = plan(wire)
    a_short_life(storage)

    def subjects(subject: str) -> set[str]:
        return {event["subject"] for event in wire.journal(subject=subject)}

    run = f"{storage.group}/run1"
    assert subjects(run) == {run, f"{run}/a", f"{run}/b"}
    assert subjects(f"{run}/a") == {f"{run}/a"}
    assert subjects(storage.group) >= {storage.group, run, f"{run}0", f"{run}0/b"}
    assert subjects(f"{storage.group}/nobody") == set()
    both = wire.journal(subject=run, topics=["acquisition.finished/"])
    assert [event["subject"] for event in both] == [f"{run}/a", f"{run}/b"]


def test_a_subscriber_gets_what_it_asked_for(service: Service, wire: Wire, plan: Plan) -> None:
    storage = plan(wire)
    with service.tail("service.heartbeat/", f"run.created/{storage.storage_id}/", "acquisition.st") as some:
        some.settle()
        a_short_life(storage)
        some.wait(lambda event: event.body["subject"] == f"{storage.group}/run10/b")
        got = [event.topic for event in some.seen if event.body["storage_id"] == storage.storage_id]
    created, started = (f"{kind}/{storage.storage_id}/" for kind in ("run.created", "acquisition.started"))
    assert got == [created] * 2 + [started] * 4


def test_a_heartbeat_tells_the_newest_of_each_type(wire: Wire, plan: Plan, tail: Tail) -> None:
    last = a_short_life(plan(wire))

    def beat(event: Event) -> bool:
        return event.topic == "service.heartbeat/" and event.body["data"]["last_seq"] >= last

    body = tail.wait(beat).body
    assert (body["seq"], body["prev_seq"], body["storage_id"]) == (None, None, None)
    data = body["data"]
    assert set(data) == {"service_id", "started_at", "journal_id", "last_seq", "tails"}
    described = wire.call("describe")
    assert (data["service_id"], data["journal_id"]) == (described["service_id"], described["journal_id"])
    assert data["started_at"] == wire.call("get_status")["started_at"]
    tails = {event["type"]: event["seq"] for event in wire.journal() if event["seq"] <= data["last_seq"]}
    assert data["tails"] == tails


def test_a_heartbeat_comes_after_all_that_it_speaks_of(wire: Wire, plan: Plan, tail: Tail) -> None:
    last = a_short_life(plan(wire))
    tail.wait(lambda event: event.topic == "service.heartbeat/" and event.body["data"]["last_seq"] >= last)
    newest = 0
    for _, body in tail.seen:
        if body["type"] == "service.heartbeat" and newest:
            assert body["data"]["last_seq"] <= newest
        newest = body["seq"] or newest


def test_heartbeats_keep_coming(tail: Tail) -> None:
    def beats() -> int:
        return sum(event.topic == "service.heartbeat/" for event in tail.pump(0.1))

    before = beats()
    eventually(lambda: beats() >= before + 2)


@pytest.mark.parametrize("topics", ["run.", [5], {"run.": 1}])
def test_topics_are_a_list_of_texts(wire: Wire, topics: object) -> None:
    refusal = wire.refusal("replay_events", topics=topics)
    assert refusal.code == "bad_request"
    assert refusal.details["field"].startswith("topics")
