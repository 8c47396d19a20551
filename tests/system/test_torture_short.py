"""A few cycles of the long tier (`python -m tests.torture`), in every run of the tests, and what it has found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Storage
from tests.torture.campaign import SCENARIOS, Campaign
from tests.torture.tally import Goal

# The short form of docs/reliability.md; R4 tells some 60,000 events by overrunning its subscribers.
SHORT = {"R1": Goal(20), "R2": Goal(acknowledged=5_000), "R4": Goal(10), "R5": Goal(30)}
EVERY = 10
SEED = 20
# What a campaign must have done at least, on however slow a machine, to have shown anything.
ACKNOWLEDGED = 200

# Does not end when it is asked to: a start of the service has to wait for its grace to be over.
DEAF = "#!/bin/sh\ntrap '' TERM\n[ $CONVERSION_ATTEMPT -gt 1 ] || sleep 30\n"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("promise", SCENARIOS)
def test_nothing_is_lost_or_doubled_by_kills_under_load(tmp_path: Path, promise: str) -> None:
    tally = Campaign(SCENARIOS[promise], tmp_path, SEED, lambda *_: None).run(SHORT[promise], EVERY)
    assert tally.found == []
    assert SHORT[promise].reached(tally)
    assert tally.faults >= tally.cycles
    assert tally.acknowledged >= ACKNOWLEDGED


def test_nothing_is_decided_before_what_was_left_is_known(own_service: Callable[..., Service]) -> None:
    service = own_service()
    service.script("deaf.sh", DEAF)
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
        storage.run()
        storage.close(storage.acq(convert_script="deaf.sh"))
        eventually(lambda: wire.call("list_conversions", state="running")["conversions"])
        before = storage.call("get_storage")
        service.kill()
        service.launch()
        # Sent while the service still ends the script that it left behind.
        assert storage.call("init_storage", brg_name="g", brg_path="p") == before
        assert storage.call("get_storage") == before
        told = [event["type"] for event in wire.journal(topics=["storage."])]
        assert told == ["storage.initialized", "storage.configured"]
