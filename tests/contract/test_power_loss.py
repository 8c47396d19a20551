"""What is acknowledged survives a loss of power (promise R1); the disk that has it is as bad as disks are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import apsw
import pytest

from tests.power_loss import lose_power
from tests.support.crash_vfs import CrashDisk, Inode

LOSSES = 300
SEED = 1


def test_nothing_acknowledged_is_lost_and_nothing_else_is_there(tmp_path: Path) -> None:
    tally = lose_power(tmp_path, LOSSES, SEED)
    assert tally.found == []
    assert tally.cycles >= LOSSES
    assert tally.acknowledged > LOSSES
    # The losses met what they are meant to meet.
    assert all(tally.met[where] >= 3 for where in ("between", "opening", "whole", "gone")), tally.met


# The disk


@pytest.fixture
def disk() -> Iterator[CrashDisk]:
    made = CrashDisk(Random(3))
    yield made
    made.unregister()


def left(inode: Inode, tries: int = 300) -> set[bytes]:
    return {inode.after_power_loss(Random(seed)) for seed in range(tries)}


def test_what_was_synced_stays_and_what_was_not_may_be_lost_torn_or_kept_out_of_order() -> None:
    inode = Inode(b"a" * 1024)
    inode.pending += [(0, b"b" * 1024), (0, b"c" * 512)]
    found = left(inode)
    whole = {b"a" * 1024, b"b" * 1024, b"c" * 512 + b"b" * 512}
    torn_or_reordered = {b"c" * 512 + b"a" * 512, b"a" * 512 + b"b" * 512, b"b" * 512 + b"a" * 512}
    assert found == whole | torn_or_reordered
    inode.sync()
    assert left(inode) == {b"c" * 512 + b"b" * 512}


def test_sectors_are_those_of_the_disk() -> None:
    inode = Inode(b"a" * 1024)
    inode.pending.append((500, b"b" * 24))
    assert left(inode) == {
        b"a" * 500 + one + two + b"a" * 500 for one in (b"a" * 12, b"b" * 12) for two in (b"a" * 12, b"b" * 12)
    }


def test_a_file_that_grew_may_hold_what_lay_there_before() -> None:
    inode = Inode()
    inode.pending.append((0, b"b" * 512))
    found = left(inode)
    assert {b"", b"b" * 512, bytes(512)} < found
    assert any(len(each) == 512 and len(set(each)) > 2 for each in found)


def test_a_cut_that_was_not_synced_may_be_lost() -> None:
    inode = Inode(b"abc")
    inode.pending.append(1)
    assert left(inode) == {b"abc", b"a"}


@pytest.mark.parametrize("synchronous", ["off", "normal", "full"])
def test_a_store_that_does_not_sync_loses_what_it_said_was_there(
    tmp_path: Path, disk: CrashDisk, synchronous: str
) -> None:
    lost = 0
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk.begin({})
        db = apsw.Connection(str(folder / "db"))
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", synchronous)
        db.execute("CREATE TABLE t (n)")
        db.execute("INSERT INTO t VALUES (1)")
        files = disk.lose_power()
        db.close()
        after = folder / "after"
        after.mkdir()
        for path, content in files.items():
            (after / path.name).write_bytes(content)
        disk.begin({after / path.name: content for path, content in files.items()})
        db = apsw.Connection(str(after / "db"))
        try:
            lost += db.execute("SELECT n FROM t").fetchall() != [(1,)]
        except apsw.Error:
            lost += 1
        db.close()
    assert (lost > 0) == (synchronous != "full")
