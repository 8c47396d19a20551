"""One service on a state folder (`store/lock.py`)."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage_service.store import lock
from storage_service.store.interface import StoreError, StoreFaultError
from storage_service.store.lock import StateLock, file_system

HOLD = """
import sys
from pathlib import Path
from storage_service.store.lock import StateLock
held = StateLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder `state`, until its standard input is closed."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "state")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def refusal(folder: Path) -> str:
    with pytest.raises(StoreError) as refused:
        StateLock(folder)
    return str(refused.value)


def test_the_second_is_told_which_process_is_the_first(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    for _ in range(2):
        told = refusal(tmp_path / "state")
        assert f"process {holder.pid};" in told
        assert str(tmp_path / "state") in told
    assert (tmp_path / "state" / "lock").read_text() == f"{holder.pid}\n"


def test_a_killed_process_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    held = StateLock(tmp_path / "state")
    assert (tmp_path / "state" / "lock").read_text() == f"{os.getpid()}\n"
    held.release()


def test_a_process_that_ends_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None
    holder.stdin.close()
    assert holder.wait() == 0
    StateLock(tmp_path / "state").release()


def test_a_child_that_a_service_leaves_behind_does_not_hold_its_folder(tmp_path: Path) -> None:
    held = StateLock(tmp_path)
    words = [sys.executable, "-c", "print('up', flush=True); input()"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, close_fds=False
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"  # before its exec is over, a child has all that its parent has
        held.release()
        StateLock(tmp_path).release()
        child.communicate("\n")


def test_the_folder_is_free_after_a_release_and_a_shorter_pid_leaves_nothing_of_a_longer_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "lock").write_text("123456789012345\n")
    for _ in range(2):
        held = StateLock(tmp_path)
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
        assert f"process {os.getpid()};" in refusal(tmp_path)
        held.release()


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    StateLock(tmp_path / "deep" / "state").release()
    assert (tmp_path / "deep" / "state").is_dir()


@pytest.mark.parametrize("below", ["", "state"])
def test_a_folder_that_is_a_file_is_refused_in_a_sentence(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    told = refusal(tmp_path / "file" / below)
    assert re.fullmatch(r"state_dir: the folder \S+ cannot be used: [\w ]+\.", told)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_lock_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    assert "cannot be used" in refusal(tmp_path)


@pytest.mark.parametrize("kind", sorted(lock.NETWORK_FILE_SYSTEMS))
def test_a_network_file_system_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    monkeypatch.setattr(lock, "file_system", lambda folder: kind)
    told = refusal(tmp_path)
    assert (f" is on {kind};" in told, str(tmp_path) in told) == (True, True)
    monkeypatch.undo()
    StateLock(tmp_path).release()  # what was refused holds nothing


def test_the_file_system_of_a_folder_is_the_one_mounted_nearest() -> None:
    assert file_system(Path("/proc/self")) == "proc"
    assert file_system(Path("/")) == file_system(Path("/no such folder")) != "proc"


def test_the_names_of_folders_that_are_made_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    for _ in range(2):
        StateLock(tmp_path / "deep" / "er" / "state").release()
        assert sorted(synced) == [str(tmp_path / name) for name in ("", "deep", "deep/er")]


def test_a_disk_that_does_not_take_the_process_id_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        held = StateLock(tmp_path / "state")
    assert "in use by process unknown;" in refusal(tmp_path / "state")
    held.release()


@pytest.mark.parametrize(("fault", "kind"), [(errno.ENOSPC, StoreFaultError), (errno.EACCES, StoreError)])
def test_a_folder_that_cannot_be_used_says_whether_that_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int, kind: type[StoreError]
) -> None:
    def broken(*_: object) -> int:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(os, "open", broken)
    with pytest.raises(StoreError, match=os.strerror(fault)) as refused:
        StateLock(tmp_path)
    assert type(refused.value) is kind
