"""Orders to mount points: in time or told as unavailable, and one that hangs keeps no other waiting."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage_protocol.records import TrashEntry
from storage_service.doors.trash import Trash
from storage_service.mounts import Mounts
from storage_service.rules.work import TRASH, Done, Failed, Order, ReachMount, Result, RunScript, WriteMarker


class Hanging:
    """A door that hangs until it is let go, and counts what it was asked."""

    gates: dict[str, threading.Event] = {}  # noqa: RUF012  one a mount point, set anew by the fixture
    begun: list[str] = []  # noqa: RUF012

    def __init__(self, mp: str, root: Path, scripts_dir: Path) -> None:
        self.mp = mp
        self.trash = Trash(mp, root)

    def carry_out(self, order: Order) -> Result:
        self.begun.append(self.mp)
        self.gates[self.mp].wait(30)
        return Done()

    def open_log(self, path: tuple[str, ...], name: str) -> int:
        raise AssertionError

    def local_path(self, path: tuple[str, ...]) -> Path:
        return Path("/")


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    Hanging.gates = {"slow": threading.Event(), "quick": threading.Event()}
    Hanging.gates["quick"].set()
    Hanging.begun = []
    made = Mounts({"slow": Path("/"), "quick": Path("/")}, Path("/"), door=Hanging, deadline_s=0.05)
    yield made
    Hanging.gates["slow"].set()
    made.close()


def ask(mounts: Mounts, order: Order) -> asyncio.Future[Result]:
    told: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    mounts.carry_out(order, told.set_result)
    return told


async def test_an_order_in_time_is_told_as_it_came_out(mounts: Mounts) -> None:
    assert await asyncio.wait_for(ask(mounts, ReachMount("quick")), 30) == Done()


async def test_a_mount_point_that_hangs_is_told_as_unavailable_and_holds_no_other(mounts: Mounts) -> None:
    late = ask(mounts, ReachMount("slow"))
    assert await asyncio.wait_for(ask(mounts, ReachMount("quick")), 30) == Done()
    told = await asyncio.wait_for(late, 30)
    assert isinstance(told, Failed)
    assert told.code == "unavailable"


async def test_what_is_late_is_waited_for_before_anything_newer_begins(mounts: Mounts) -> None:
    await asyncio.wait_for(ask(mounts, ReachMount("slow")), 30)
    told = await asyncio.wait_for(ask(mounts, ReachMount("slow")), 30)
    assert isinstance(told, Failed)
    assert Hanging.begun == ["slow"]
    Hanging.gates["slow"].set()
    while isinstance(told, Failed):
        told = await asyncio.wait_for(ask(mounts, ReachMount("slow")), 30)
    assert told == Done()


async def test_what_was_told_as_failed_while_it_waited_for_a_thread_is_never_begun(mounts: Mounts) -> None:
    asked = [ask(mounts, ReachMount("slow")) for _ in range(9)]
    for told in asyncio.as_completed(asked, timeout=30):
        assert isinstance(await told, Failed)
    Hanging.gates["slow"].set()
    while isinstance(await asyncio.wait_for(ask(mounts, ReachMount("slow")), 30), Failed):
        pass
    assert len(Hanging.begun) == 4 + 1


async def test_a_seal_may_take_longer_and_the_rest_goes_on(mounts: Mounts) -> None:
    sealed = ask(mounts, WriteMarker("slow", ("a",), "acquisition.json", b"{}", "a", "u", sync_data=True))
    late = await asyncio.wait_for(ask(mounts, ReachMount("slow")), 30)
    assert isinstance(late, Failed)
    assert not sealed.done()
    Hanging.gates["slow"].set()
    assert await asyncio.wait_for(sealed, 30) == Done()


async def test_status_names_the_mount_point_that_does_not_answer(mounts: Mounts) -> None:
    states = {state["mp"]: state for state in await mounts.states(0.05)}
    assert (states["quick"]["state"], states["slow"]["state"]) == ("ok", "unavailable")
    assert "answer" in states["slow"]["reason"]


async def test_a_mount_point_that_is_not_configured_is_not_found_or_unavailable(mounts: Mounts) -> None:
    reach = await ask(mounts, ReachMount("none"))
    write = await ask(mounts, WriteMarker("none", ("a",), "run.json", b"{}", "a", "u"))
    assert [told.code for told in (reach, write) if isinstance(told, Failed)] == ["not_found", "unavailable"]


async def test_a_script_below_a_mount_point_that_is_gone_is_a_fault(mounts: Mounts) -> None:
    told: list[object] = []
    mounts.open_script(RunScript("c", 1, "s", "none", ("a",), "log", (), {}), told.append)
    assert getattr(told[0], "code", None) == "unavailable"


async def test_the_trash_of_each_mount_point_is_swept_and_what_expired_is_told_in_the_loop(tmp_path: Path) -> None:
    now = time.time()
    for name in ("one", "two"):
        (tmp_path / name / TRASH / "u0").mkdir(parents=True)
        (tmp_path / name / TRASH / ".gone-u1").mkdir()
        note = json.dumps({"wall": now, "held_until": 0.0})
        (tmp_path / name / TRASH / ".sweep.json").write_text(note)
    mounts = Mounts({name: tmp_path / name for name in ("one", "two", "away")}, tmp_path)
    told: asyncio.Queue[tuple[TrashEntry, ...]] = asyncio.Queue()
    mounts.sweep(0.000001, told.put_nowait)
    try:
        found = [(await asyncio.wait_for(told.get(), 30))[0] for _ in range(2)]
        assert {(each.mp, each.uid) for each in found} == {("one", "u0"), ("two", "u0")}
        states = {each["mp"]: each["trash"] for each in await mounts.states(30)}
        assert (states["one"].entries, states["one"].bytes, states["away"].entries) == (1, 0, None)
        assert not (tmp_path / "one" / TRASH / ".gone-u1").exists()
    finally:
        mounts.close()
