"""What has several kinds and one contract: the stores that the desk is driven with, and mount points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kinds import KINDS, FolderSite, S3Site, SftpSite, Site
from tests.support.memory_store import MemoryStore
from tests.support.pyrame import PyrameModule
from tests.support.s3_server import S3Server
from tests.support.sftp_server import SftpServer
from tests.support.soft_ioc import SoftIoc, environment, why_not
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


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    server = SftpServer(tmp_path_factory.mktemp("sftp"), tmp_path_factory.mktemp("keys"))
    yield server
    server.close()


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    found: Any
    if request.param == "folder":
        found = FolderSite(tmp_path / "mount")
    elif request.param == "s3":
        found = S3Site(request.getfixturevalue("s3"), tmp_path)
    else:
        found = SftpSite(request.getfixturevalue("sftp"))
    yield found
    found.door.close()


@pytest.fixture(scope="session")
def epics_environment() -> Iterator[None]:
    """The same for all tests: this process reads it once."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def soft_ioc(tmp_path_factory: pytest.TempPathFactory, epics_environment: None) -> Iterator[SoftIoc]:
    """Of a module, and not of all: other tests make sure that this process has no child."""
    if reason := why_not():
        pytest.skip(reason)
    ioc = SoftIoc(tmp_path_factory.mktemp("ioc"))
    yield ioc
    ioc.close()


@pytest.fixture
def module() -> Iterator[PyrameModule]:
    module = PyrameModule()
    yield module
    module.close()
