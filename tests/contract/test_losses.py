"""What a file system lost after it was written is told to all whom it may concern, once, and to nobody else."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage_service.doors.directory import Directory
from storage_service.doors.losses import Losses


class Kernel:
    """The errors of a file system as Linux keeps them: each open description is told once of what came after it
    was opened; one that is opened later is told only if nobody was before."""

    def __init__(self) -> None:
        self.errors = self.told = 0
        self.samples: dict[int, int] = {}
        self.errno = errno.EIO

    def sync(self, folder: Directory) -> None:
        # A description that is not known yet was opened just now.
        sample = self.samples.setdefault(id(folder), self.told)
        if self.errors > sample:
            self.samples[id(folder)] = self.told = self.errors
            raise OSError(self.errno, os.strerror(self.errno))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made, real = Kernel(), Directory.reopened

    def reopened(self: Directory) -> Directory:
        again = real(self)
        made.samples[id(again)] = made.told
        kept.append(again)  # so that no other gets its id
        return again

    kept: list[Directory] = []
    monkeypatch.setattr(Directory, "reopened", reopened)
    return made


@pytest.fixture
def losses(kernel: Kernel) -> Losses:
    return Losses(kernel.sync)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Directory]:
    with Directory.at(tmp_path) as opened:
        yield opened


def seal(losses: Losses, uid: str, at: Path) -> bool:
    """Sync for one acquisition as the door does: its folder is opened for this."""
    with Directory.at(at) as folder:
        return losses.sync(uid, folder) is None


def test_every_acquisition_that_was_open_is_told_of_a_loss_and_only_once(
    losses: Losses, kernel: Kernel, folder: Directory, tmp_path: Path
) -> None:
    losses.watch("a", folder)
    losses.watch("b", folder)
    kernel.errors += 1
    assert [seal(losses, uid, tmp_path) for uid in ("a", "b", "a", "b")] == [False, False, True, True]


def test_one_that_was_opened_afterwards_has_lost_nothing(
    losses: Losses, kernel: Kernel, folder: Directory, tmp_path: Path
) -> None:
    losses.watch("a", folder)
    kernel.errors += 1
    assert not seal(losses, "a", tmp_path)
    losses.watch("later", folder)
    assert seal(losses, "later", tmp_path)


def test_a_loss_that_somebody_else_was_told_of_is_heard_all_the_same(
    losses: Losses, kernel: Kernel, folder: Directory, tmp_path: Path
) -> None:
    losses.watch("a", folder)
    kernel.errors += 1
    kernel.told = kernel.errors  # another program's sync
    assert not seal(losses, "a", tmp_path)


def test_one_of_an_earlier_life_is_told_of_every_loss_of_this_one(
    losses: Losses, kernel: Kernel, folder: Directory, tmp_path: Path
) -> None:
    losses.watch("a", folder)
    kernel.errors += 1
    assert not seal(losses, "a", tmp_path)
    assert [seal(losses, "earlier", tmp_path) for _ in range(2)] == [False, True]


def test_of_two_seals_at_once_both_hear_of_a_loss(losses: Losses, kernel: Kernel, folder: Directory) -> None:
    losses.watch("a", folder)
    losses.watch("b", folder)
    kernel.errors += 1
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda uid: losses.sync(uid, folder) is None, ["a", "b"]))
    assert told == [False, False]


def test_a_fault_that_is_no_loss_is_raised_and_forgotten(
    losses: Losses, kernel: Kernel, folder: Directory, tmp_path: Path
) -> None:
    losses.watch("a", folder)
    kernel.errors, kernel.errno = 1, errno.EPERM
    for _ in range(2):  # of the folder's own description, and of the one that is held
        with pytest.raises(PermissionError):
            seal(losses, "a", tmp_path)
    assert seal(losses, "a", tmp_path)


def test_nothing_is_held_open_once_all_are_sealed(
    losses: Losses, kernel: Kernel, folder: Directory, tmp_path: Path
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for uid in ("a", "b"):
        losses.watch(uid, folder)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert [seal(losses, uid, tmp_path) for uid in ("a", "b")] == [True, True]
    assert len(os.listdir("/proc/self/fd")) == before
