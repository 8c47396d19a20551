"""The pages that are made from the code say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage_service.rules.lifecycle import TABLES
from tools import pages

LIFECYCLE, VECTORS = "protocol/LIFECYCLE.md", "protocol/vectors"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with freshly made pages and nothing else."""
    pages.write(tmp_path)
    return tmp_path


def test_the_generated_pages_are_current() -> None:
    assert pages.stale(pages.ROOT) == [], "run `make pages`"


def test_fresh_pages_are_not_stale(copy: Path) -> None:
    assert pages.stale(copy) == []
    assert pages.write(copy) == []


def test_a_changed_page_is_stale(copy: Path) -> None:
    page = copy / LIFECYCLE
    page.write_text(page.read_text("utf-8").replace("configured", "ready", 1), "utf-8")
    assert pages.stale(copy) == [LIFECYCLE]


def test_a_missing_page_is_stale(copy: Path) -> None:
    (copy / LIFECYCLE).unlink()
    assert pages.stale(copy) == [LIFECYCLE]


def test_a_vector_file_that_nothing_makes_is_stale_and_goes(copy: Path) -> None:
    left = copy / VECTORS / "old.json"
    left.write_text("{}")
    assert pages.stale(copy) == [f"{VECTORS}/old.json"]
    pages.write(copy)
    assert not left.exists()
    assert pages.stale(copy) == []


def test_check_names_what_is_stale_and_fails(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages, "ROOT", copy)
    assert pages.main(["check"]) == 0
    (copy / LIFECYCLE).write_text("old")
    assert pages.main(["check"]) == 1
    assert LIFECYCLE in capsys.readouterr().out
    assert pages.main(["write"]) == 0
    assert pages.main(["check"]) == 0


def test_every_row_of_the_tables_is_on_the_page() -> None:
    text = pages.pages()[LIFECYCLE]
    rows = [row for table in TABLES.values() for row in table]
    lines = [
        line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| state", "| ---"))
    ]
    assert [line.split(" | ")[0][2:] for line in lines] == [row.state for row in rows]
    assert [line.split(" | ")[1] for line in lines] == [f"`{row.trigger}`" for row in rows]


def test_a_usage_error_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert pages.main(["wirte"]) == 2
    assert "pages.py check" in capsys.readouterr().out
