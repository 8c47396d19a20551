"""The spool's file: whose it is, what it is not, and a disk that is full."""

import asyncio
import contextlib
import resource
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage_client import Spooled, SpoolError, SpoolInUseError, StorageClient, read_spool
from storage_client.spool import Draft, Spool
from tests.support.scripted import ScriptedService

SET = "set_param_acq_storage"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def spooling(file: Path) -> StorageClient[Spooled]:
    """A client with a spool that loses patience soon."""
    return StorageClient(f"ipc://{file.parent}/commands.ipc", timeout_s=0.2, spool=file)


def content(file: Path, written: str = "") -> bytes:
    """What is in a file; `written` first, if that is given."""
    if written:
        file.write_text(written)
    return file.read_bytes()


async def put(client: StorageClient[Spooled], value: Any) -> Any:
    """A command that changes something."""
    return await client.set_param_acq("s1", "root/a", "p", value)


async def test_a_second_client_on_one_file_is_told_so(spool: Path) -> None:
    second = spooling(spool)
    async with spooling(spool) as client:
        for _ in range(2):
            with pytest.raises(SpoolInUseError, match="each client needs a spool of its own"):
                await second.__aenter__()
        assert isinstance(await put(client, 0), Spooled)
    async with second:
        assert len(await second.spooled()) == 1


async def test_a_file_that_is_no_spool_is_not_touched(spool: Path) -> None:
    before = content(spool, "a letter\n" * 200)
    with pytest.raises(SpoolError, match=r"spool\.db"):
        await spooling(spool).__aenter__()
    with pytest.raises(SpoolError):
        read_spool(spool)
    assert content(spool) == before


@pytest.mark.parametrize("foreign", ["CREATE TABLE letters (text)", "PRAGMA user_version = 2"])
async def test_another_programs_database_and_a_newer_spool_are_not_touched(spool: Path, foreign: str) -> None:
    with contextlib.closing(sqlite3.connect(spool)) as database:
        database.execute(foreign)
    before = content(spool)
    with pytest.raises(SpoolError, match="no spool file that this version can use"):
        await spooling(spool).__aenter__()
    with pytest.raises(SpoolError, match="no spool file that this version can use"):
        read_spool(spool)
    assert content(spool) == before


def test_to_read_a_spool_makes_none(spool: Path) -> None:
    with pytest.raises(SpoolError, match="cannot be read"):
        read_spool(spool)
    spool.touch()
    with pytest.raises(SpoolError, match="is no spool file"):
        read_spool(spool)
    assert spool.read_bytes() == b""


async def test_ids_never_come_again(spool: Path) -> None:
    for n in range(1, 4):
        file = Spool(spool)
        assert await file.open() == 0
        [put] = await file.put([Draft("deinit_storage", {"storage_id": "s1"}, f"key-{n}")])
        assert (put.id, await file.waiting()) == (n, [put])
        await file.settle([put.id])
        await file.close()


async def test_a_full_disk_is_told_and_what_was_spooled_is_still_drained(spool: Path) -> None:
    async with spooling(spool) as client:
        await put(client, 0)
        with files_no_longer_than(spool.with_name("spool.db-wal").stat().st_size + 200_000):
            results = await asyncio.gather(*(put(client, "x" * 60_000) for _ in range(9)), return_exceptions=True)
        assert {type(result) for result in results} == {SpoolError}
        await put(client, 1)
        service = ScriptedService(spool.parent)
        service.answers[SET] = lambda frame: {"stored": True}
        try:
            await client.drained()
            assert await put(client, 2) is True
            values = {frame["key"]: frame["args"]["value"] for frame in service.frames(SET)}
            assert list(values.values()) == [0, 1, 2]
        finally:
            service.close()


@contextlib.contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """A disk that is nearly full, for the files of this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
