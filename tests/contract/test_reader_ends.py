"""A read ends: its page is cut, or it is given up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from storage_protocol import commands
from storage_protocol.commands import Command
from storage_protocol.errors import Refusal
from tests.contract.test_reader import Shelf

PAGES = [
    (commands.ListAcqs(), "acqs"),
    (commands.ListNodes(parent_id="root/g/r"), "nodes"),
    (commands.FindNodes(where={"x": 1}), "nodes"),
]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = filled(tmp_path)
    yield shelf
    shelf.close()


def filled(folder: Path) -> Shelf:
    shelf = Shelf(folder / "storage.db")
    shelf.group("root/g")
    shelf.run("root/g/r")
    for name in "abc":
        shelf.acq(f"root/g/r/{name}", {"x": 1})
        shelf.event("acquisition.started", f"root/g/r/{name}")
    return shelf


def read(shelf: Shelf, command: Command, room: int) -> dict[str, object]:
    result = shelf.reader.read(command, room)
    assert isinstance(result, bytes), result
    found: dict[str, object] = msgspec.msgpack.decode(result)
    return found


@pytest.mark.parametrize(("command", "listed"), PAGES)
def test_a_page_has_no_more_than_its_room_but_always_one_item(shelf: Shelf, command: Command, listed: str) -> None:
    for room, items in ((0, 1), (2048, 1), (4 << 20, 3)):
        page = read(shelf, command, room)
        assert len(page[listed]) == items  # type: ignore[arg-type]
        assert (page["cursor"] is None) == (items == 3)


def test_a_replay_has_no_more_than_its_room_but_always_one_event(shelf: Shelf) -> None:
    page = read(shelf, commands.ReplayEvents(), 0)
    assert (len(page["events"]), page["more"]) == (1, True)  # type: ignore[arg-type]
    page = read(shelf, commands.ReplayEvents(), 4 << 20)
    assert (len(page["events"]), page["more"]) == (3, False)  # type: ignore[arg-type]


@pytest.mark.parametrize(("command", "listed"), [*PAGES, (commands.ReplayEvents(), "events")])
def test_a_page_that_takes_long_is_cut_short(
    monkeypatch: pytest.MonkeyPatch, shelf: Shelf, command: Command, listed: str
) -> None:
    monkeypatch.setattr("storage_service.store.reader.PAGE_S", -1.0)
    assert len(read(shelf, command, 4 << 20)[listed]) == 1  # type: ignore[arg-type]


def test_a_read_that_finds_nothing_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("storage_service.store.reader._STEPS", 1)
    shelf = filled(tmp_path)
    monkeypatch.setattr("storage_service.store.reader.READ_S", -1.0)
    refusal = shelf.reader.read(commands.FindNodes(where={"x": {"like": "*"}}))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.details) == ("unavailable", {"reason": "deadline"})
    monkeypatch.setattr("storage_service.store.reader.READ_S", 5.0)
    assert len(read(shelf, commands.ListAcqs(), 4 << 20)["acqs"]) == 3  # type: ignore[arg-type]
    shelf.close()
