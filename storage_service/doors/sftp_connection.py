"""The connection to an SFTP server, through asyncssh: the extra `sftp`, imported when it is first used.

1. One connection a mount point, made when it is needed and again when it is lost.
2. Its host key must be one that the operator believes; who logs in, and with what, is read anew each time.
3. It lives in the one loop of fsspec, in a thread of its own; who asks waits for it with a deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from storage_service.doors.remote_files import NoAnswer, NotThere, secret
from storage_service.mount_tables import Mount

KEEPALIVE_S = 15

T = TypeVar("T")


class SftpConnection:
    """May be used by several threads at once."""

    def __init__(self, host: str, port: int, mount: Mount) -> None:
        self._host, self._port, self._mount = host, port, mount
        self._lock = threading.Lock()
        self._connection: Any = None
        self._client: Any = None

    def close(self) -> None:
        """Let go of it; who asks next makes another."""
        with self._lock:
            connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            from fsspec.asyn import get_loop

            get_loop().call_soon_threadsafe(connection.abort)

    def ask(self, what: Callable[[Any], Awaitable[T]], timeout_s: float = 0.0) -> T:
        """Do something with the SFTP client, in its loop. Raises what `RemoteFiles` says."""
        try:
            import asyncssh
            from fsspec.asyn import get_loop, sync
        except ImportError as error:
            raise NotThere("it takes the extra sftp, as in pip install 'storage-service[sftp]'") from error

        async def ask() -> T:
            client = await self._connected(asyncssh)
            return await what(client)

        try:
            done: T = sync(get_loop(), ask, timeout=timeout_s or self._mount.timeout_s)
            return done
        except TimeoutError as error:
            self.close()  # who knows what is still on its way
            raise NoAnswer from error
        except (OSError, asyncssh.Error) as error:
            raise self._translated(error) from error

    async def _connected(self, asyncssh: Any) -> Any:
        if self._client is not None and not self._connection.is_closed():
            return self._client
        mount = self._mount
        asyncssh.set_log_level("WARNING")
        connection = await asyncssh.connect(
            self._host,
            self._port,
            **self._login(asyncssh),
            agent_path=None,
            config=None,
            keepalive_interval=KEEPALIVE_S,
            connect_timeout=mount.timeout_s,
            login_timeout=mount.timeout_s,
        )
        try:
            client = await connection.start_sftp_client(path_errors="surrogateescape")
        except BaseException:
            connection.abort()
            raise
        with self._lock:
            if self._client is not None and not self._connection.is_closed():  # another thread was quicker
                connection.abort()
                return self._client
            self._connection, self._client = connection, client
        return client

    def _login(self, asyncssh: Any) -> dict[str, Any]:
        """Who we are, and whom we believe: read anew for each connection."""
        mount = self._mount
        found: dict[str, Any] = {"client_keys": None}
        try:
            found["known_hosts"] = asyncssh.read_known_hosts(str(mount.known_hosts))
        except (OSError, ValueError) as error:
            raise NotThere(f"its known_hosts {mount.known_hosts} cannot be read: {_said(error)}") from error
        if mount.username:
            found["username"] = mount.username
        if mount.password_file is not None:
            found["password"] = secret(mount.password_file, "password_file")
        for each in mount.client_keys:
            try:
                found["client_keys"] = [*(found["client_keys"] or []), asyncssh.read_private_key(str(each))]
            except (OSError, ValueError) as error:
                raise NotThere(f"its client_keys {each} cannot be used: {_said(error)}") from error
        return found

    def _translated(self, error: Exception) -> OSError:
        name, said = type(error).__name__, str(getattr(error, "reason", "") or error).strip().rstrip(".")
        if isinstance(error, NotThere | FileExistsError | FileNotFoundError) or name == "NoAnswer":
            return error  # type: ignore[return-value]
        if name in ("SFTPNoSuchFile", "SFTPNoSuchPath"):
            return FileNotFoundError("it is not there")
        if name == "HostKeyNotVerifiable":
            return NotThere(f"the host key of {self._host} is not the one in known_hosts ({said})")
        if name == "PermissionDenied":
            return NotThere(f"{self._host} does not accept the login")
        if name in ("SFTPPermissionDenied", "SFTPWriteProtect"):
            return NotThere(f"it is forbidden on {self._host} ({said})", name)
        full = name in ("SFTPNoSpaceOnFilesystem", "SFTPQuotaExceeded")
        if full or "no space left" in said.lower() or "quota" in said.lower():
            return NotThere(f"it is full ({said})", name)
        if name.startswith("SFTP") and name not in ("SFTPNoConnection", "SFTPConnectionLost"):
            return NotThere(f"{self._host} says: {said}", name)
        self.close()
        return NotThere(f"{self._host}:{self._port} cannot be reached ({said or name})", name)


def _said(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error).rstrip(".")
