"""What every source of variables does, each against a server of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import pytest

from storage_service.doors.sources.channel_access import ChannelAccess
from storage_service.doors.sources.interface import Variables
from storage_service.doors.sources.varmod import Varmod
from storage_service.rules.readings import Reading
from storage_service.rules.work import Fault
from tests.support.polling import steps, until
from tests.support.pyrame import PyrameModule, Silence
from tests.support.soft_ioc import LONG_TEXT, PREFIX, TEXT_BYTES, SoftIoc
from tests.support.traces import held, nothing_left

VALUES: dict[str, str | int | float] = {
    "COUNT": 7,
    "COOL": 21.5,
    "TEXT": "hello",
    "LONG_TEXT": LONG_TEXT,
    "FULL_TEXT": "x" * TEXT_BYTES,
}


class Bench(Protocol):
    """A source and its server, which has `VALUES`, and ENDLESS_TEXT that is over the limit."""

    source: Variables

    def full(self, name: str) -> str:
        """The name as the source wants it."""

    def hang(self) -> None:
        """The server answers nothing from here on."""

    async def asked(self) -> None:
        """Something was asked since."""

    def recover(self) -> None:
        """It answers again."""

    def close(self) -> None: ...


class VarmodBench:
    def __init__(self, dialect: int) -> None:
        self._module = PyrameModule(dialect)
        before = ("3", "stats") if dialect == 3 else ("3",)
        for name, value in {**VALUES, "ENDLESS_TEXT": "x" * (TEXT_BYTES + 1)}.items():
            self._module.variables[*before, name] = str(value).encode()
        self.source = Varmod(self._module.address, dialect, "3", "stats")

    def full(self, name: str) -> str:
        return name

    def hang(self) -> None:
        self._module.requests.clear()
        self._module.say.extend([Silence()] * 8)

    async def asked(self) -> None:
        await until(lambda: self._module.requests)

    def recover(self) -> None:
        self._module.say.clear()

    def close(self) -> None:
        self._module.close()
        assert self._module.died == ""


class IocBench:
    def __init__(self, ioc: SoftIoc) -> None:
        self._ioc = ioc
        self.source = ChannelAccess()

    def full(self, name: str) -> str:
        return f"{PREFIX}:{name}"

    def hang(self) -> None:
        self._ioc.stop()

    async def asked(self) -> None:
        """Nobody is there who could see it; its first step is taken at once."""
        await steps()

    def recover(self) -> None:
        self._ioc.go_on()

    def close(self) -> None:
        self._ioc.go_on()


@pytest.fixture(params=["varmod of Pyrame 2", "varmod of Pyrame 3", "channel access"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    bench: Bench
    if request.param == "channel access":
        bench = IocBench(request.getfixturevalue("soft_ioc"))
    else:
        bench = VarmodBench(int(request.param[-1]))
    # What a process keeps from its first read on is there now.
    await bench.source.read(bench.full("COUNT"))
    yield bench
    await bench.source.close()
    bench.close()


@pytest.mark.parametrize("name", VALUES)
async def test_a_variable_has_its_value_and_its_type(bench: Bench, name: str) -> None:
    reading = await bench.source.read(bench.full(name))
    assert (reading.value, reading.missing) == (VALUES[name], "")
    assert type(reading.value) is type(VALUES[name])


async def test_many_are_read_side_by_side(bench: Bench) -> None:
    names = list(VALUES) * 20
    readings = await asyncio.gather(*(bench.source.read(bench.full(name)) for name in names))
    assert [reading.value for reading in readings] == [VALUES[name] for name in names]


async def test_one_that_is_not_there_keeps_no_other_waiting(bench: Bench) -> None:
    absent = asyncio.ensure_future(bench.source.read(bench.full("ABSENT")))  # it begins before what follows
    readings = await asyncio.gather(*(bench.source.read(bench.full("COUNT")) for _ in range(8)))
    assert readings == [readings[0]] * 8
    assert readings[0].value == 7
    if absent.done():
        assert "ABSENT" in (await absent).missing
    absent.cancel()
    await asyncio.wait([absent])
    assert (await bench.source.read(bench.full("COUNT"))).value == 7


@pytest.mark.parametrize(
    "name", ["", "a\nb", "a\0b", "x" * 2000, "ö" * 600, "\ud800", "\x85"], ids=lambda name: ascii(name[:6])
)
async def test_what_cannot_be_asked_for_is_missing(bench: Bench, name: str) -> None:
    reading = await bench.source.read(name)
    assert reading.value is None
    assert reading.missing.endswith(".")
    assert "\n" not in reading.missing
    assert (await bench.source.read(bench.full("COUNT"))).value == 7


async def test_a_value_over_the_limit_is_missing(bench: Bench) -> None:
    reading = await bench.source.read(bench.full("ENDLESS_TEXT"))
    assert reading.value is None
    assert str(TEXT_BYTES) in reading.missing


async def test_a_read_that_is_given_up_leaves_nothing_and_the_next_one_is_right(bench: Bench) -> None:
    await bench.source.close()
    before = held()
    bench.hang()
    reads = [asyncio.ensure_future(bench.source.read(bench.full(name))) for name in VALUES]
    await bench.asked()
    assert not any(read.done() for read in reads)
    for read in reads:
        read.cancel()
    await asyncio.wait(reads)
    await nothing_left(before)
    bench.recover()
    for name, value in VALUES.items():
        assert (await bench.source.read(bench.full(name))).value == value


async def test_a_source_that_is_closed_holds_nothing(bench: Bench) -> None:
    await bench.source.close()
    before = held()
    await asyncio.gather(*(bench.source.read(bench.full(name)) for name in VALUES))
    await bench.source.close()
    await bench.source.close()
    await nothing_left(before)


# What only varmod can be seen to do: of a server that is away Channel Access hears nothing


async def test_a_varmod_that_is_not_there_is_told_with_its_address(module: PyrameModule) -> None:
    module.close()
    source = Varmod(module.address, 2)
    with pytest.raises(Fault, match=f"varmod at {module.address} cannot be reached: .*refused"):
        await source.read("x")


async def test_a_varmod_that_comes_back_is_asked_again(module: PyrameModule) -> None:
    source = Varmod(module.address, 2)
    module.variables["0", "x"] = b"1"
    assert await source.read("x") == Reading(value=1)
    await until(lambda: module.peers == 0)
    assert await source.read("x") == Reading(value=1)
