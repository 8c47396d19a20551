"""The door to mount points that are folders: mounts that fail, orders cut short, several at once."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from storage_service.doors import directory
from storage_service.doors.folders import FolderMount
from storage_service.rules.work import (
    RUN_MARKER,
    Done,
    Failed,
    Fault,
    Kept,
    Order,
    ReachMount,
    Taken,
)
from tests.support.place import (
    MP,
    RUN,
    Place,
    keep,
    make_acq,
    make_run,
    marker_of,
    old_run,
    put,
    refused,
    sync_acq,
    write_acq,
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# A mount that fails ---------------------------------------------------------------------------------------------


def test_a_mount_answers(place: Place) -> None:
    assert place.mount.carry_out(ReachMount(MP)) == Done()


@pytest.mark.parametrize("order", [ReachMount(MP), make_run(), sync_acq()])
@pytest.mark.parametrize("a_file", [False, True])
def test_a_mount_that_is_gone_is_unavailable_and_is_not_made(tmp_path: Path, order: Order, a_file: bool) -> None:
    root = tmp_path / "mount"
    if a_file:
        root.write_text("no folder")
    refused(FolderMount(MP, root, tmp_path).carry_out(order), "unavailable")
    assert root.exists() == a_file
    with pytest.raises(Fault) as caught:
        FolderMount(MP, root, tmp_path).open_log(("beam",), "log")
    assert caught.value.code == "unavailable"


def test_a_mount_that_makes_no_folders_is_unavailable(tmp_path: Path) -> None:
    refused(FolderMount(MP, Path("/proc/self"), tmp_path).carry_out(make_run()), "unavailable")


def test_a_folder_that_may_not_be_written_is_unavailable(place: Place) -> None:
    place.root.chmod(0o555)
    try:
        if os.access(place.root, os.W_OK):
            pytest.skip("no permission bit stops this user")
        refused(place.mount.carry_out(make_run()), "unavailable")
    finally:
        place.root.chmod(0o755)


# Interrupted orders ---------------------------------------------------------------------------------------------


SYSTEM_CALLS = (
    "open",
    "mkdir",
    "rename",
    "unlink",
    "rmdir",
    "fsync",
    "fstat",
    "fstatvfs",
    "stat",
    "fdopen",
    "close",
)


class KilledError(BaseException):
    """Stands for a kill: nothing of the door catches it."""


@contextmanager
def interrupted(at: int, when: str, fault: BaseException | None) -> Iterator[list[str]]:
    """The `at`-th call to the system, from 1, raises `fault`, before or after it is done. Yields their names."""
    calls: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            mine = fault is not None and len(calls) == at
            if mine and when == "before" and fault is not None:
                if name == "close":
                    real(*args, **kwargs)
                raise fault
            result = real(*args, **kwargs)
            if mine and fault is not None:
                if name == "open":
                    os_close(result)
                if name == "fdopen":
                    result.close()
                raise fault
            return result

        return call

    os_close = os.close
    with pytest.MonkeyPatch.context() as patch:
        for name in SYSTEM_CALLS:
            patch.setattr(os, name, counted(name, getattr(os, name)))
        patch.setattr(directory, "_renameat2", counted("renameat2", directory._renameat2 or os.rename))
        patch.setattr(directory, "_syncfs", counted("syncfs", lambda fd: 0))
        yield calls


def nothing(place: Place) -> None:
    """A mount with nothing in it."""


def adopted(place: Place) -> None:
    put(place.root / "beam/run_1/data.raw", "precious")
    put(place.root / "beam/run_1/run.json", marker_of(RUN_MARKER, RUN, "u0"))


def an_acquisition(place: Place) -> None:
    put(place.root / "beam/run_1/run.json", make_run().marker)
    put(place.root / "beam/run_1/acq_1/acquisition.json", make_acq().marker)


DONE = Done | Kept
LIVES: dict[str, tuple[Callable[[Place], None], Order]] = {
    "made": (nothing, make_acq("beam/run_1/deep/acq_1")),
    "numbered": (nothing, make_run(fresh=True)),
    "adopted": (adopted, make_run()),
    "set aside": (old_run, make_run(set_aside="u0", aside=marker_of(RUN_MARKER, RUN, "u0", newest=True))),
    "sealed": (an_acquisition, write_acq(log="== 1\n\n", head="== 1")),
    "kept": (an_acquisition, keep("config.xml", b"<config/>")),
}


@pytest.mark.parametrize("fault", ["kill", errno.EIO, errno.ENOSPC, errno.ENOENT])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("life", LIVES)
def test_an_order_that_was_interrupted_anywhere_ends_as_if_it_never_was(
    tmp_path: Path, life: str, when: str, fault: str | int
) -> None:
    prepare, order = LIVES[life]
    calm = Place(tmp_path / "calm")
    prepare(calm)
    before = calm.tree()
    with interrupted(0, when, None) as calls:
        assert isinstance(calm.mount.carry_out(order), DONE)
    assert len(calls) > 10
    for at in range(1, len(calls) + 1):
        place = Place(tmp_path / str(at))
        prepare(place)
        error = OSError(fault, os.strerror(fault)) if isinstance(fault, int) else KilledError()
        with interrupted(at, when, error):
            try:
                result = place.mount.carry_out(order)
            except KilledError:
                result = None
        assert result is None or isinstance(result, DONE | Failed), (at, calls[at - 1], result)
        if isinstance(result, Failed):
            assert result.code == "unavailable", (at, calls[at - 1], result)
        # Whatever was there before is somewhere, whole.
        texts = list(place.tree().values())
        for path, text in before.items():
            assert text in texts or path.endswith(".json"), (at, calls[at - 1])
        assert isinstance(place.mount.carry_out(order), DONE), (at, calls[at - 1])
        assert place.tree() == calm.tree(), (at, calls[at - 1])


def test_a_disk_that_is_full_leaves_nothing_half_made(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.root / "beam").mkdir()

    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    for uid in ("u1", "u2"):  # each try of a client has its own
        refused(place.mount.carry_out(make_run(uid=uid)), "unavailable", reason=os.strerror(errno.ENOSPC))
    assert place.tree() == {"beam": None}


def test_a_file_system_that_cannot_sync_folders_is_good_enough(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".new"):
            real(fd)
        else:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fsync)
    assert place.mount.carry_out(make_run()) == Done()


# Several at once ------------------------------------------------------------------------------------------------


def test_of_two_that_want_one_folder_exactly_one_gets_it(place: Place) -> None:
    with ThreadPoolExecutor(4) as pool:
        for number in range(40):
            path = f"beam/shared_{number}"
            gate = threading.Barrier(4)

            def race(id_: str, path: str = path, gate: threading.Barrier = gate) -> Done | Taken | Failed:
                order = make_run(path, id_, uid=f"u-{id_[-1]}")
                gate.wait(30)
                return place.mount.carry_out(order)

            results = list(pool.map(race, [f"root/{who}" for who in "abcd"]))
            assert sum(isinstance(result, Done) for result in results) == 1
            owner = json.loads((place.root / path / "run.json").read_bytes())["run_id"]
            assert isinstance(results["abcd".index(owner[-1])], Done)
            for result in results:
                if not isinstance(result, Done):
                    refused(result, "already_exists", what="folder", id=owner)
            assert os.listdir(place.root / path) == ["run.json"]
    assert all(name.startswith("shared_") for name in os.listdir(place.root / "beam"))


def test_many_orders_at_once_leave_every_descriptor_closed(place: Place) -> None:
    def one(number: int) -> Done | Taken | Failed:
        return place.mount.carry_out(make_run(f"beam/deep/{number % 7}/r{number}", f"root/r{number}"))

    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(100))) == [Done()] * 100
        assert all(isinstance(result, Done) for result in pool.map(one, range(100)))
    assert len(os.listdir("/proc/self/fd")) == before
