"""Events from cursors with the real service: each once and in order, across the ends of both sides."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from storage_client import Cursor, EventStream, JournalChangedError, StorageClient
from storage_protocol.events import Event
from tests.support.polling import eventually, steps
from tests.support.service import Service

Make = Callable[..., Service]

TYPES = ("storage.", "run.", "acquisition.")


async def open_storage(client: StorageClient, name: str) -> None:
    await client.init_storage(name, name, brg_path=name)
    await client.config_storage(name)
    await client.new_run(name, "run")


async def take(stream: EventStream, count: int) -> list[Event]:
    async with asyncio.timeout(60):
        return [await anext(stream) for _ in range(count)]


async def test_a_stream_that_is_closed_and_opened_and_killed_under_gives_each_event_once(
    own_service: Make, tmp_path: Path
) -> None:
    service = own_service()
    file = tmp_path / "cursor"
    seen: list[int | None] = []
    dice = random.Random(3)
    async with StorageClient(service.commands, timeout_s=0.5, deadline_s=60) as client:
        async with client.events(*TYPES, cursor_file=file) as stream:
            before = stream.cursor
        await open_storage(client, "s")
        for round in range(4):
            setting = asyncio.gather(*(client.set_param_run("s", "run", "p", n) for n in range(50)))
            async with client.events(*TYPES, cursor_file=file) as stream:
                seen += [event.seq for event in await take(stream, dice.randrange(1, 40))]
                if round % 2:
                    await asyncio.to_thread(service.restart)
                await setting
                seen += [event.seq for event in await take(stream, dice.randrange(1, 10))]
                await stream.done()
        last = (await client.get_status()).journal.last_seq
        async with client.events(*TYPES, cursor_file=file) as stream:
            while seen[-1] != last:
                seen += [event.seq for event in await take(stream, 1)]
        assert before is not None
        journal = await client.replay_events(before.seq, topics=TYPES)
    assert seen == [event.seq for event in journal.events]
    assert len(seen) > 200


async def test_a_snapshot_and_its_stream_have_nothing_between_and_nothing_twice(own_service: Make) -> None:
    service = own_service()
    async with StorageClient(service.commands, timeout_s=0.5, deadline_s=60) as client:
        opening = asyncio.gather(*(client.init_storage(f"s{n}", f"g{n}") for n in range(40)))
        await steps()
        snapshot, stream = await client.snapshot_and_events("storage.initialized/")
        await opening
        await asyncio.to_thread(service.restart)
        known = [storage.storage_id for storage in snapshot.storages]
        known += [event.storage_id or "" for event in await take(stream, 40 - len(known))]
        await stream.aclose()
    assert sorted(known) == sorted(f"s{n}" for n in range(40))


async def test_a_cursor_of_another_services_journal_is_told(own_service: Make, tmp_path: Path) -> None:
    file = tmp_path / "cursor"
    for name in ("one", "two"):
        service = own_service(name=name)
        async with StorageClient(service.commands) as client:
            try:
                async with client.events(cursor_file=file) as stream:
                    held = Cursor.parse(file.read_text())
                    await open_storage(client, "s")
                    await take(stream, 1)
                changed = ""
            except JournalChangedError as error:
                changed = error.message
    assert held.journal_id in changed
    assert "take a new snapshot" in changed


def holds(file: Path, seq: int) -> bool:
    """Whether a cursor file holds this seq."""
    return file.exists() and Cursor.parse(file.read_text()).seq == seq


def watch(service: Service, file: Path, *words: str) -> subprocess.Popen[str]:
    """The watching shell, with a cursor file."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "storage_service", "watch", "run.param_set/"),
            *("--cursor", str(file), "--endpoint", service.commands, *words),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_shell_goes_on_where_it_was_ended(own_service: Make, tmp_path: Path) -> None:
    service, file = own_service(), tmp_path / "cursor"
    with service.connect() as wire:
        wire.call("init_storage", storage_id="s", brg_name="g")
        wire.call("config_storage", storage_id="s")
        wire.call("new_run_storage", storage_id="s", run_name="run")
        shells = []
        try:
            shells.append(watch(service, file))
            eventually(file.exists)
            shown: list[str] = []
            for n in range(6):
                wire.call("set_param_run_storage", storage_id="s", run_name="run", param="p", value=n)
            assert shells[0].stdout
            shown += [shells[0].stdout.readline() for _ in range(6)]
            shells[0].send_signal(signal.SIGINT)
            shells[0].communicate(timeout=30)
            for n in range(6, 12):
                wire.call("set_param_run_storage", storage_id="s", run_name="run", param="p", value=n)
            for _ in range(2):
                shells.append(watch(service, file, "--count", "3"))
                shown += shells[-1].communicate(timeout=30)[0].splitlines()
        finally:
            for shell in shells:
                shell.kill()
                shell.communicate()
    assert [line.split("value=")[1].strip() for line in shown] == [str(n) for n in range(12)]


def test_a_killed_shell_goes_on_after_what_its_file_says(own_service: Make, tmp_path: Path) -> None:
    service, file = own_service(), tmp_path / "cursor"
    with service.connect() as wire:
        wire.call("init_storage", storage_id="s", brg_name="g")
        wire.call("config_storage", storage_id="s")
        wire.call("new_run_storage", storage_id="s", run_name="run")
        before = wire.call("get_status")["journal"]["last_seq"]
        for life in range(4):
            consumed = Cursor.parse(file.read_text()).seq if file.exists() else before
            for n in range(10):
                wire.call("set_param_run_storage", storage_id="s", run_name="run", param="p", value=10 * life + n)
            last = before + 10 * (life + 1)
            shell = watch(service, file, "--after-seq", str(before), "--json")
            assert shell.stdout
            try:
                shown = [json.loads(shell.stdout.readline())["seq"] for _ in range(last - consumed)]
                if life % 2:
                    eventually(partial(holds, file, last))
            finally:
                shell.kill()
                shell.communicate()
            assert shown == list(range(consumed + 1, last + 1))
    assert Cursor.parse(file.read_text()).seq == last
