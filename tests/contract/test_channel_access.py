"""PVs of a real IOC: what their values, units and alarms become, and that the library leaves no trace."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator

import pytest

from storage_service.doors.sources.channel_access import MOST_CHANNELS, ChannelAccess
from storage_service.rules.readings import Reading
from storage_service.rules.work import Fault
from tests.support.polling import steps, until
from tests.support.soft_ioc import LONG_TEXT, PREFIX, SoftIoc, free_port, why_not
from tests.support.traces import held, nothing_left


@pytest.fixture
async def source(soft_ioc: SoftIoc) -> AsyncIterator[ChannelAccess]:
    source = ChannelAccess()
    yield source
    await source.close()


def pv(name: str) -> str:
    return f"{PREFIX}:{name}"


@pytest.mark.parametrize(
    ("name", "reading"),
    [
        ("COOL", Reading(value=21.5, unit="degC", severity="NO_ALARM")),
        ("WARM", Reading(value=31.0, unit="degC", severity="MINOR")),
        ("HOT", Reading(value=51.0, unit="degC", severity="MAJOR")),
        ("COUNT", Reading(value=7, unit="events", severity="NO_ALARM")),
        ("UNDEFINED", Reading(value=0.0, severity="INVALID")),
        ("MODE", Reading(value="Running", severity="NO_ALARM")),
        ("TEXT", Reading(value="hello", severity="NO_ALARM")),
        ("LONG_TEXT", Reading(value=LONG_TEXT, severity="NO_ALARM")),
        ("COOL.EGU", Reading(value="degC", severity="NO_ALARM")),
        ("COOL.DESC$", Reading(value="", severity="NO_ALARM")),
        ("HOT.SEVR", Reading(value="MAJOR", severity="MAJOR")),
    ],
)
async def test_a_pv_becomes_a_value_with_its_unit_and_its_alarm(
    source: ChannelAccess, name: str, reading: Reading
) -> None:
    given = await source.read(pv(name))
    assert given == reading
    assert type(given.value) is type(reading.value)


async def test_a_state_without_a_label_is_its_number(source: ChannelAccess) -> None:
    assert (await source.read(pv("ODD_MODE"))).value == 9


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("WAVE", "array of 3"),
        ("NAN", "is nan, which is no finite number"),
        ("INF", "is inf"),
        ("ENDLESS_TEXT", "over 65536"),
    ],
)
async def test_what_is_no_value_is_missing_with_its_reason(source: ChannelAccess, name: str, why: str) -> None:
    reading = await source.read(pv(name))
    assert reading.value is None
    assert why in reading.missing
    assert pv(name) in reading.missing


async def test_a_pv_that_nobody_has_is_not_searched_for_when_nobody_waits(source: ChannelAccess) -> None:
    await source.read(pv("COOL"))
    absent = asyncio.ensure_future(source.read(pv("ABSENT")))
    await until(lambda: len(channels()) == 2)
    assert (await source.read(pv("COOL"))).value == 21.5
    assert len(channels()) == 2
    absent.cancel()
    await asyncio.wait([absent])
    assert channels() == []


async def test_what_is_connected_stays_so_from_one_read_to_the_next(source: ChannelAccess) -> None:
    for name in ("COOL", "HOT", "COOL"):
        await source.read(pv(name))
    assert sorted(channels()) == [pv("COOL"), pv("HOT")]


async def test_not_all_that_was_ever_read_stays_connected(
    source: ChannelAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_service.doors.sources.channel_access.MOST_CHANNELS", 2)
    for name in ("COOL", "HOT", "WARM", "TEXT"):
        await source.read(pv(name))
    assert channels() == [pv("TEXT")]
    assert MOST_CHANNELS > 1000


def channels() -> list[str]:
    import aioca

    return [each.name for each in aioca.get_channel_infos()]


async def test_an_ioc_that_hangs_in_the_middle_of_a_read_leaves_nothing(
    source: ChannelAccess, soft_ioc: SoftIoc
) -> None:
    await source.read(pv("COOL"))
    await source.close()
    before = held()
    await source.read(pv("COOL"))
    soft_ioc.stop()
    try:
        read = asyncio.ensure_future(source.read(pv("COOL")))
        await steps(5)  # it is connected: these are the steps to where it waits for the answer
        assert not read.done()
        read.cancel()
        await asyncio.wait([read])
    finally:
        soft_ioc.go_on()
    assert (await source.read(pv("COOL"))).value == 21.5
    await source.close()
    await nothing_left(before)


READER = """
import asyncio, os, sys
from storage_service.doors.process_group import look
from storage_service.doors.sources.channel_access import ChannelAccess

async def main():
    source = ChannelAccess()
    print((await source.read(sys.argv[1])).value)
    absent = asyncio.ensure_future(source.read("nobody:has:it"))
    await asyncio.wait([absent], timeout=0)
    looked = (look(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    print([each for each in looked if each and each.parent == os.getpid()])
    if "close" in sys.argv:
        absent.cancel()
        await asyncio.wait([absent])
        await source.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["close", "leave"])
def test_a_process_that_has_read_ends_without_a_word(soft_ioc: SoftIoc, how: str) -> None:
    words = [sys.executable, "-X", "dev", "-W", "error", "-c", READER, pv("COOL"), how]
    # Nobody repeats beacons there: the library tries to start a program for that.
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "EPICS_CA_REPEATER_PORT": str(free_port())}
    environment = {**os.environ, **own}
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("21.5\n[]\n", "", 0)


async def test_many_first_reads_start_the_library_once(soft_ioc: SoftIoc, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    really = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        started.append(thread.name)
        really(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    source = ChannelAccess()
    readings = await asyncio.gather(*(source.read(pv("COUNT")) for _ in range(20)))
    assert [reading.value for reading in readings] == [7] * 20
    assert started == ["channel access"]
    await source.close()


# Without the extra


async def test_without_aioca_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aioca", None)
    source = ChannelAccess()
    with pytest.raises(Fault, match=r"install storage-service\[epics\]") as caught:
        await source.read("x")
    assert caught.value.code == "unavailable"
    await source.close()
    assert (await source.read("")).missing


@pytest.mark.skipif(why_not() != "", reason=why_not())
def test_nothing_is_imported_before_the_first_read() -> None:
    code = (
        "import sys; from storage_service.doors.sources.channel_access import ChannelAccess; ChannelAccess()\n"
        "print([name for name in sys.modules if name.startswith(('aioca', 'epics', 'numpy'))])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
