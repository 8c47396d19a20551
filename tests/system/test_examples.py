"""The programs in examples/, run as a newcomer runs them."""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Storage, Wire

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = bytes(range(256))


def start(name: str, *words: str) -> subprocess.Popen[str]:
    """An example, started."""
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said_by(name: str, *words: str) -> str:
    """What an example says that must end well."""
    out, err = (process := start(name, *words)).communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return out


def newest(wire: Wire) -> Any:
    """The acquisition that an example has taken last."""
    return wire.call("list_acqs", storage_id="example", limit=1)["acqs"][0]


@pytest.mark.parametrize("name", ["producer.py", "async_client.py"])
def test_a_producer_takes_a_complete_acquisition_each_time(service: Service, wire: Wire, name: str) -> None:
    names = set()
    for _ in range(2):
        assert said_by(name, service.commands)
        acq = newest(wire)
        assert (acq["state"], acq["verdict"]) == ("finished", "complete")
        assert acq["producers"][0]["summary"] == {"bytes": len(DATA)}
        assert Path(acq["location"]["local_path"], "data.bin").read_bytes() == DATA
        names.add(acq["acq_id"])
    assert len(names) == 2


def test_the_client_finds_its_acquisition_by_its_parameters(service: Service, wire: Wire) -> None:
    said = said_by("async_client.py", service.commands)
    assert newest(wire)["acq_id"] in said.split()


def test_the_subscriber_tells_of_a_finished_acquisition(service: Service, wire: Wire) -> None:
    subscriber = start("subscriber.py", service.events)
    try:
        assert subscriber.stdout

        # It joins late, like every subscriber: acquisitions are taken until it has heard of one.
        def heard() -> bool:
            said_by("producer.py", service.commands)
            return bool(readable(subscriber))

        eventually(heard, patience_s=60)
        time, acq_id, verdict = subscriber.stdout.readline().split()
        assert acq_id.startswith("root/examples/run_")
        assert (time[-1], verdict) == ("Z", "complete")
    finally:
        subscriber.kill()
        subscriber.communicate()


def test_the_conversion_script_turns_binary_files_into_texts(
    service: Service, storage: Storage, wire: Wire
) -> None:
    script = service.script("example.sh", (EXAMPLES / "convert.sh").read_text())
    assert (EXAMPLES / "convert.sh").stat().st_mode & 0o111
    storage.run()
    acq = storage.acq(convert_script=script)
    folder = Path(acq["location"]["local_path"])
    for name in ("one", "two"):
        (folder / f"{name}.bin").write_bytes(DATA)
    storage.mark(acq)
    conversion = eventually(lambda: ended(wire, acq["acq_id"]))
    assert (conversion["state"], conversion["progress"]) == ("succeeded", 1.0)
    for name in ("one", "two"):
        assert bytes(int(word) for word in (folder / f"{name}.txt").read_text().split()) == DATA


def test_the_conversion_script_succeeds_where_there_is_nothing_to_convert(
    service: Service, storage: Storage, wire: Wire
) -> None:
    script = service.script("example.sh", (EXAMPLES / "convert.sh").read_text())
    storage.run()
    acq = storage.acq(convert_script=script)
    storage.mark(acq)
    assert eventually(lambda: ended(wire, acq["acq_id"]))["state"] == "succeeded"


def ended(wire: Wire, acq_id: str) -> Any:
    """The conversion of an acquisition, once it has ended."""
    conversion = wire.call("list_conversions", acq_id=acq_id)["conversions"][0]
    return conversion if conversion["state"] in ("succeeded", "failed", "cancelled") else None


def readable(process: subprocess.Popen[str]) -> list[Any]:
    """Whether a process has said something, or has ended."""
    assert process.stdout
    return select.select([process.stdout], [], [], 0.5)[0]
