"""Sections 4.2 and 4.5: conversions that wait, are cancelled, retried, or overtaken by the next segment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.polling import eventually
from tests.support.service import HELD, Service, alive, pid_in
from tests.support.wire import Storage

# A HELD script, and what is done before it waits.
DEAF = HELD.replace("echo", "trap '' TERM\necho", 1)
WITH_CHILD = HELD.replace("i=0", 'sleep 100 &\necho $! > "$ACQ_DIR/child"\ni=0')
WITH_DAEMON = HELD.replace("i=0", "setsid sh -c 'echo $$ > \"$ACQ_DIR/child\"; exec sleep 100' &\ni=0")


class Bench:
    """A storage and the acquisitions in it that wait for their file `go`."""

    def __init__(self, service: Service, storage: Storage) -> None:
        self.wire = storage.wire
        self.storage = storage
        storage.run()
        for name, body in {"held": HELD, "deaf": DEAF, "child": WITH_CHILD, "daemon": WITH_DAEMON}.items():
            service.script(f"{name}.sh", body)
        self._acqs: list[dict[str, Any]] = []

    def finish(self, acq_name: str = "acq", script: str = "held.sh") -> Any:
        """A finished acquisition whose conversion waits, or is queued behind others."""
        acq = self.storage.acq(acq_name, convert_script=script)
        self._acqs.append(acq)
        self.storage.close(acq)
        return acq

    def busy(self, script: str = "held.sh") -> Any:
        """A finished acquisition whose conversion runs."""
        acq = self.finish(script=script)
        self.pid(acq)
        self.until(acq, "running")
        return acq

    def crowd(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Two acquisitions whose conversions take all the places there are, and a third one that waits."""
        running = [self.finish("one"), self.finish("two")]
        for acq in running:
            self.pid(acq)
        third = self.finish("three")
        eventually(lambda: self.wire.call("get_acq", acq_id=third["acq_id"])["sealed"])
        return running, third

    def newest(self, acq: dict[str, Any]) -> Any:
        return self.wire.call("list_conversions", acq_id=acq["acq_id"])["conversions"][0]

    def get(self, conversion: dict[str, Any]) -> Any:
        return self.wire.call("get_conversion", conversion_id=conversion["conversion_id"])

    def until(self, acq: dict[str, Any], state: str) -> Any:
        """The newest conversion, as soon as it is in that state."""
        return eventually(lambda: (one := self.newest(acq))["state"] == state and one, 40)

    def file(self, acq: dict[str, Any], name: str) -> Path:
        return Path(acq["location"]["local_path"]) / name

    def pid(self, acq: dict[str, Any], attempt: int = 1) -> int:
        """The process id of the script, once it has started."""
        return pid_in(self.file(acq, f"pid-{attempt}"))

    def go(self, acq: dict[str, Any]) -> None:
        self.file(acq, "go").touch()

    def release(self) -> None:
        """End the waiting of all."""
        for acq in self._acqs:
            if self.file(acq, "").is_dir():
                self.go(acq)


@pytest.fixture
def bench(service: Service, storage: Storage) -> Iterator[Bench]:
    bench = Bench(service, storage)
    yield bench
    bench.release()


def cancel(bench: Bench, conversion: dict[str, Any], **args: Any) -> Any:
    return bench.wire.call("cancel_conversion", conversion_id=conversion["conversion_id"], **args)


def retry(bench: Bench, conversion: dict[str, Any]) -> Any:
    return bench.wire.call("retry_conversion", conversion_id=conversion["conversion_id"])


def test_a_conversion_waits_until_there_is_a_place(bench: Bench) -> None:
    running, third = bench.crowd()
    waiting = bench.newest(third)
    assert (waiting["state"], waiting["attempt"], waiting["log"]) == ("queued", 0, None)
    assert (waiting["started_at"], waiting["ended_at"], waiting["exit_code"]) == (None, None, None)
    assert bench.wire.call("get_acq", acq_id=third["acq_id"])["conversion"] == "queued"
    assert bench.wire.call("get_status")["conversions"]["queued"] >= 1
    bench.go(running[0])
    assert bench.pid(third)
    bench.go(third)
    assert bench.until(third, "succeeded")["attempt"] == 1


def test_a_queued_one_is_cancelled_at_once(bench: Bench) -> None:
    _, third = bench.crowd()
    before = bench.wire.last_seq()
    gone = cancel(bench, bench.newest(third), reason="not needed")
    assert (gone["state"], gone["reason"], gone["attempt"]) == ("cancelled", "not needed", 0)
    assert bench.storage.types(before, "conversion.cancelled") == ["conversion.cancelled"]
    assert cancel(bench, gone, reason="again") == gone
    assert bench.wire.call("get_acq", acq_id=third["acq_id"])["conversion"] == "cancelled"


