"""What is acknowledged survives `kill -9`, and a restart goes on where the service was."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.polling import eventually
from tests.support.service import Service, alive, pid_in
from tests.support.wire import NoReply, Storage, Wire, read_reply

Make = Callable[..., Service]

# Its first attempt stays until it is ended by force; a later one looks whether that is gone.
STUBBORN = """#!/bin/sh
trap '' TERM
if [ "$CONVERSION_ATTEMPT" -gt 1 ]; then
  status=/proc/$(cat "$ACQ_DIR/pid-1")/status
  if [ -e "$status" ] && ! grep -q '^State:.[ZX]' "$status"; then touch "$ACQ_DIR/overlap"; fi
  exit 0
fi
echo $$ > "$ACQ_DIR/pid-1"
i=0
while [ $i -lt 1000 ]; do sleep 0.05; i=$((i+1)); done
"""


def storage_on(wire: Wire, name: str = "s") -> Storage:
    return Storage(wire, name, brg_name="g", brg_path="p")


def newest(wire: Wire, acq: dict[str, Any]) -> Any:
    return wire.call("list_conversions", acq_id=acq["acq_id"])["conversions"][0]


def succeeded(wire: Wire, acq: dict[str, Any]) -> bool:
    return bool(newest(wire, acq)["state"] == "succeeded")


def finish(storage: Storage, acq_name: str, script: str) -> Any:
    acq = storage.acq(acq_name, convert_script=script)
    storage.close(acq)
    return acq


def place(acq: dict[str, Any]) -> Path:
    return Path(acq["location"]["local_path"])


def acknowledged(wire: Wire, count: int) -> list[int]:
    """The ids of at least so many replies, all ok, and of those that have come by then."""
    ids: list[int] = []
    with contextlib.suppress(NoReply):
        while True:
            (frame,) = wire.recv_raw(None if len(ids) < count else 0)
            reply = read_reply(frame)
            assert reply["ok"], reply
            ids.append(reply["id"])
    return ids


def test_what_was_acknowledged_is_there_and_each_key_took_effect_once(own_service: Make) -> None:
    service = own_service()
    chance = random.Random(5)
    with service.connect() as wire:
        storage_on(wire).open().run()
    where = {"storage_id": "s", "run_name": "run"}
    sent: list[str] = []
    for cycle in range(3):
        with service.connect() as wire:
            names = [f"c{cycle}p{n}" for n in range(60)]
            sent += names
            posted = {
                wire.post("set_param_run_storage", **where, param=name, value=name, key=name): name
                for name in names
            }
            known = acknowledged(wire, chance.randrange(1, 55))
            service.kill()
            with contextlib.suppress(NoReply):
                known += acknowledged(wire, 0)
        service.start()
        with service.connect() as wire:
            there = wire.call("get_run", run_id="root/g/run")["params"]
            assert {posted[number] for number in known} <= set(there)
            for name in names:
                args = where | {"param": name, "value": name}
                assert wire.call("set_param_run_storage", key=name, **args) == {"stored": True}
    with service.connect() as wire:
        assert wire.call("get_run", run_id="root/g/run")["params"] == {name: name for name in sent}
        told = [event["data"]["param"] for event in wire.journal(topics=["run.param_set/"])]
        assert sorted(told) == sorted(sent)
        journal = wire.journal()
        assert [event["seq"] for event in journal] == list(range(1, len(journal) + 1))


def test_a_repeated_key_gets_the_first_reply_after_a_kill(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = storage_on(wire).open()
        numbers = [wire.post("new_run_storage", storage_id="s", run_name="r{n}", key=f"k{n}") for n in range(20)]
        first = [wire.collect(number) for number in numbers[:5]]
        service.kill()
    service.start()
    with service.connect() as wire:
        storage = storage_on(wire)
        again = [storage.run("r{n}", key=f"k{n}") for n in range(20)]
        assert again[:5] == first
        assert len({run["run_name"] for run in again}) == 20
        assert len(wire.journal(topics=["run.created/"])) == 20
        assert storage.refusal("new_run_storage", run_name="other", key="k0").code == "conflict"


def test_an_open_acquisition_goes_on(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.call("register_producer_storage", producer="a")
        storage.call("register_producer_storage", producer="b")
        storage.run(params={"x": 1})
        acq = storage.acq(params={"y": 2})
        storage.mark(acq, "a", summary={"events": 7})
        there, then = wire.call("get_acq", acq_id=acq["acq_id"]), storage.call("get_storage")
        service.restart()
    with service.connect() as wire:
        storage = storage_on(wire)
        assert wire.call("get_acq", acq_id=acq["acq_id"]) == there
        assert storage.call("get_storage") == then
        assert storage.mark(acq, "a")["counted"] is False
        assert storage.mark(acq, "b")["state"] == "finished"
        eventually(lambda: wire.call("get_acq", acq_id=acq["acq_id"])["sealed"])


def test_what_was_finished_is_sealed_even_so(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.run()
        acqs = [storage.acq(f"acq{n}") for n in range(10)]
        for acq in acqs:
            storage.mark(acq)
        service.restart()
    with service.connect() as wire:
        eventually(lambda: all(wire.call("get_acq", acq_id=acq["acq_id"])["sealed"] for acq in acqs))
        sealed = [event["subject"] for event in wire.journal(topics=["acquisition.sealed/"])]
        assert sorted(sealed) == sorted(acq["acq_id"] for acq in acqs)


def test_the_journal_goes_on_where_it_was(own_service: Make) -> None:
    service = own_service(transport="tcp")
    with service.connect() as wire:
        storage_on(wire).open().run()
        described, journal = wire.call("describe"), wire.journal()
        service.restart()
    with service.connect() as wire, service.tail() as tail:
        tail.settle()
        assert wire.call("describe")["journal_id"] == described["journal_id"]
        assert wire.journal()[: len(journal)] == journal
        storage_on(wire).run("second")
        event = tail.wait(lambda event: event.body["type"] == "run.created").body
        assert event["seq"] > journal[-1]["seq"]
        assert event["prev_seq"] == [one["seq"] for one in journal if one["type"] == "run.created"][-1]
        after = wire.journal()
        assert [one["seq"] for one in after] == list(range(1, len(after) + 1))


def test_a_subscriber_that_stays_hears_the_next_life(own_service: Make) -> None:
    service = own_service()
    with service.tail() as tail:
        tail.settle()
        service.restart()
        beats = len(tail.pump())
        eventually(lambda: len(tail.pump(0.1)) > beats)
        with service.connect() as wire:
            storage_on(wire).open()
        tail.wait(lambda event: event.topic == "storage.configured/s/")


def test_running_conversions_are_ended_and_run_again_and_queued_ones_run(own_service: Make) -> None:
    service = own_service({"conversion": {"max_parallel": 1}})
    service.script("stubborn.sh", STUBBORN)
    service.script("quick.sh", "#!/bin/sh\n")
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.run()
        first = finish(storage, "first", "stubborn.sh")
        pid = pid_in(place(first) / "pid-1")
        second = finish(storage, "second", "quick.sh")
        service.restart()
    with service.connect() as wire:
        for acq, attempt in ((first, 2), (second, 1)):
            eventually(partial(succeeded, wire, acq), 40)
            assert newest(wire, acq)["attempt"] == attempt
        assert not alive(pid)
        assert not (place(first) / "overlap").exists()
        told = [event["subject"] for event in wire.journal(topics=["conversion.succeeded/"])]
        assert sorted(told) == sorted([first["acq_id"], second["acq_id"]])


def test_a_kill_at_any_moment_of_a_remove_leaves_one_run(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.run()
        storage.close(storage.acq())
        (service.mount / "p/run/acq/events.dat").write_text("old")
    for cycle in range(4):
        with service.connect() as wire:
            number = wire.post("new_run_storage", storage_id="s", run_name="run", mode="remove", key=f"k{cycle}")
            if cycle % 2:
                wire.collect(number)
            else:
                wire.call("ping")
            service.restart()
        with service.connect() as wire:
            run = storage_on(wire).run(mode="remove", key=f"k{cycle}")
            assert wire.call("get_run", run_id="root/g/run")["uid"] == run["uid"]
            assert run["uid"] in (service.mount / "p/run/run.json").read_text()
            assert not (service.mount / "p/run/acq").exists()
            assert len(wire.journal(topics=["run.removed/"])) == cycle + 1
    trash = service.mount / ".storage-trash"
    assert [file.read_text() for file in trash.rglob("events.dat")] == ["old"]


@pytest.mark.parametrize("cmd", ["inval_storage", "deinit_storage"])
def test_what_was_ended_stays_ended(own_service: Make, cmd: str) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = storage_on(wire).open()
        storage.run()
        acq = storage.acq()
        storage.call(cmd, force=True)
        service.restart()
    with service.connect() as wire:
        assert wire.call("get_acq", acq_id=acq["acq_id"])["state"] == "aborted"
        storages = [one["state"] for one in wire.call("list_storages")["storages"]]
        assert storages == (["ready"] if cmd == "inval_storage" else [])
