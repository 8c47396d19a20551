"""Where a producer writes: what a location is called on this host.

    mounts = Mounts({"nfs://server/export": "/net/export", "s3://bucket": {"endpoint_url": "https://s3.example"}})
    place = mounts.resolve(block.acq.location)
    with place.open("tracker.raw", "wb") as file:
        file.write(data)

A mount point is a path of this host, or lies elsewhere in the network: `s3://` (the package's extra `s3`) and
`sftp://` (the extra `sftp`), through fsspec, imported when it is first used. Nothing is asked of the service.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from storage_protocol.records import Location

from .errors import MountError

_MARKERS = ("acquisition.json", "run.json")
_S3 = ("endpoint_url", "region", "key_file", "secret_file")
_SFTP = ("username", "password_file", "client_keys", "known_hosts")


class Place:
    """A folder to write to.

    url     what it is called everywhere
    path    the folder on this host; None where it lies elsewhere
    system  the fsspec file system that has it, None on this host; `at` is the folder's path in there
    """

    def __init__(self, url: str, path: Path | None = None, system: Any = None, at: str = "") -> None:
        self.url, self.path, self.system, self.at = url, path, system, at

    def open(self, name: str, mode: str = "rb") -> IO[Any]:
        """Open a file in it, wherever it is; folders of its name are made where it is written.

        A file elsewhere is complete when it is closed. Raises ValueError for a name that leads out of the folder,
        and OSError as the file system does.
        """
        segments = name.split("/")
        if any(each in ("", ".", "..") for each in segments):
            raise ValueError(f"{name!r} is no path below the folder")
        if self.path is not None:
            if mode[0] != "r":
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            return (self.path / name).open(mode)
        if mode[0] != "r":
            self.system.makedirs(f"{self.at}/{name}".rpartition("/")[0], exist_ok=True)
        opened: IO[Any] = self.system.open(f"{self.at}/{name}", mode)
        return opened


class Mounts:
    """A table of mount points: the name that the service has for it, and where this host reaches it.

    A path, for what is mounted here; for `s3://...` and `sftp://...` a table with some of the keys that the
    service has in its own: endpoint_url, region, key_file, secret_file; username, password_file, client_keys,
    known_hosts. Raises MountError for a table that cannot be used.
    """

    def __init__(self, table: Mapping[str, str | Path | Mapping[str, Any]] | None = None) -> None:
        self._table = dict(table or {})
        self._systems: dict[str, Any] = {}
        for mp, given in self._table.items():
            _check(mp, given)

    @classmethod
    def from_file(cls, path: Path | str) -> Mounts:
        """The table `[mounts]` of a TOML file; relative paths start at the file's folder. Raises MountError."""
        file = Path(path)
        try:
            table = tomllib.loads(file.read_text("utf-8")).get("mounts", {})
        except (OSError, ValueError) as error:
            raise MountError(f"The table of mount points {file} cannot be read: {error}.") from error
        if not isinstance(table, dict):
            raise MountError(f"mounts in {file} is no table.")
        base = file.absolute().parent
        return cls({mp: _rooted(given, base) for mp, given in table.items()})

    def resolve(self, location: Location) -> Place:
        """Where this host has the folder of a run or an acquisition. It looks whether it is there, which takes as
        long as the file system likes: in an event loop, `await asyncio.to_thread(mounts.resolve, location)`.

        Raises MountError: the table does not know the mount point and the service's own path is not here either;
        the folder is not there, since something else or nothing is mounted; the other side cannot be reached, or
        says no; or an extra is not installed.
        """
        if any(each in (".", "..") for each in location.path.split("/")):
            raise MountError(f"{location.path!r} is no path below {location.mp}.")
        given = self._table.get(location.mp)
        if location.mp.startswith(("s3://", "sftp://")) and not isinstance(given, str | Path):
            return self._elsewhere(location, given or {})
        if isinstance(given, str | Path):
            folder = Path(given, location.path)
            why = f"is {location.mp} mounted at {given}?"
        elif location.local_path is not None:
            folder = Path(location.local_path)
            why = f"give a path of this host for {location.mp}."
        else:
            raise MountError(f"There is no path for the mount point {location.mp}; the table has {self._known()}.")
        try:
            there = any((folder / name).is_file() for name in _MARKERS)
        except OSError as error:
            raise MountError(f"The folder {folder} cannot be read: {error.strerror}.") from error
        if not there:
            raise MountError(f"The folder {folder} of {location.mp} is not on this host: {why}")
        return Place(location.url or f"{location.mp.rstrip('/')}/{location.path}", folder)

    def _elsewhere(self, location: Location, given: Mapping[str, Any]) -> Place:
        mp = location.mp
        scheme, _, rest = mp.partition("://")
        host, _, root = rest.partition("/")
        made: Callable[[str, Mapping[str, Any]], Any] = _s3 if scheme == "s3" else _sftp
        at = "/".join(each for each in (root.strip("/"), location.path) if each)
        at = f"{host}/{at}" if scheme == "s3" else f"/{at}"
        try:
            if mp not in self._systems:
                self._systems[mp] = made(host, given)
            system = self._systems[mp]
            there = any(system.exists(f"{at}/{name}") for name in _MARKERS)
        except MountError:
            raise
        except ImportError as error:
            raise MountError(f"{mp} takes the extra {scheme}: pip install 'storage-service[{scheme}]'.") from error
        except Exception as error:
            self._systems.pop(mp, None)
            raise MountError(f"The mount point {mp} cannot be used: {_said(error)}.") from error
        if not there:
            raise MountError(f"The folder {location.path} below {mp} is not there.")
        return Place(f"{mp.rstrip('/')}/{location.path}", system=system, at=at)

    def _known(self) -> str:
        return ", ".join(self._table) or "none"


