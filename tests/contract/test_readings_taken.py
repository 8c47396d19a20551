"""What carries readings out: the built-in variables, sources that fail or hang, and documents beside the data."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from msgspec.structs import replace

from storage_protocol.records import Configuration, Document
from storage_service.config import load
from storage_service.mount_tables import Mount
from storage_service.mounts import Mounts
from storage_service.rules.readings import HANDED_IN, Reading, ReadingsTaken, TakeReadings, Wanted
from storage_service.rules.state import Variable
from storage_service.sources import MOST_AT_ONCE, Sources
from tests.support.memory_store import MemoryStore
from tests.support.place import ACQ, MP, Place, make_acq, put
from tests.support.polling import until
from tests.support.step_shell import PLACES

ORDER = TakeReadings(ACQ, "a1", 1, "s", "start", MP, ("beam", "run_1", "acq_1"), about={"STORAGE_ID": "s"})
AWAY = "127.0.0.1:1"  # nothing listens there


class Bench:
    """Sources on a real mount point. `told`: what came of each work."""

    def __init__(self, top: Path) -> None:
        self.top, self.place = top, Place(top)
        self.place.mount.carry_out(make_acq())
        self.store = MemoryStore(PLACES)
        self.told: dict[str, ReadingsTaken] = {}
        self.mounts = Mounts({MP: Mount(self.place.root)}, self.place.scripts)
        self.sources: Sources

    def start(self, **settings: Any) -> Sources:
        tables = {"timeout_s": 20, "settle_s": 0, **settings.pop("sources", {})}
        given = {f"sources.{name}": str(value) for name, value in tables.items()}
        storages = json.dumps({"*": {"config": settings["config"]}}) if settings else "{}"
        config = load(None, {}, {**given, "storages": storages})
        self.sources = Sources(config, self.stored, self.mounts, self.told.__setitem__)
        return self.sources

    async def stored(self, work: Callable[[Any], Any]) -> Any:
        return work(self.store)

    async def take(self, order: TakeReadings) -> ReadingsTaken:
        work = f"readings {len(self.told)}"
        self.sources.take(work, order)
        await until(lambda: work in self.told)
        return self.told[work]

    def keep(self, content: bytes, name: str = "config.xml") -> Wanted:
        """A document that was handed in."""
        digest = blake3(content).hexdigest()
        self.store.documents[digest] = content
        return Wanted("start", Document(name, digest, len(content)))

    def files(self) -> dict[str, bytes]:
        folder = self.place.root / "beam/run_1/acq_1"
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "acquisition.json"}

    def program(self, body: str) -> dict[str, Any]:
        path = self.top / "program"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return {"program": [str(path)], "name": "dump.txt"}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.sources.close()
    bench.mounts.close()


def missing(taken: ReadingsTaken, name: str) -> str:
    return taken.readings[name].missing


# Variables


async def test_plain_names_are_variables_of_the_namespace_default(bench: Bench) -> None:
    bench.start()
    for n, value in enumerate((1, 2.5, "on", True, None)):
        variable = Variable("default", f"v{n}", value)
        bench.store.records[variable.key] = variable
    other = Variable("other", "w", 1)
    bench.store.records[other.key] = other
    taken = await bench.take(replace(ORDER, names=("v0", "v1", "v2", "v3", "v4", "w", "a:b")))
    assert [taken.readings[f"v{n}"] for n in range(5)] == [Reading(each) for each in (1, 2.5, "on", True, None)]
    assert missing(taken, "w") == "There is no variable w in the namespace default."
    assert missing(taken, "a:b") == "There is no variable a:b in the namespace default."
    assert (taken.configurations, taken.failures, taken.again) == ((), (), "")


@pytest.mark.parametrize("name", ["", " x", "a\nb", "x" * 129])
async def test_a_name_that_no_variable_has_is_missing_and_says_why(bench: Bench, name: str) -> None:
    bench.start()
    taken = await bench.take(replace(ORDER, names=(name,)))
    assert missing(taken, name).startswith("No variable can have the name ")


async def test_a_source_that_nobody_configured_is_missing_and_names_the_key(bench: Bench) -> None:
    bench.start()
    taken = await bench.take(replace(ORDER, names=("varmod:hv",)))
    assert missing(taken, "varmod:hv") == "No address is configured for varmod: sources.varmod must name it."


async def test_a_source_that_is_away_costs_the_others_nothing(bench: Bench) -> None:
    bench.start(sources={"varmod": AWAY})
    variable = Variable("default", "x", 7)
    bench.store.records[variable.key] = variable
    taken = await bench.take(replace(ORDER, names=("varmod:hv", "x", "varmod:lv")))
    assert taken.readings["x"] == Reading(7)
    assert AWAY in missing(taken, "varmod:hv")
    assert AWAY in missing(taken, "varmod:lv")


async def test_a_source_that_never_answers_is_missing_after_the_time_out_and_the_others_are_not(
    bench: Bench,
) -> None:
    variable = Variable("default", "x", 7)
    bench.store.records[variable.key] = variable
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        bench.start(sources={"varmod": address, "timeout_s": 0.2})
        taken = await bench.take(replace(ORDER, names=("varmod:hv", "x")))
        await bench.sources.close()
    assert taken.readings == {"x": Reading(7), "varmod:hv": Reading(missing="There was no answer within 0.2 s.")}


async def test_a_database_that_cannot_be_read_is_the_reason(bench: Bench) -> None:
    async def broken(work: Any) -> Any:
        raise OSError("the disk is gone")

    bench.sources = Sources(load(None, {}, {}), broken, bench.mounts, bench.told.__setitem__)
    wanted = bench.keep(b"one")
    taken = await bench.take(replace(ORDER, names=("x",), wanted=(wanted,)))
    assert missing(taken, "x") == "The database cannot be read: the disk is gone."
    (failure,) = taken.failures
    assert "the disk is gone" in failure


@pytest.mark.parametrize(("when", "name"), [("start", "varmod:x"), ("end", "x")])
async def test_what_needs_no_time_to_settle_does_not_wait(bench: Bench, when: str, name: str) -> None:
    bench.start(sources={"varmod": AWAY, "settle_s": 600})
    await bench.take(replace(ORDER, when=when, names=(name,)))


async def test_an_end_with_variables_from_outside_lets_them_settle(bench: Bench) -> None:
    bench.start(sources={"varmod": AWAY, "settle_s": 0.3})
    before = time.monotonic()
    await bench.take(replace(ORDER, when="end", names=("varmod:x",)))
    assert time.monotonic() - before >= 0.3


# Configurations


async def test_what_was_handed_in_is_saved_beside_the_data(bench: Bench) -> None:
    bench.start()
    wanted = bench.keep(b"\xff<config/>", "daq.xml")
    taken = await bench.take(replace(ORDER, wanted=(wanted,)))
    digest = blake3(b"\xff<config/>").hexdigest()
    assert taken.configurations == (Configuration("daq.xml", "start", digest, 10, HANDED_IN),)
    assert bench.files() == {"daq.xml": b"\xff<config/>"}
    again = await bench.take(replace(ORDER, when="end", wanted=(wanted,), saved=(digest,)))
    assert (again.configurations, again.failures) == ((), ())


async def test_several_are_saved_in_order_and_none_twice(bench: Bench) -> None:
    bench.start()
    one, two = bench.keep(b"one"), replace(bench.keep(b"two"), when="end")
    taken = await bench.take(replace(ORDER, when="end", wanted=(one, two, one)))
    assert [(each.file, each.when) for each in taken.configurations] == [
        ("config.xml", "start"),
        ("config-2.xml", "end"),
    ]
    assert bench.files() == {"config.xml": b"one", "config-2.xml": b"two"}


async def test_a_document_that_is_not_there_any_more_is_a_failure_and_the_next_is_saved(bench: Bench) -> None:
    bench.start()
    gone, there = bench.keep(b"gone", "gone.xml"), bench.keep(b"there")
    bench.store.documents.pop(blake3(b"gone").hexdigest())
    taken = await bench.take(replace(ORDER, wanted=(gone, there)))
    assert taken.failures == ("The configuration gone.xml that was handed in is not there any more.",)
    assert bench.files() == {"config.xml": b"there"}


async def test_a_file_is_read_anew_each_time(bench: Bench) -> None:
    path = bench.top / "daq.xml"
    bench.start(config={"file": str(path)})
    put(path, "one")
    first = await bench.take(replace(ORDER, wanted=(Wanted("start"),)))
    assert [(each.file, each.source) for each in first.configurations] == [("config.xml", f"file:{path}")]
    put(path, "two")
    second = await bench.take(replace(ORDER, when="end", wanted=(Wanted("end"),)))
    assert [each.when for each in second.configurations] == ["end"]
    assert bench.files() == {"config.xml": b"one", "config-2.xml": b"two"}
    path.unlink()
    third = await bench.take(replace(ORDER, wanted=(Wanted("start"),)))
    assert str(path) in third.failures[0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("exit 3", "exit code 3"),
        ("echo no beam >&2; exit 1", "no beam"),
        ("kill -9 $$", "SIGKILL"),
        ("sleep 600", "gave no configuration within 0.5 s"),
        ("head -c 17000000 /dev/zero", "more than 16777216 bytes"),
    ],
)
async def test_a_program_that_fails_is_a_sentence_and_the_variables_are_read(
    bench: Bench, body: str, said: str
) -> None:
    timeout_s = 0.5 if "sleep" in body else 20
    bench.start(config=bench.program(body), sources={"timeout_s": timeout_s})
    variable = Variable("default", "x", 7)
    bench.store.records[variable.key] = variable
    taken = await bench.take(replace(ORDER, names=("x",), wanted=(Wanted("start"),)))
    assert said in taken.failures[0]
    assert (taken.readings, taken.configurations, taken.again) == ({"x": Reading(7)}, (), "")
    assert bench.files() == {}


async def test_a_program_is_told_of_the_acquisition_and_its_garbage_is_kept_verbatim(bench: Bench) -> None:
    bench.start(config=bench.program('printf "%s\\000\\377" "$STORAGE_ID"'))
    taken = await bench.take(replace(ORDER, wanted=(Wanted("start"),)))
    assert taken.failures == ()
    assert bench.files() == {"dump.txt": b"s\0\xff"}


async def test_a_source_that_is_not_configured_any_more_is_a_sentence(bench: Bench) -> None:
    bench.start()
    taken = await bench.take(replace(ORDER, wanted=(Wanted("start"),)))
    assert taken.failures == ("No source of configurations is configured any more for this storage.",)


async def test_what_cannot_be_written_is_to_be_tried_again(bench: Bench) -> None:
    bench.start()
    wanted = bench.keep(b"one")
    taken = await bench.take(replace(ORDER, uid="another's", wanted=(wanted,)))
    assert taken.again.startswith("The configuration is not saved yet: ")
    assert (taken.configurations, taken.failures) == ((), ())
    taken = await bench.take(replace(ORDER, mp="nfs://none", wanted=(wanted,)))
    assert "not configured any more" in taken.again


# Many at once, and the end


async def test_one_that_hangs_delays_no_other(bench: Bench) -> None:
    bench.start(config=bench.program("sleep 600"), sources={"timeout_s": 30})
    bench.sources.take("slow", replace(ORDER, wanted=(Wanted("start"),)))
    for _ in range(2 * MOST_AT_ONCE):
        await bench.take(replace(ORDER, names=("x",)))
    assert "slow" not in bench.told


async def test_what_is_under_way_at_a_stop_is_told_to_nobody_and_nothing_is_begun_after(bench: Bench) -> None:
    bench.start(config=bench.program("sleep 600"))
    bench.sources.take("slow", replace(ORDER, names=("x",), wanted=(Wanted("start"),)))
    await bench.take(ORDER)
    told = dict(bench.told)
    await bench.sources.close()
    bench.sources.take("late", replace(ORDER, names=("x",)))
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert bench.told == told
