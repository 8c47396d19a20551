"""What every source of configurations does: a file, a program's output and a cmod."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from storage_service.doors.sources.cmod import Cmod
from storage_service.doors.sources.file import ConfigFile
from storage_service.doors.sources.interface import DOCUMENT_BYTES, Configurations
from storage_service.doors.sources.program import ProgramOutput
from storage_service.rules.work import Fault
from tests.support.polling import steps, until
from tests.support.pyrame import PyrameModule, Raw, Silence
from tests.support.scripts import STAY, marked
from tests.support.traces import held, nothing_left

ABOUT = {"ACQ_ID": "a1"}


class Bench(Protocol):
    """A source, and what it is the door to."""

    source: Configurations
    origin: str
    told: str  # what every Fault has in its message

    def give(self, document: bytes) -> None:
        """This is the document from here on."""

    def spoil(self) -> None:
        """There is no document any more, but something else."""

    def hang(self) -> None:
        """It hangs."""

    def asked(self) -> bool:
        """Something waits for what hangs."""

    def recover(self) -> None:
        """It hangs no more, neither for who waits nor for who comes."""

    def remove(self) -> None:
        """It is not there any more."""

    async def close(self) -> None: ...


class FileBench:
    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._path = folder / "daq.xml"
        self._patch = patch
        self._begun, self._over = threading.Event(), threading.Event()
        self.source = ConfigFile(self._path)
        self.origin = f"file:{self._path}"
        self.told = str(self._path)

    def give(self, document: bytes) -> None:
        self._path.write_bytes(document)

    def spoil(self) -> None:
        self._path.unlink()
        self._path.mkdir()

    def hang(self) -> None:
        really = os.read

        def hangs(fd: int, size: int) -> bytes:
            if os.readlink(f"/proc/self/fd/{fd}") == str(self._path):
                self._begun.set()
                self._over.wait()
            return really(fd, size)

        self._patch.setattr(os, "read", hangs)

    def asked(self) -> bool:
        return self._begun.is_set()

    def recover(self) -> None:
        self._over.set()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    async def close(self) -> None:
        self.recover()


class ProgramBench:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program = folder / "configure"
        self.source = ProgramOutput([str(self._program), "now"])
        self.origin = f"program:{self._program}"
        self.told = str(self._program)

    def _write(self, body: str) -> None:
        self._program.write_text(f"#!/bin/sh\n{body}\n")
        self._program.chmod(0o755)

    def give(self, document: bytes) -> None:
        (self._folder / "document").write_bytes(document)
        self._write(f"exec cat {self._folder}/document")

    def spoil(self) -> None:
        self._write("echo half of it; echo it went wrong >&2; exit 3")

    def hang(self) -> None:
        # A child holds its output, and another one has left its session.
        code = STAY
        self._write(
            f"echo begun; {sys.executable} -c '{code}' {self._folder}/child &\n"
            f"setsid {sys.executable} -c '{code}' {self._folder}/child &\nwait"
        )

    def asked(self) -> bool:
        return len(marked(f"{self._folder}/child")) >= 2

    def recover(self) -> None:
        self.give((self._folder / "document").read_bytes())

    def remove(self) -> None:
        self._program.unlink(missing_ok=True)

    async def close(self) -> None:
        assert marked(str(self._folder)) == {}


class CmodBench:
    def __init__(self) -> None:
        self._module = PyrameModule()
        self.source = Cmod(self._module.address)
        self.origin = f"cmod:{self._module.address}"
        self.told = f"cmod at {self._module.address}"

    def give(self, document: bytes) -> None:
        self._module.document = document

    def spoil(self) -> None:
        self._module.say.append(Raw(b"220 ready\r\n"))

    def hang(self) -> None:
        self._module.requests.clear()
        self._module.say.append(Silence(b'<res retcode="1"><![CDATA[<config>'))

    def asked(self) -> bool:
        return bool(self._module.requests)

    def recover(self) -> None:
        self._module.say.clear()

    def remove(self) -> None:
        self._module.close()

    async def close(self) -> None:
        await until(lambda: not self._module.peers)
        self._module.close()


@pytest.fixture(params=["file", "program", "cmod"])
async def bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    made: dict[str, Bench] = {
        "file": FileBench(tmp_path, monkeypatch),
        "program": ProgramBench(tmp_path),
        "cmod": CmodBench(),
    }
    bench = made.pop(request.param)
    yield bench
    await bench.source.close()
    for each in (bench, *made.values()):
        await each.close()


DOCUMENTS = {
    "none": b"",
    "XML": b'<?xml version="1.0"?>\n<config>\n  <a b="c">&amp;</a>\n</config>\n',
    "not well-formed": b"<config><a></config>\n]]></res>\n<![CDATA[",
    "not even text": bytes(range(256)) * 3,
    "large": b"0123456789abcde\n" * (DOCUMENT_BYTES // 16),
}


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_document_comes_out_as_it_is(bench: Bench, name: str) -> None:
    bench.give(DOCUMENTS[name])
    assert await bench.source.fetch(ABOUT) == DOCUMENTS[name]


async def test_it_is_asked_for_anew_each_time(bench: Bench) -> None:
    for document in (b"<one/>", b"<two/>"):
        bench.give(document)
        assert await bench.source.fetch(ABOUT) == document


async def test_where_from_is_told(bench: Bench) -> None:
    assert bench.source.origin == bench.origin


async def test_two_may_fetch_at_once(bench: Bench) -> None:
    bench.give(b"<both/>")
    assert await asyncio.gather(*(bench.source.fetch(ABOUT) for _ in range(5))) == [b"<both/>"] * 5


async def test_a_document_over_the_limit_is_a_fault_and_leaves_nothing(bench: Bench) -> None:
    before = held()
    bench.give(b"x" * (DOCUMENT_BYTES + 1))
    with pytest.raises(Fault, match=f"{re.escape(bench.told)} .*more than {DOCUMENT_BYTES} bytes") as caught:
        await bench.source.fetch(ABOUT)
    assert caught.value.code == "too_large"
    await nothing_left(before)


async def test_what_is_no_document_is_a_fault_in_one_sentence(bench: Bench) -> None:
    before = held()
    bench.give(b"<a/>")
    bench.spoil()
    with pytest.raises(Fault, match=re.escape(bench.told)) as caught:
        await bench.source.fetch(ABOUT)
    assert caught.value.code == "unavailable"
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message
    await nothing_left(before)


async def test_a_source_that_is_not_there_is_a_fault(bench: Bench) -> None:
    before = held()
    bench.give(b"<a/>")
    bench.remove()
    with pytest.raises(Fault, match=rf"{re.escape(bench.told)} .*(No such file|refused)") as caught:
        await bench.source.fetch(ABOUT)
    assert caught.value.code == "unavailable"
    await nothing_left(before)


async def test_a_fetch_that_is_given_up_leaves_nothing_and_the_next_one_is_right(bench: Bench) -> None:
    bench.give(b"<a/>")
    before = held()
    bench.hang()
    fetch = asyncio.ensure_future(bench.source.fetch(ABOUT))
    await until(bench.asked)
    fetch.cancel()
    await asyncio.wait([fetch])
    assert fetch.cancelled()
    bench.recover()
    await nothing_left(before)
    assert await fetched_at_last(bench.source) == b"<a/>"


async def fetched_at_last(source: Configurations) -> bytes:
    """What it gives as soon as the thread of a read that was given up is over."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await source.fetch(ABOUT)
            except Fault as fault:
                if fault.details["reason"] != "an earlier read hangs":
                    raise
                await steps()


async def test_a_closed_source_holds_nothing(bench: Bench) -> None:
    bench.give(b"<a/>")
    before = held()
    await bench.source.fetch(ABOUT)
    await bench.source.close()
    await bench.source.close()
    await nothing_left(before)