def _s3(bucket: str, given: Mapping[str, Any]) -> Any:
    import s3fs

    login = {name: _secret(given, f"{name}_file") for name in ("key", "secret") if f"{name}_file" in given}
    where = {"endpoint_url": given.get("endpoint_url"), "region_name": given.get("region")}
    style = {"s3": {"addressing_style": "path"}} if given.get("endpoint_url") else {}
    return s3fs.S3FileSystem(
        **login,
        skip_instance_cache=True,
        use_listings_cache=False,
        client_kwargs={name: value for name, value in where.items() if value},
        config_kwargs={
            **style,
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
    )


def _sftp(address: str, given: Mapping[str, Any]) -> Any:
    import sshfs

    host, _, port = address.partition(":")
    login: dict[str, Any] = {"username": given["username"]} if "username" in given else {}
    if "password_file" in given:
        login["password"] = _secret(given, "password_file")
    return sshfs.SSHFileSystem(
        host,
        port=int(port or 22),
        known_hosts=str(given["known_hosts"]),
        client_keys=[str(each) for each in given.get("client_keys", [])] or None,
        agent_path=None,
        config=None,
        skip_instance_cache=True,
        **login,
    )


def _secret(given: Mapping[str, Any], key: str) -> str:
    try:
        return Path(given[key]).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise MountError(f"The {key} {given[key]} cannot be read: {why}.") from error


def _said(error: Exception) -> str:
    said = ""
    with suppress(Exception):
        said = str(getattr(error, "reason", "") or error).strip().rstrip(".")
    return f"{said} ({type(error).__name__})" if said else type(error).__name__


def _check(mp: str, given: object) -> None:
    if isinstance(given, str | Path) and str(given):
        return
    scheme = mp.partition("://")[0]
    keys = {"s3": _S3, "sftp": _SFTP}.get(scheme)
    if keys is None or not isinstance(given, Mapping):
        raise MountError(f"The mount point {mp} must have the path of a folder of this host.")
    if strange := next((key for key in given if key not in keys), None):
        raise MountError(f"{strange!r} is not a known key of {mp}; there are: {', '.join(keys)}.")
    if scheme == "sftp" and "known_hosts" not in given:
        raise MountError(f"{mp} must have known_hosts, the file of the host keys that are believed.")


def _rooted(given: Any, base: Path) -> Any:
    if isinstance(given, str) and given:
        return str(base / given)
    if not isinstance(given, dict):
        return given
    files = {key: str(base / value) for key, value in given.items() if key in _FILES and isinstance(value, str)}
    keys = given.get("client_keys")
    if isinstance(keys, list):
        files["client_keys"] = [str(base / str(each)) for each in keys]  # type: ignore[assignment]
    return {**given, **files}


_FILES = ("key_file", "secret_file", "password_file", "known_hosts")
