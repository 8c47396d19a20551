"""Mount points of every kind, for the tests that hold all of them to the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from msgspec.structs import replace

from storage_service.doors.mount_kinds import door_of
from storage_service.mount_tables import Mount
from storage_service.mounts import Door
from tests.support.s3_server import S3Server, refusing_s3
from tests.support.sftp_server import USER, SftpServer

KINDS = ("folder", "s3", "sftp")
TIMEOUT_S = 2.0


class Site(Protocol):
    """A mount point and its other side."""

    mp: str
    table: Mount
    door: Door

    def files(self) -> dict[str, bytes]:
        """Every file below the mount point, by its path; the service's own notes in the trash left out."""

    def put(self, path: str, content: bytes) -> None:
        """Write a file there, as a producer does."""

    def broken(self, how: str) -> Any:
        """A context: a door to the same place, that is `unreachable`, `forbidden`, `full` or `hanging`."""


class _Site:
    def __init__(self, mp: str, table: Mount) -> None:
        self.mp = mp
        self.table = table
        self.door: Door = door_of(mp, table, Path("/nowhere"))


class FolderSite(_Site):
    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.root = root
        super().__init__("file:///", Mount(root))

    def files(self) -> dict[str, bytes]:
        found = {}
        for each in self.root.rglob("*"):
            with suppress(FileNotFoundError):  # the service deletes it meanwhile
                if each.is_file():
                    found[str(each.relative_to(self.root))] = each.read_bytes()
        return _without_notes(found)

    def put(self, path: str, content: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(content)


class SftpSite(FolderSite):
    def __init__(self, server: SftpServer) -> None:
        self.server = server
        self.root = server.root / uuid4().hex
        self.root.mkdir()
        mp = f"sftp://127.0.0.1:{server.port}/{self.root.name}"
        table = Mount(
            username=USER, password_file=server.password, known_hosts=server.known_hosts, timeout_s=TIMEOUT_S
        )
        _Site.__init__(self, mp, table)

    @contextmanager
    def broken(self, how: str) -> Iterator[Door]:
        server = self.server
        mp = self.mp.replace(f":{server.port}", ":1") if how == "unreachable" else self.mp
        door = door_of(mp, self.table, Path("/nowhere"))
        server.full, server.forbidden = how == "full", how == "forbidden"
        server.hang(how == "hanging")
        try:
            yield door
        finally:
            server.full = server.forbidden = False
            server.hang(False)
            door.close()


class S3Site(_Site):
    def __init__(self, server: S3Server, keys: Path) -> None:
        self.server = server
        self.bucket = server.bucket(f"b{uuid4().hex}")
        (keys / "key").write_text("test\n")
        (keys / "secret").write_text("test-secret\n")
        table = Mount(
            endpoint_url=server.url,
            region="us-east-1",
            key_file=keys / "key",
            secret_file=keys / "secret",
            timeout_s=TIMEOUT_S,
        )
        super().__init__(f"s3://{self.bucket}/beam/time", table)

    def files(self) -> dict[str, bytes]:
        found = self.server.keys(self.bucket)
        assert all(key.startswith("beam/time/") for key in found)
        return _without_notes({key.removeprefix("beam/time/"): content for key, content in found.items()})

    def put(self, path: str, content: bytes) -> None:
        self.server.put(self.bucket, f"beam/time/{path}", content)

    @contextmanager
    def broken(self, how: str) -> Iterator[Door]:
        with ExitStack() as opened:
            url = {
                "unreachable": lambda: "http://127.0.0.1:1",
                "forbidden": lambda: opened.enter_context(refusing_s3("AccessDenied", 403)),
                "full": lambda: opened.enter_context(refusing_s3("QuotaExceeded", 403)),
                "hanging": lambda: opened.enter_context(refusing_s3("", 0)),
            }[how]()
            door = door_of(self.mp, _with(self.table, url), Path("/nowhere"))
            opened.callback(door.close)
            yield door


def _with(table: Mount, url: str) -> Mount:

    return replace(table, endpoint_url=url)


def _without_notes(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if not path.startswith(".storage-trash/.")}
