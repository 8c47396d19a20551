"""Old stores open (promise R12): every released one, by the present service, also when it is killed meanwhile."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage_service.failpoints import VARIABLE
from storage_service.store.migrate import migrations
from storage_service.store.sqlite import SqliteWriter
from tests.support.fold import folded
from tests.support.released_store import CLOSED, MOUNT, RUN, SETTINGS, STORES, told
from tests.support.service import Service
from tests.support.sqlite_store import reading
from tests.support.step_shell import PLACES
from tests.support.wire import Storage

Make = Callable[..., Service]
RELEASED = sorted(STORES.glob("*.db.gz"))
released = pytest.mark.parametrize("store", RELEASED, ids=lambda store: store.name[:4])


def unpacked(store: Path, database: Path) -> Path:
    database.parent.mkdir(parents=True, exist_ok=True)
    database.write_bytes(gzip.decompress(store.read_bytes()))
    return database


def missing(then: Any, now: Any, place: str = "") -> list[str]:
    """Where what is told now lacks something that was told then; more may be told."""
    if isinstance(then, dict) and isinstance(now, dict):
        return [each for key in then for each in missing(then[key], now.get(key, "nothing"), f"{place}.{key}")]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [
            each for n, pair in enumerate(zip(then, now, strict=True)) for each in missing(*pair, f"{place}[{n}]")
        ]
    return [] if then == now else [f"{place}: {then!r}, and now {now!r}"]


def test_every_version_of_the_schema_is_kept(tmp_path: Path) -> None:
    assert [int(store.name[:4]) for store in RELEASED] == [number for number, _ in migrations()]
    for store in RELEASED:
        with reading(unpacked(store, tmp_path / store.name)) as found:
            assert found.select("PRAGMA user_version") == [(int(store.name[:4]),)]


@released
def test_a_released_store_opens_whole_and_its_tables_are_its_journal(store: Path, tmp_path: Path) -> None:
    database = unpacked(store, tmp_path / "storage.db")
    SqliteWriter(database).close()
    with reading(database) as found:
        assert found.select("PRAGMA integrity_check") == [("ok",)]
        assert found.select("PRAGMA user_version") == [(migrations()[-1][0],)]
        assert folded(found.journal, PLACES) == found.everything()


@released
def test_what_a_released_service_told_is_told_today_and_work_goes_on(store: Path, own_service: Make) -> None:
    service = own_service(SETTINGS, start=False)
    unpacked(store, service.state / "storage.db")
    then = json.loads(store.with_name(store.name.replace(".db.gz", ".json")).read_text())
    with service.start().connect() as wire:
        assert missing(then, told(service, wire)) == []
        last = wire.last_seq()
        kept = Storage(wire, "kept", brg_name="kept")
        acq = wire.call("get_acq", acq_id=f"{RUN}/open")
        assert acq["location"]["local_path"].replace(str(service.mount), MOUNT).startswith(MOUNT)
        assert kept.mark(acq, "one")["counted"] is False
        assert kept.mark(acq, "late")["state"] == "finished"
        assert kept.refusal("set_param_acq_storage", acq_id=CLOSED, param="x", value=1).code == "wrong_state"
        kept.run("fresh")
        kept.acq("acq", "fresh")
        assert [event["seq"] for event in wire.journal(last)][:4] == list(range(last + 1, last + 5))


# Killed while it migrates

# Opens a store with the real code, as a service two versions ahead would.
OPEN = """
import sys
from pathlib import Path
from storage_service.store import migrate, sqlite
steps = migrate.migrations()
newest = steps[-1][0]
fill = "INSERT INTO one SELECT seq, 2 * seq FROM journal;"
steps.append((newest + 1, f"CREATE TABLE one (n INTEGER, m INTEGER) STRICT; {fill}"))
steps.append((newest + 2, "ALTER TABLE one RENAME TO two; UPDATE two SET n = n + 1;"))
migrate.migrations = lambda: steps
sqlite.SqliteWriter(Path(sys.argv[1])).close()
"""


def open_ahead(database: Path, failpoint: str = "") -> int:
    """The exit code of a process that opens the store, and is killed at a place."""
    environment = {**os.environ, VARIABLE: failpoint}
    return subprocess.run([sys.executable, "-c", OPEN, str(database)], env=environment, check=False).returncode


@released
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("place", ["begun", "written", "committed"])
def test_a_kill_in_a_migration_is_made_good_by_the_next_start(
    store: Path, tmp_path: Path, place: str, step: int
) -> None:
    calm, database = unpacked(store, tmp_path / "calm/storage.db"), unpacked(store, tmp_path / "storage.db")
    assert open_ahead(calm) == 0
    steps_left = 2
    for _ in range(2):
        # In the second life, a step that was committed is no longer there to be killed in.
        met = min(step, steps_left)
        assert open_ahead(database, f"migrate.{place}:{met}") == (-signal.SIGKILL if steps_left else 0)
        with reading(database) as found:
            assert found.select("PRAGMA integrity_check") == [("ok",)]
            ((version,),) = found.select("PRAGMA user_version")
        steps_left = migrations()[-1][0] + 2 - version
        assert steps_left >= (0 if place == "committed" else 3 - step)
    assert open_ahead(database) == 0
    with reading(calm) as wanted, reading(database) as found:
        assert found.dump() == wanted.dump()
