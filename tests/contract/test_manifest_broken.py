"""Manifests of folders in which something cannot be looked at: it is listed with the reason, with all else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.shelf import Shelf

DENIED, BROKEN = PermissionError(13, "Permission denied"), OSError(5, "Input/output error")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path)
    shelf.put("closed/inside.raw")
    shelf.put("closed/other.raw")
    shelf.put("zebra.raw", b"1234")
    return shelf


def unseen(monkeypatch: pytest.MonkeyPatch, name: bytes, error: OSError) -> None:
    """Of this name the system says nothing else from now on."""
    status = os.stat

    def refusing(path: Any, *args: Any, **more: Any) -> os.stat_result:
        if path == name:
            raise error
        return status(path, *args, **more)

    monkeypatch.setattr(os, "stat", refusing)


@pytest.mark.parametrize("error", [DENIED, BROKEN])
@pytest.mark.parametrize("kind", ["blake3", "sizes"])
def test_what_cannot_be_looked_at_is_listed_with_the_reason_and_the_rest_as_ever(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, error: OSError, kind: str
) -> None:
    unseen(monkeypatch, b"inside.raw", error)
    done = shelf.write(kind=kind)
    listed = shelf.listed()
    assert listed["closed/inside.raw"]["problem"] == f"not readable: {error.strerror}"
    assert (listed["zebra.raw"]["size"], "problem" in listed["closed/other.raw"]) == (4, False)
    assert (done.problems, done.example) != (0, "")


def test_what_could_not_be_looked_at_is_no_damage(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        unseen(patch, b"inside.raw", DENIED)
        shelf.write()
        assert shelf.damage() == []
    assert shelf.damage() == []


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), OSError(116, "Stale file handle")])
def test_what_vanishes_is_not_listed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    unseen(monkeypatch, b"inside.raw", error)
    assert shelf.write().problems == 0
    assert sorted(shelf.listed()) == ["closed/other.raw", "zebra.raw"]
