"""An SFTP server on the loopback, in a thread of its own, over a folder of the test's."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "daq", "hunter2"


class SftpServer:
    """asyncssh's, whose root is `root`. `full`, `forbidden` and `hanging` say how it refuses from then on."""

    def __init__(self, root: Path, keys: Path) -> None:
        self._asyncssh: Any = pytest.importorskip("asyncssh", reason="the extra sftp is not installed")
        self.root = root
        self.full = self.forbidden = False
        self.hanging = asyncio.Event()
        self.hanging.set()
        keys.mkdir(exist_ok=True)
        asyncssh = self._asyncssh
        host_key, client_key = (
            asyncssh.generate_private_key("ssh-ed25519"),
            asyncssh.generate_private_key("ssh-ed25519"),
        )
        self._host_key = host_key
        self._authorized = asyncssh.import_authorized_keys(client_key.export_public_key().decode())
        self.client_key, self.password = keys / "id_ed25519", keys / "password"
        client_key.write_private_key(str(self.client_key))
        self.password.write_text(f"{PASSWORD}\n")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(self._listen())
        self.port: int = self._server.get_port()
        self.known_hosts = keys / "known_hosts"
        self.known_hosts.write_text(self.line(host_key))

    def line(self, key: Any) -> str:
        """A line of known_hosts that believes this key of the server."""
        return f"[127.0.0.1]:{self.port} {key.export_public_key().decode()}"

    def another_key(self) -> Any:
        return self._asyncssh.generate_private_key("ssh-ed25519")

    def hang(self, yes: bool) -> None:
        """Answer nothing from now on; or answer again."""
        self._loop.call_soon_threadsafe(self.hanging.clear if yes else self.hanging.set)

    def cut(self) -> None:
        """Cut every connection."""
        self._run(self._cut())

    async def _cut(self) -> None:
        for each in list(self._connections):
            each.abort()
        self._connections.clear()

    async def _closed(self) -> None:
        await self._cut()
        self._server.close()

    def close(self) -> None:
        self.hang(False)
        self._run(self._closed())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _listen(self) -> Any:
        outer, asyncssh = self, self._asyncssh
        self._connections: set[Any] = set()

        class Login(asyncssh.SSHServer):  # type: ignore[misc, name-defined]
            def connection_made(self, conn: Any) -> None:
                outer._connections.add(conn)

            def begin_auth(self, username: str) -> bool:
                return True

            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                return (username, password) == (USER, PASSWORD)

        class Files(asyncssh.SFTPServer):  # type: ignore[misc, name-defined]
            def __init__(self, channel: Any) -> None:
                super().__init__(channel, chroot=os.fsencode(outer.root))

            async def lstat(self, path: bytes) -> Any:
                await outer.hanging.wait()
                return super().lstat(path)

            async def stat(self, path: bytes) -> Any:
                await outer.hanging.wait()
                return super().stat(path)

            def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
                if pflags & asyncssh.FXF_WRITE:
                    self.refuse()
                return super().open(path, pflags, attrs)

            def mkdir(self, path: bytes, attrs: Any) -> Any:
                self.refuse()
                return super().mkdir(path, attrs)

            def rename(self, oldpath: bytes, newpath: bytes) -> Any:
                self.refuse()
                return super().rename(oldpath, newpath)

            def refuse(self) -> None:
                if outer.full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if outer.forbidden:
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        return await asyncssh.create_server(
            Login,
            "127.0.0.1",
            0,
            server_host_keys=[self._host_key],
            authorized_client_keys=self._authorized,
            sftp_factory=Files,
            allow_scp=False,
        )