@pytest.mark.parametrize("script", ["held.sh", "deaf.sh", "child.sh", "daemon.sh"])
def test_a_running_one_is_cancelled_when_nothing_of_it_is_left(bench: Bench, script: str) -> None:
    acq = bench.busy(script)
    pids = [bench.pid(acq)]
    if script in ("child.sh", "daemon.sh"):
        pids.append(pid_in(bench.file(acq, "child")))
    before = bench.wire.last_seq()
    assert cancel(bench, bench.newest(acq), reason="wrong script")["state"] == "running"
    eventually(lambda: bench.storage.events(before, "conversion.cancelled"))
    assert [pid for pid in pids if alive(pid)] == []
    gone = bench.newest(acq)
    assert (gone["state"], gone["reason"], gone["attempt"]) == ("cancelled", "wrong script", 1)
    assert gone["ended_at"]
    assert bench.wire.call("get_acq", acq_id=acq["acq_id"])["state"] == "finished"


def test_an_ended_one_is_not_cancelled(bench: Bench) -> None:
    acq = bench.busy()
    bench.go(acq)
    done = bench.until(acq, "succeeded")
    before = bench.wire.last_seq()
    assert cancel(bench, done) == done
    assert bench.storage.types(before, "conversion.") == []


def test_a_retry_is_the_same_conversion_and_a_new_attempt(bench: Bench) -> None:
    acq = bench.busy()
    bench.go(acq)
    done = bench.until(acq, "succeeded")
    bench.file(acq, "go").unlink()
    before = bench.wire.last_seq()
    queued = retry(bench, done)
    assert queued["conversion_id"] == done["conversion_id"]
    assert (queued["state"], queued["attempt"], queued["log"]) == ("queued", 1, done["log"])
    assert bench.pid(acq, 2)
    bench.go(acq)
    again = bench.until(acq, "succeeded")
    assert (again["conversion_id"], again["attempt"], again["exit_code"]) == (done["conversion_id"], 2, 0)
    assert bench.file(acq, "conversion-1-1.log").exists()
    assert Path(again["log"]["local_path"]).samefile(bench.file(acq, "conversion-1-2.log"))
    assert bench.storage.types(before, "conversion.") == [
        "conversion.queued",
        "conversion.started",
        "conversion.succeeded",
    ]


def test_a_cancelled_one_is_retried(bench: Bench) -> None:
    _, third = bench.crowd()
    gone = cancel(bench, bench.newest(third))
    queued = retry(bench, gone)
    assert (queued["state"], queued["attempt"], queued["log"]) == ("queued", 0, None)
    bench.release()
    assert bench.until(third, "succeeded")["attempt"] == 1


def test_what_has_not_ended_is_not_retried(bench: Bench) -> None:
    running, third = bench.crowd()
    for acq, state in ((running[0], "running"), (third, "queued")):
        refusal = bench.wire.refusal("retry_conversion", conversion_id=bench.newest(acq)["conversion_id"])
        assert (refusal.code, refusal.details["state"]) == ("wrong_state", state)


def test_a_conversion_of_what_is_open_again_is_not_retried(bench: Bench) -> None:
    acq = bench.busy()
    bench.go(acq)
    done = bench.until(acq, "succeeded")
    bench.storage.acq()
    assert bench.wire.refusal("retry_conversion", conversion_id=done["conversion_id"]).code == "wrong_state"
    assert bench.get(done) == done


def test_opening_again_cancels_a_queued_one_and_lets_a_running_one_go_on(bench: Bench) -> None:
    running, third = bench.crowd()
    before = bench.wire.last_seq()
    queued, busy = bench.newest(third), bench.newest(running[0])
    bench.storage.acq("three")
    gone = bench.get(queued)
    assert (gone["state"], gone["reason"]) == ("cancelled", "opened again")
    bench.storage.acq("one")
    assert bench.get(busy)["state"] == "running"
    assert bench.storage.types(before, "conversion.") == ["conversion.cancelled"]
    bench.go(running[0])
    eventually(lambda: bench.get(busy)["state"] == "succeeded")


def test_each_segment_has_its_own_conversion(bench: Bench) -> None:
    acq = bench.busy()
    bench.go(acq)
    first = bench.until(acq, "succeeded")
    again = bench.finish()
    second = eventually(lambda: (one := bench.newest(again))["state"] == "succeeded" and one, 40)
    assert first["conversion_id"] != second["conversion_id"]
    assert [one["segment"] for one in (first, second)] == [1, 2]
    assert bench.file(acq, f"conversion-2-{second['attempt']}.log").exists()
    listed = bench.wire.call("list_conversions", acq_id=acq["acq_id"])["conversions"]
    assert [one["segment"] for one in listed] == [2, 1]


@pytest.mark.parametrize("what", ["acquisition", "run"])
@pytest.mark.parametrize("script", ["held.sh", "deaf.sh"])
def test_a_remove_ends_its_conversions_first(bench: Bench, what: str, script: str) -> None:
    acq = bench.busy(script)
    pid = bench.pid(acq)
    conversion = bench.newest(acq)
    before = bench.wire.last_seq()
    if what == "acquisition":
        bench.storage.acq(mode="remove")
    else:
        bench.storage.run(mode="remove")
    assert not alive(pid)
    gone = bench.get(conversion)
    assert (gone["state"], gone["uid"]) == ("cancelled", acq["uid"])
    refusal = bench.wire.refusal("retry_conversion", conversion_id=conversion["conversion_id"])
    assert refusal.code in {"wrong_state", "not_found"}
    told = bench.storage.types(before, "conversion.", "acquisition.removed")
    assert told == ["conversion.cancelled", "acquisition.removed"]
