"""Orders to mount points: in time or told as unavailable, and one that hangs keeps no other waiting."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from storage_protocol.records import TrashEntry
from storage_service.doors.log_writer import LogWriter
from storage_service.doors.trash import Trash
from storage_service.doors.trash_sweep import Sweep
from storage_service.mount_tables import Mount
from storage_service.mounts import NO_ANSWER, Mounts, Opened
from storage_service.rules.space import UNREACHABLE, WELL, Look, level
from storage_service.rules.work import (
    TRASH,
    Done,
    Failed,
    Fault,
    MakeFolder,
    Order,
    ReachMount,
    Result,
    RunScript,
    SyncData,
    WriteMarker,
)

ROOT = Mount(Path("/"))


class Hanging:
    """A door that hangs until it is let go, and counts what it was asked."""

    gates: dict[str, threading.Event] = {}  # noqa: RUF012  one a mount point, set anew by the fixture
    begun: list[str] = []  # noqa: RUF012

    def __init__(self, mp: str, mount: Mount, scripts_dir: Path) -> None:
        self.mp = mp
        self.trash = Trash(mp, scripts_dir)

    def carry_out(self, order: Order) -> Result:
        self.begun.append(self.mp)
        self.gates[self.mp].wait(30)
        return Done()

    def open_log(self, path: tuple[str, ...], name: str) -> int:
        self.carry_out(ReachMount(self.mp))
        return os.open(os.devnull, os.O_WRONLY)

    def local_path(self, path: tuple[str, ...]) -> Path:
        return Path("/")

    def free_bytes(self) -> int | None:
        return 1 << 40

    def sweep(self, keep_s: float, expired: Callable[[tuple[TrashEntry, ...]], None]) -> Sweep:
        return Sweep(self.trash, self.mp, keep_s, expired)

    def close(self) -> None:
        pass


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    Hanging.gates = {"slow": threading.Event(), "quick": threading.Event()}
    Hanging.gates["quick"].set()
    Hanging.begun = []
    (tmp_path / "s").write_text("")
    (tmp_path / "s").chmod(0o755)
    made = Mounts({"slow": ROOT, "quick": ROOT}, tmp_path, door=Hanging, deadline_s=0.05)
    yield made
    Hanging.gates["slow"].set()
    made.close()
    for thread in threading.enumerate():
        if thread.name.startswith("mount "):
            thread.join(30)  # what it opens late is open before the next test counts


def ask(mounts: Mounts, order: Order) -> asyncio.Future[Result]:
    told: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    mounts.carry_out(order, told.set_result)
    return told


def open_script(mounts: Mounts, mp: str) -> asyncio.Future[Opened]:
    told: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()
    mounts.open_script(RunScript("c", 1, "s", mp, ("a",), "log", (), {}), told.set_result)
    return told


async def test_an_order_in_time_is_told_as_it_came_out(mounts: Mounts) -> None:
    assert await asyncio.wait_for(ask(mounts, ReachMount("quick")), 30) == Done()


async def test_a_mount_point_that_hangs_is_told_as_unavailable_and_holds_no_other(mounts: Mounts) -> None:
    late = ask(mounts, ReachMount("slow"))
    assert await asyncio.wait_for(ask(mounts, ReachMount("quick")), 30) == Done()
    told = await asyncio.wait_for(late, 30)
    assert isinstance(told, Failed)
    assert told.code == "unavailable"


async def test_however_much_hangs_at_one_mount_point_another_is_asked_at_once(mounts: Mounts) -> None:
    seal = SyncData("slow", ("a",), "acquisition.json", "a", "u")
    for order in [ReachMount("slow")] * 40 + [seal] * 40:
        ask(mounts, order)
    assert await asyncio.wait_for(ask(mounts, ReachMount("quick")), 30) == Done()
    assert (await mounts.states(1))[1]["state"] == "ok"


async def test_a_mount_point_that_hangs_is_looked_at_as_unreachable_until_it_answers(mounts: Mounts) -> None:
    looks: asyncio.Queue[Look] = asyncio.Queue()
    mounts.watch(0.01, looks.put_nowait)

    async def next_of(mp: str, answers: bool) -> None:
        while True:
            look = await asyncio.wait_for(looks.get(), 30)
            if look.mp == mp and (look.free_bytes is not None) == answers:
                return

    await next_of("slow", False)
    await next_of("quick", True)
    Hanging.gates["slow"].set()
    await next_of("slow", True)


async def test_nothing_is_begun_where_too_little_is_free_and_the_rest_goes_on(tmp_path: Path) -> None:
    Hanging.gates = {"quick": threading.Event()}
    Hanging.gates["quick"].set()
    Hanging.begun = []
    made = Mounts({"quick": ROOT}, tmp_path, door=Hanging, bounds=lambda mp: (1 << 62, 0))
    folder = MakeFolder("quick", ("a",), "acquisition.json", b"{}", "a", "u")
    told = await asyncio.wait_for(ask(made, folder), 30)
    assert isinstance(told, Failed)
    assert (told.code, told.details, Hanging.begun) == ("unavailable", {"reason": "space"}, [])
    assert await asyncio.wait_for(ask(made, replace(folder, marker_name="run.json")), 30) == Done()
    assert await asyncio.wait_for(ask(made, WriteMarker("quick", ("a",), "acquisition.json", b"", "a", "u")), 30)
    assert Hanging.begun == ["quick", "quick"]
    made.close()


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
    sealed = ask(mounts, SyncData("slow", ("a",), "acquisition.json", "a", "u"))
    late = await asyncio.wait_for(ask(mounts, ReachMount("slow")), 30)
    assert isinstance(late, Failed)
    assert not sealed.done()
    Hanging.gates["slow"].set()
    assert await asyncio.wait_for(sealed, 30) == Done()


async def test_status_names_the_mount_point_that_does_not_answer(mounts: Mounts) -> None:
    states = {state["mp"]: state for state in await mounts.states(0.05)}
    assert (states["quick"]["state"], states["slow"]["state"]) == ("ok", "unavailable")
    assert "answer" in states["slow"]["reason"]


async def test_however_often_status_is_asked_one_look_at_a_time_is_under_way(mounts: Mounts) -> None:
    for _ in range(20):
        states = {state["mp"]: state["state"] for state in await mounts.states(0.001)}
        assert states["slow"] == "unavailable"
    assert Hanging.begun.count("slow") == 1
    Hanging.gates["slow"].set()
    async with asyncio.timeout(30):
        while (await mounts.states(0.01))[0]["state"] != "ok":
            pass


async def test_a_script_is_not_waited_for_where_its_mount_point_does_not_answer(mounts: Mounts) -> None:
    for _ in range(2):  # the second time nothing is asked of the mount point
        opened = await asyncio.wait_for(open_script(mounts, "slow"), 30)
        assert isinstance(opened, Fault)
        assert opened.details["reason"] == NO_ANSWER
    assert Hanging.begun == ["slow"]
    opened = await asyncio.wait_for(open_script(mounts, "quick"), 30)
    assert not isinstance(opened, Fault)
    os.close(opened[2])


async def test_a_log_that_opens_too_late_is_closed(mounts: Mounts) -> None:
    before = len(os.listdir("/proc/self/fd"))
    await asyncio.wait_for(open_script(mounts, "slow"), 30)
    Hanging.gates["slow"].set()
    while isinstance(await asyncio.wait_for(ask(mounts, ReachMount("slow")), 30), Failed):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


async def test_logs_are_written_in_order_and_are_not_waited_for_when_they_are_late() -> None:
    gate, done = threading.Event(), list[int]()
    with ThreadPoolExecutor(1) as thread:
        logs = LogWriter(thread, 0.05)
        loop = asyncio.get_running_loop()
        late = [loop.run_in_executor(logs, gate.wait, 30), loop.run_in_executor(logs, done.append, 1)]
        for each in late:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(each, 30)
        gate.set()
        await asyncio.wait_for(loop.run_in_executor(logs, done.append, 2), 30)
        assert done == [1, 2]
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(logs, lambda: 1 // 0)


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
    mounts = Mounts({name: Mount(tmp_path / name) for name in ("one", "two", "away")}, tmp_path)
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


async def test_no_conversion_is_taken_for_a_mount_point_elsewhere_and_all_else_is(tmp_path: Path) -> None:
    Hanging.gates, Hanging.begun = {"s3://bucket": threading.Event()}, []
    Hanging.gates["s3://bucket"].set()
    made = Mounts({"s3://bucket": Mount()}, tmp_path, door=Hanging)
    folder = MakeFolder("s3://bucket", ("a",), "acquisition.json", b"{}", "a", "u", script="s")
    told = await asyncio.wait_for(ask(made, folder), 30)
    assert isinstance(told, Failed)
    assert (told.code, told.details) == ("invalid_name", {"field": "convert_script", "rule": "elsewhere"})
    assert "s3://bucket" in told.message
    assert Hanging.begun == []
    assert await asyncio.wait_for(ask(made, replace(folder, script=None)), 30) == Done()
    made.close()


async def test_where_nobody_tells_how_much_is_free_a_mount_point_is_well(tmp_path: Path) -> None:
    class Elsewhere(Hanging):
        def free_bytes(self) -> None:
            return None

    Hanging.gates = {"far": threading.Event()}
    Hanging.gates["far"].set()
    made = Mounts({"far": ROOT}, tmp_path, door=Elsewhere, bounds=lambda mp: (1 << 62, 1 << 62))
    (state,) = await made.states(30)
    assert (state["state"], state["free_bytes"]) == ("ok", None)
    folder = MakeFolder("far", ("a",), "acquisition.json", b"{}", "a", "u")
    assert await asyncio.wait_for(ask(made, folder), 30) == Done()
    looks: asyncio.Queue[Look] = asyncio.Queue()
    made.watch(0.01, looks.put_nowait)
    look = await asyncio.wait_for(looks.get(), 30)
    assert (look.free_bytes, look.answers, level(WELL, look), level(UNREACHABLE, look)) == (None, True, WELL, WELL)
    assert level(WELL, replace(look, answers=False)) == UNREACHABLE
    made.close()
