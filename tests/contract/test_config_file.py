"""A configuration that is a file: whatever stands at its path, a fetch neither hangs nor takes it for one."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from storage_service.doors.sources.file import ConfigFile
from storage_service.rules.work import Fault
from tests.support.polling import until


def hanging(patch: pytest.MonkeyPatch, path: Path) -> tuple[threading.Event, threading.Event]:
    """Reads of that file hang from here on: set once one does, and to be set for it to go on."""
    begun, over, really = threading.Event(), threading.Event(), os.read

    def read(fd: int, size: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}") == str(path):
            begun.set()
            over.wait()
        return really(fd, size)

    patch.setattr(os, "read", read)
    return begun, over


async def test_a_fifo_is_no_configuration_and_who_writes_to_it_notices_nothing(tmp_path: Path) -> None:
    path = tmp_path / "daq.xml"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(b"not for you"))
    writer.start()
    with pytest.raises(Fault, match=rf"{path} cannot be read: it is not a plain file\."):
        await ConfigFile(path).fetch({})
    assert path.read_bytes() == b"not for you"
    writer.join()


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/tty", "/proc/self/ns", "/"])
async def test_a_device_or_a_folder_is_no_configuration(path: str) -> None:
    with pytest.raises(Fault, match=f"{path} cannot be read: it is not a plain file"):
        await ConfigFile(Path(path)).fetch({})


async def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.xml").write_bytes(b"<a/>")
    (tmp_path / "daq.xml").symlink_to("real.xml")
    assert await ConfigFile(tmp_path / "daq.xml").fetch({}) == b"<a/>"


async def test_a_file_whose_size_nobody_knows_before_is_read_to_its_end() -> None:
    assert b"MemTotal" in await ConfigFile(Path("/proc/meminfo")).fetch({})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.symlink_to(path), "symbolic links"),
        (lambda path: path.with_suffix("").write_bytes(b""), "No such file"),
    ],
    ids=["a link to itself", "nothing there"],
)
async def test_what_the_system_says_is_told(make: object, why: str, tmp_path: Path) -> None:
    path = tmp_path / "daq.xml"
    make(path)  # type: ignore[operator]
    with pytest.raises(Fault, match=why):
        await ConfigFile(path).fetch({})


async def test_a_path_that_cannot_be_one_is_told() -> None:
    with pytest.raises(Fault, match="cannot be read: embedded null byte"):
        await ConfigFile(Path("/a\0b")).fetch({})


async def test_while_an_earlier_read_hangs_that_is_told_and_no_second_thread_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "daq.xml"
    path.write_bytes(b"<a/>")
    begun, over = hanging(monkeypatch, path)
    source = ConfigFile(path)
    first, second = (asyncio.ensure_future(source.fetch({})) for _ in range(2))
    await until(begun.is_set)
    assert not second.done()  # it waits for its turn as long as somebody waits for the first
    first.cancel()
    with pytest.raises(Fault, match="an earlier read of it still hangs"):
        await second
    with pytest.raises(Fault, match="an earlier read of it still hangs"):
        await source.fetch({})
    assert len([each for each in threading.enumerate() if each.name == "configuration file"]) == 1
    over.set()
    await until(lambda: not [each for each in threading.enumerate() if each.name == "configuration file"])
    assert await source.fetch({}) == b"<a/>"


async def test_no_thread_to_be_had_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "daq.xml").write_bytes(b"<a/>")
    source = ConfigFile(tmp_path / "daq.xml")

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(Fault, match="can't start new thread"):
            await source.fetch({})
    assert await source.fetch({}) == b"<a/>"
