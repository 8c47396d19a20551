"""One running service for the tests that keep to storages of their own, and own services for the others."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import Service, Settings
from tests.support.small_disk import SmallDisks
from tests.support.wire import NoReply, Refused, Storage, Tail, Wire

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service, shared: over TCP, with a second mount `file:///spare` whose folder is not there."""
    mounts = {"file:///": "data", "file:///spare": "spare"}
    running = Service(tmp_path_factory.mktemp("service"), transport="tcp", settings={"mounts": mounts})
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture(scope="session")
def tail(service: Service) -> Iterator[Tail]:
    """All that the shared service publishes, from now on."""
    with service.tail() as tail:
        yield tail.settle()


@pytest.fixture
def wire(service: Service) -> Iterator[Wire]:
    """A connection to the shared service."""
    assert service.running, f"the shared service has ended:\n{service.log_text()[-4000:]}"
    with service.connect() as wire:
        yield wire


@pytest.fixture
def other(service: Service) -> Iterator[Wire]:
    """A second connection to the shared service."""
    with service.connect() as wire:
        yield wire


@pytest.fixture
def plan(service: Service) -> Iterator[Callable[..., Storage]]:
    """Plans a storage with a name, group and folder of its own; nothing is sent. Ended with the test."""
    planned: list[str] = []

    def make(wire: Wire, **arguments: Any) -> Storage:
        name = f"s{next(_numbers)}"
        planned.append(name)
        return Storage(wire, name, **{"brg_name": f"group-{name}", "brg_path": f"place-{name}", **arguments})

    yield make
    with service.connect(patience_s=5) as wire, contextlib.suppress(NoReply):
        for storage_id in planned:
            with contextlib.suppress(Refused):
                wire.call("deinit_storage", storage_id=storage_id, force=True)


@pytest.fixture
def storage(wire: Wire, plan: Callable[..., Storage]) -> Storage:
    """A configured storage of the shared service."""
    return plan(wire).open()


@pytest.fixture
def small_disks(tmp_path: Path) -> Iterator[SmallDisks]:
    """Small file systems below the folder of the test; to be asked for before `own_service`."""
    disks = SmallDisks(tmp_path)
    yield disks
    disks.close()


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Makes services that belong to one test alone, over ipc; started unless `start=False`."""
    made: list[Service] = []

    def make(settings: Settings | None = None, *, start: bool = True, name: str = "own", **more: Any) -> Service:
        made.append(Service(tmp_path / name, settings=settings, **more))
        return made[-1].start() if start else made[-1]

    yield make
    for service in made:
        service.close()
