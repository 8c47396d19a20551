"""The service dies while it tidies up between commits, twice in a row: what was given up stays so, and no more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.failpoints import Lives, places
from tests.support.service import Service

Make = Callable[..., Service]

ROOM = "tidy"
ROWS = 40
# A value is 64 KiB, and stands in the journal and among the parameters: so many fill a log of 4 MiB.
VALUE = "x" * 65_000


@pytest.mark.timeout(300)
def test_what_was_acknowledged_is_there_and_what_was_given_up_is_not(own_service: Make) -> None:
    names = [place.name for place in places() if place.room == ROOM and place.name is not None]
    service = own_service(start=False)
    lives = Lives(service, [name for name in names for _ in range(2)])
    told: dict[tuple[str, str], str] = {}
    given_up = 0
    try:
        lives.call("init_storage", storage_id="s", brg_name="g")
        lives.call("config_storage", storage_id="s")
        for number in lives.rounds():
            lives.call("new_run_storage", storage_id="s", run_name=f"r{number}")
            for row in range(ROWS):
                value = f"{number} {row} {VALUE}"
                args = {"storage_id": "s", "run_name": f"r{number}", "param": f"p{row % 3}", "value": value}
                lives.call("set_param_run_storage", **args)
                told[f"root/g/r{number}", f"p{row % 3}"] = value
            last = lives.ask("replay_events", limit=1)["last_seq"]
            given_up = last - 5
            assert lives.call("prune_events", before_seq=given_up) == {"before_seq": given_up}
            lives.call("new_group", name=f"after{number}")  # a further commit, after which rows go too
        assert lives.deaths == [name for name in names for _ in range(2)]
    finally:
        lives.close()
    with service.connect() as wire:
        for (run_id, name), value in told.items():
            assert wire.call("get_run", run_id=run_id)["params"][name] == value
        page = wire.call("replay_events")
        assert page["oldest_seq"] == given_up
        seqs = [event["seq"] for event in page["events"]]
        assert seqs == list(range(given_up, page["last_seq"] + 1))
