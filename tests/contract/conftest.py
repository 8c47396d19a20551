"""The two stores that the desk is driven with: what one of them promises, the other must keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.memory_store import MemoryStore
from tests.support.pyrame import PyrameModule
from tests.support.soft_ioc import SoftIoc, why_not
from tests.support.sqlite_store import SqliteStore
from tests.support.step_shell import PLACES


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path, PLACES)
    yield store
    store.close()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest) -> MemoryStore | SqliteStore:
    if request.param == "memory":
        return MemoryStore(PLACES)
    found: SqliteStore = request.getfixturevalue("sqlite_store")
    return found


@pytest.fixture(scope="session")
def soft_ioc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftIoc]:
    """An IOC for all tests: where it is to be found a process reads only once."""
    if reason := why_not():
        pytest.skip(reason)
    ioc = SoftIoc(tmp_path_factory.mktemp("ioc"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ioc.environment.items():
            patch.setenv(name, value)
        yield ioc
    ioc.close()


@pytest.fixture
def module() -> Iterator[PyrameModule]:
    module = PyrameModule()
    yield module
    module.close()
