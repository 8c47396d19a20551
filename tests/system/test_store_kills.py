"""`kill -9` at each place of a commit and of a start, twice in a row (promises R1, R2 and R12)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import apsw
import pytest

from storage_service.failpoints import VARIABLE
from storage_service.store.migrate import migrations
from tests.support.polling import eventually
from tests.support.service import Died, Service
from tests.support.wire import Storage, Wire

Make = Callable[..., Service]
KILLED = -signal.SIGKILL
ARGS = {"storage_id": "s", "run_name": "run", "param": "x"}


def whole(database: Path) -> bool:
    db = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return str(db.pragma("integrity_check")) == "ok"
    finally:
        db.close()


def start_armed(service: Service, failpoint: str) -> int | None:
    """Start the service with a failpoint; the exit code when that ended it before it was ready."""
    service.environment[VARIABLE] = failpoint
    try:
        service.start()
    except Died:
        return service.exit_code
    finally:
        del service.environment[VARIABLE]
    return None


def replied_or_ended(wire: Wire, service: Service) -> bool:
    return bool(wire.socket.poll(0)) or not service.running


@pytest.mark.parametrize(
    ("place", "durable"), [("store.begun", False), ("store.written", False), ("store.committed", True)]
)
def test_a_kill_in_a_commit_leaves_all_of_it_or_nothing_and_no_reply(
    own_service: Make, place: str, durable: bool
) -> None:
    service = own_service()
    with service.connect() as wire:
        Storage(wire, "s", brg_name="g", brg_path="p").open().run()
        known = wire.last_seq()
    service.kill()
    # The first commit of a life forgets old keys; so the one that is met is not always the first.
    for number, count in enumerate((3, 4), 1):
        assert start_armed(service, f"{place}:{count}") is None
        acknowledged, value = list[int](), 0
        with service.connect() as wire:
            while service.running:
                value += 1
                id = wire.post("set_param_run_storage", key=f"{number} {value}", value=value, **ARGS)
                eventually(partial(replied_or_ended, wire, service))
                if wire.socket.poll(0):
                    assert wire.collect(id) == {"stored": True}
                    acknowledged.append(value)
        assert service.exit_code == KILLED
        service.start()
        assert whole(service.state / "storage.db")
        with service.connect() as wire:
            there = [event["data"]["value"] for event in wire.journal(known, topics=["run.param_set/"])]
            assert acknowledged == list(range(1, value)), "the place was not met by the command that was told of"
            assert there == (acknowledged if not durable else [*acknowledged, value])
            for each in range(1, value + 1):
                repeated = wire.call("set_param_run_storage", key=f"{number} {each}", value=each, **ARGS)
                assert repeated == {"stored": True}
            events = wire.journal(known, topics=["run.param_set/"])
            assert [event["data"]["value"] for event in events] == list(range(1, value + 1))
            known = wire.last_seq()
        service.kill()


OF_A_FIRST_START = ["store.opened", "migrate.begun", "migrate.written", "migrate.committed", "store.ready"]


@pytest.mark.parametrize("place", OF_A_FIRST_START)
def test_a_kill_in_the_first_start_is_made_good_by_the_next(own_service: Make, place: str) -> None:
    service = own_service(start=False)
    assert start_armed(service, place) == KILLED
    # A migration that was committed is not made a second time; all others are met again.
    committed = place == "migrate.committed"
    for _ in migrations()[1:] if committed else [None]:
        assert start_armed(service, place) == KILLED
    if committed:
        assert start_armed(service, place) is None
    else:
        service.start()
    assert whole(service.state / "storage.db")
    with service.connect() as wire:
        Storage(wire, "s", brg_name="g", brg_path="p").open().run()
        assert [event["seq"] for event in wire.journal()] == [1, 2, 3, 4]
