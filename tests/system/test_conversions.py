"""Section 4.5: what a conversion script is given, and what becomes of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.polling import eventually
from tests.support.service import HELD, Service, alive, pid_in
from tests.support.wire import TIME, Storage, Tail, Wire

KEYS = {
    *("conversion_id", "acq_id", "uid", "segment", "script", "state", "attempt", "exit_code", "progress", "log"),
    *("queued_at", "started_at", "ended_at", "reason"),
}
ENDED = {"succeeded", "failed", "cancelled"}


@pytest.fixture
def storage(storage: Storage) -> Storage:
    """A configured storage with a run `run`."""
    storage.run()
    return storage


def folder(acq: dict[str, Any]) -> Path:
    return Path(acq["location"]["local_path"])


def newest(wire: Wire, acq: dict[str, Any]) -> Any:
    """The newest conversion of an acquisition."""
    return wire.call("list_conversions", acq_id=acq["acq_id"])["conversions"][0]


def finish(storage: Storage, script: str, acq_name: str = "acq", **args: Any) -> Any:
    """An acquisition that is finished and has a conversion."""
    acq = storage.acq(acq_name, convert_script=script, **args)
    storage.close(acq)
    return acq


def ended(wire: Wire, acq: dict[str, Any]) -> Any:
    """The newest conversion of an acquisition, once it is at its end."""
    return eventually(lambda: (one := newest(wire, acq))["state"] in ENDED and one, 40)


def test_a_script_gets_what_the_page_promises(service: Service, wire: Wire, storage: Storage) -> None:
    name = service.script(
        "tell.sh",
        '#!/bin/sh\nenv > told.env\npwd -P > told.cwd\nprintf "%s\\n" "$0" "$@" > told.args\n'
        'cp "$ACQ_METADATA" told.json\necho out\necho err >&2\n',
    )
    acq = storage.acq("sub/acq", convert_script=name, producers=["a", "b", "c"])
    storage.mark(acq, "b")
    storage.close(acq)
    done = ended(wire, acq)
    place = folder(acq)
    assert done["state"] == "succeeded", done

    assert Path((place / "told.cwd").read_text().strip()).samefile(place)
    script, *args = (place / "told.args").read_text().splitlines()
    assert Path(script).samefile(service.scripts / name)
    assert len(args) == 2
    assert Path(args[0]).samefile(place)
    assert args[1] == acq["acq_id"]

    env = dict(line.split("=", 1) for line in (place / "told.env").read_text().splitlines() if "=" in line)
    expected = {
        "STORAGE_ID": storage.storage_id,
        "ACQ_ID": acq["acq_id"],
        "ACQ_UID": acq["uid"],
        "ACQ_NAME": "sub/acq",
        "RUN_ID": acq["run_id"],
        "RUN_NAME": "run",
        "ACQ_DIR": args[0],
        "ACQ_URL": acq["location"]["url"],
        "ACQ_SEGMENT": "1",
        "ACQ_VERDICT": "partial",
        "CONVERSION_ATTEMPT": "1",
        "CONFIGURED": "yes",
        "PATH": os.environ["PATH"],
    }
    assert {key: env.get(key) for key in expected} == expected
    assert set(env["ACQ_MISSING"].split(",")) == {"a", "c"}
    assert Path(env["ACQ_METADATA"]).samefile(place / "acquisition.json")
    assert acq["uid"] in (place / "told.json").read_text()
    assert "SECRET_OF_THE_SERVICE" not in env

    log = place / "conversion-1-1.log"
    assert sorted(log.read_text().split()) == ["err", "out"]
    assert Path(done["log"]["local_path"]).samefile(log)


def test_a_success_is_told_in_order(service: Service, wire: Wire, storage: Storage) -> None:
    name = service.script("quick.sh", "#!/bin/sh\n")
    before = wire.last_seq()
    acq = storage.acq(convert_script=name)
    storage.mark(acq)
    done = ended(wire, acq)
    assert set(done) == KEYS
    assert (done["state"], done["exit_code"], done["attempt"], done["segment"]) == ("succeeded", 0, 1, 1)
    assert (done["acq_id"], done["uid"], done["script"]) == (acq["acq_id"], acq["uid"], name)
    assert isinstance(done["conversion_id"], str)
    assert all(TIME.fullmatch(done[key]) for key in ("queued_at", "started_at", "ended_at"))
    assert wire.call("get_conversion", conversion_id=done["conversion_id"]) == done
    there = wire.call("get_acq", acq_id=acq["acq_id"])
    assert (there["state"], there["sealed"], there["conversion"]) == ("finished", True, "succeeded")

    told = storage.events(before, "acquisition.", "conversion.")
    types = [event["type"] for event in told]
    assert types[:3] == ["acquisition.started", "acquisition.producer_finished", "acquisition.finished"]
    assert [kind for kind in types if kind.startswith("conversion.")] == [
        "conversion.queued",
        "conversion.started",
        "conversion.succeeded",
    ]
    assert types.index("acquisition.finished") < types.index("conversion.queued")
    assert types.index("acquisition.sealed") < types.index("conversion.started")
    assert {event["subject"] for event in told} == {acq["acq_id"]}
    last = [event for event in told if event["type"].startswith("conversion.")][-1]
    assert last["data"]["state"] == "succeeded"
    assert last["data"]["conversion_id"] == done["conversion_id"]


def test_a_failure_does_not_unfinish_the_acquisition(service: Service, wire: Wire, storage: Storage) -> None:
    name = service.script("fail.sh", "#!/bin/sh\necho no such calibration >&2\nexit 3\n")
    before = wire.last_seq()
    acq = finish(storage, name)
    done = ended(wire, acq)
    assert (done["state"], done["exit_code"], done["attempt"]) == ("failed", 3, 1)
    there = wire.call("get_acq", acq_id=acq["acq_id"])
    assert (there["state"], there["conversion"]) == ("finished", "failed")
    assert storage.types(before, "conversion.")[-1] == "conversion.failed"


@pytest.mark.parametrize("how", ["gone", "no interpreter", "no shebang"])
def test_a_script_that_cannot_be_started_in_the_end_has_failed(
    service: Service, wire: Wire, storage: Storage, how: str
) -> None:
    body = {"gone": "#!/bin/sh\n", "no interpreter": "#!/not/there\n", "no shebang": "exit 0\n"}[how]
    name = service.script(f"{how.replace(' ', '-')}.sh", body)
    acq = storage.acq(convert_script=name)
    if how == "gone":
        (service.scripts / name).unlink()
    storage.close(acq)
    done = ended(wire, acq)
    assert done["state"] == "failed"
    assert done["reason"]


def test_an_aborted_acquisition_is_not_converted(service: Service, wire: Wire, storage: Storage) -> None:
    name = service.script("quick.sh", "#!/bin/sh\n")
    acq = storage.acq(convert_script=name)
    storage.call("abort_acq_storage", acq_id=acq["acq_id"])
    eventually(lambda: wire.call("get_acq", acq_id=acq["acq_id"])["sealed"])
    assert wire.call("get_acq", acq_id=acq["acq_id"])["conversion"] is None
    assert wire.call("list_conversions", acq_id=acq["acq_id"])["conversions"] == []


def test_progress_is_told(service: Service, wire: Wire, storage: Storage, tail: Tail) -> None:
    name = service.script("progress.sh", HELD.replace("i=0", "echo ::progress 0.42\ni=0"))
    acq = finish(storage, name)
    try:
        eventually(lambda: newest(wire, acq)["progress"] == 0.42)
        event = tail.wait(lambda event: event.topic == f"conversion.progress/{storage.storage_id}/")
    finally:
        (folder(acq) / "go").touch()
    assert (event.body["seq"], event.body["prev_seq"]) == (None, None)
    assert event.body["data"]["conversion_id"] == newest(wire, acq)["conversion_id"]
    assert event.body["data"]["progress"] == 0.42
    assert ended(wire, acq)["state"] == "succeeded"


@pytest.mark.parametrize(
    "line", ["::progress", "::progress nan", "::progress 7", "::progress -1", "::progress x y"]
)
def test_progress_that_makes_no_sense_harms_nothing(
    service: Service, wire: Wire, storage: Storage, line: str
) -> None:
    name = service.script(f"odd-{storage.storage_id}.sh", f"#!/bin/sh\necho '{line}'\n")
    acq = finish(storage, name)
    done = ended(wire, acq)
    assert done["state"] == "succeeded"
    assert done["progress"] is None or 0 <= done["progress"] <= 1
    assert line in (folder(acq) / "conversion-1-1.log").read_text()


def test_a_flood_is_cut_and_the_log_says_so(service: Service, wire: Wire, storage: Storage) -> None:
    name = service.script("flood.sh", "#!/bin/sh\nseq 1000000 1300000\necho the end\n")
    acq = finish(storage, name)
    assert ended(wire, acq)["state"] == "succeeded"
    log = (folder(acq) / "conversion-1-1.log").read_bytes()
    assert 60_000 < len(log) <= 65_536 + 1024
    assert log.startswith(b"1000000\n1000001\n")
    last = log.decode().splitlines()[-1]
    assert not last.isdigit()
    assert last != "the end"


def test_a_child_that_holds_the_output_does_not_hold_the_conversion(
    service: Service, wire: Wire, storage: Storage
) -> None:
    name = service.script("leave.sh", "#!/bin/sh\necho before\nsleep 100 &\nexit 0\n")
    acq = finish(storage, name)
    assert ended(wire, acq)["state"] == "succeeded"
    assert "before" in (folder(acq) / "conversion-1-1.log").read_text()


def test_a_time_out_is_a_failure_that_says_so(own_service: Callable[..., Service]) -> None:
    service = own_service({"conversion": {"timeout_s": 2}})
    service.script("deaf.sh", HELD.replace("echo", "trap '' TERM\necho", 1))
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g").open()
        storage.run()
        acq = finish(storage, "deaf.sh")
        done = ended(wire, acq)
        assert done["state"] == "failed"
        assert "time" in done["reason"].lower()
        assert not alive(pid_in(folder(acq) / "pid-1"))


def test_a_failure_is_tried_again_as_often_as_configured(own_service: Callable[..., Service]) -> None:
    service = own_service({"conversion": {"max_attempts": 3}})
    service.script("third.sh", '#!/bin/sh\necho "$CONVERSION_ATTEMPT"\n[ "$CONVERSION_ATTEMPT" -ge 3 ]\n')
    service.script("never.sh", "#!/bin/sh\nexit 5\n")
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g").open()
        storage.run()
        third, never = finish(storage, "third.sh", "third"), finish(storage, "never.sh", "never")
        assert eventually(lambda: (one := newest(wire, third))["state"] == "succeeded" and one, 60)["attempt"] == 3
        assert [(folder(third) / f"conversion-1-{n}.log").read_text() for n in (1, 2, 3)] == ["1\n", "2\n", "3\n"]
        done = eventually(
            lambda: (one := newest(wire, never))["state"] == "failed" and one["attempt"] == 3 and one, 60
        )
        assert (done["state"], done["exit_code"]) == ("failed", 5)


def test_conversions_are_listed_newest_first(service: Service, wire: Wire, storage: Storage) -> None:
    service.script("quick.sh", "#!/bin/sh\n")
    service.script("fail.sh", "#!/bin/sh\nexit 3\n")
    acqs = [finish(storage, "fail.sh" if n == 1 else "quick.sh", f"acq{n}") for n in range(4)]
    for acq in acqs:
        ended(wire, acq)
    mine = {acq["acq_id"] for acq in acqs}
    pages = wire.pages("list_conversions", "conversions", limit=2)
    listed = [one["acq_id"] for page in pages for one in page if one["acq_id"] in mine]
    assert listed == [acq["acq_id"] for acq in acqs[::-1]]
    failed = wire.call("list_conversions", acq_id=acqs[1]["acq_id"], state="failed")["conversions"]
    assert [one["acq_id"] for one in failed] == [acqs[1]["acq_id"]]
    assert wire.call("list_conversions", acq_id=acqs[1]["acq_id"], state="succeeded")["conversions"] == []
    refusal = wire.refusal("list_conversions", state="nonsense")
    assert (refusal.code, refusal.details["field"]) == ("bad_request", "state")


def test_an_unknown_conversion_is_not_found(wire: Wire) -> None:
    for cmd in ("get_conversion", "retry_conversion", "cancel_conversion"):
        assert wire.refusal(cmd, conversion_id="no-such-conversion").code == "not_found"
