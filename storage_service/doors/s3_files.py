"""Files in a bucket of S3, through s3fs: the extra `s3`, imported when it is first used.

1. There are no folders: one is there as long as something is below it. A marker file makes it.
2. A PUT shows an object whole or not at all, and it is durable when it is answered.
3. Nothing is renamed: a folder is moved by copying all of it, then deleting what was copied, its markers last;
   what somebody wrote meanwhile is moved in a further round. That can be gone on with from any place, and is after
   some seconds: a large one is moved in several tries.
4. Requests are single ones, through `call_s3`, which tells the code that S3 gave; nothing is cached.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from storage_service.doors.folder import Kind, NotPlainFileError
from storage_service.doors.remote_files import Found, Named, NoAnswer, NotThere, checked, secret
from storage_service.mount_tables import Mount
from storage_service.rules.work import ACQ_MARKER, RUN_MARKER

COPIES = 8
ROUNDS = 8
MOVE_S = 5.0  # then others have their turn: well before a mount point counts as one that does not answer
DELETE_MOST = 1000
SLOW_S = 300.0  # a copy inside of S3 is answered when it is done
BLOCK_BYTES = 8 << 20
STREAM_BYTES = 1 << 20

_LOGIN = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "TokenRefreshRequired",
    "AuthorizationHeaderMalformed",
}
_FORBIDDEN = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403"}
_FULL = {
    "QuotaExceeded",
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "InsufficientStorage",
    "InsufficientCapacity",
    "StorageFull",
    "507",
}
_BUSY = {"SlowDown", "ServiceUnavailable", "503"}
_UNKNOWN = {"NotImplemented", "501"}


class S3Files:
    """See `RemoteFiles`. `mp` is s3://BUCKET or s3://BUCKET/PREFIX."""

    def __init__(self, mp: str, mount: Mount) -> None:
        self._bucket, _, prefix = mp.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        self._mount = mount
        self._lock = threading.Lock()
        self._systems: dict[float, Any] = {}

    # Looking

    def reach(self) -> None:
        self._call("list_objects_v2", Prefix=self._prefix, MaxKeys=1)

    def kind(self, path: str) -> Kind | None:
        if not path:
            return "folder"
        if self._head(path) is not None:
            return "file"
        return "folder" if self._some(self._key(path) + "/") else None

    def _head(self, path: str) -> dict[str, Any] | None:
        """What S3 says of the object at this path. A listing tells more of a failure than a HEAD does, and of all
        keys that begin so, the key itself comes first."""
        key = self._key(path)
        first = self._some(key)
        return first[0] if first and first[0]["Key"] == key else None

    def _some(self, prefix: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("list_objects_v2", Prefix=prefix, MaxKeys=1).get("Contents", [])
        return found

    def listed(self, path: str) -> Iterator[Named]:
        prefix = self._below(path)
        for page in self._pages(Prefix=prefix, Delimiter="/"):
            for each in page.get("CommonPrefixes", []):
                yield Named(each["Prefix"][len(prefix) : -1], "folder")
            for each in page.get("Contents", []):
                if name := each["Key"][len(prefix) :]:
                    yield Named(name, "file", each["LastModified"].timestamp())

    def walk(self, path: str) -> Iterator[Found]:
        prefix = self._below(path)
        for each in self._objects(prefix):
            # A key that ends so is no file: some programs write one to show an empty folder.
            if not each["Key"].endswith("/"):
                yield _found(each["Key"][len(prefix) :], each)

    def found(self, path: str) -> Found | None:
        each = self._head(path)
        return None if each is None else _found(path, each)

    def read(self, path: str, limit: int) -> bytes | None:
        found = self._head(path)
        if found is None:
            if self._some(self._key(path) + "/"):
                raise NotPlainFileError(path)
            return None
        if found["Size"] > limit:
            raise NotPlainFileError(path)
        try:
            with self.open(path) as file:
                return checked(file.read(), path, limit)
        except FileNotFoundError:  # gone since
            return None

    def open(self, path: str) -> IO[bytes]:
        with self._asking():
            file: IO[bytes] = self._system().open(
                f"{self._bucket}/{self._key(path)}", "rb", block_size=BLOCK_BYTES, cache_type="readahead"
            )
        return io.BufferedReader(_Stream(file, self), STREAM_BYTES)

    # Changing

    def replace(self, path: str, content: bytes) -> None:
        self._call("put_object", Key=self._key(path), Body=content)

    def create(self, path: str, content: bytes) -> None:
        key = self._key(path)
        try:
            self._call("put_object", Key=key, Body=content, IfNoneMatch="*")
        except NotThere as error:
            if error.code not in _UNKNOWN:
                raise
            # Without the condition somebody may slip in between: nobody can tell.
            self._call("put_object", Key=key, Body=content)

    def put(self, path: str, source: Path) -> None:
        with self._asking():
            self._system(SLOW_S).put_file(str(source), f"{self._bucket}/{self._key(path)}")

    def make_folder(self, path: str) -> None:
        """There is nothing to make."""

    def publish(self, path: str, name: str, content: bytes, draft: str) -> None:
        if self.kind(path) is not None:
            raise FileExistsError(path)
        self.create(f"{path}/{name}", content)

    def move(self, path: str, to: str) -> None:
        source, target, until = self._below(path), self._below(to), time.monotonic() + MOVE_S
        for _ in range(ROUNDS):
            before = {each["Key"]: _version(each) for each in self._objects(source)}
            if not before:
                return
            there = {each["Key"]: _version(each) for each in self._objects(target)}
            left = {key: target + key[len(source) :] for key in before}
            left = {key: at for key, at in left.items() if not _is_copy(before[key], there.get(at))}
            self._copy_all(left, until)
            # What was written anew since it was copied is copied again.
            still = {each["Key"]: _version(each) for each in self._objects(source)}
            self._delete(sorted((key for key in still if before.get(key) == still[key]), key=_markers_last))
        raise NotThere(f"{path} cannot be moved, somebody keeps writing into it")

    def _copy_all(self, left: dict[str, str], until: float) -> None:
        """Copy these keys. NotThere: there are more than can be copied in time; the next try goes on with them."""
        keys = list(left)
        with ThreadPoolExecutor(COPIES, "copies") as pool:
            for start in range(0, len(keys), COPIES):
                if start and time.monotonic() > until:
                    raise NotThere(f"{len(keys) - start} files are still to be moved, which is gone on with")
                for _done in pool.map(lambda key: self._copy(key, left[key]), keys[start : start + COPIES]):
                    pass

    def _copy(self, key: str, to: str) -> None:
        with self._asking():
            self._system(SLOW_S).cp_file(f"{self._bucket}/{key}", f"{self._bucket}/{to}")

    def rename(self, path: str, to: str) -> None:
        self._copy(self._key(path), self._key(to))
        self.remove(path)

    def remove(self, path: str) -> None:
        self._call("delete_object", Key=self._key(path))

    def clear(self, path: str) -> None:
        self._delete([each["Key"] for each in self._objects(self._below(path))])

    def _delete(self, keys: list[str]) -> None:
        for start in range(0, len(keys), DELETE_MOST):
            bite = [{"Key": key} for key in keys[start : start + DELETE_MOST]]
            answer = self._call("delete_objects", Delete={"Objects": bite, "Quiet": True})
            for each in answer.get("Errors", []):
                raise NotThere(self._why(str(each.get("Code")), str(each.get("Message"))))

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        with self._lock:
            systems, self._systems = self._systems, {}
        for each in systems.values():
            each.close_session(each.loop, each.s3)

    # Asking

    def _key(self, path: str) -> str:
        return self._prefix + path

    def _below(self, path: str) -> str:
        return f"{self._prefix}{path}/" if path else self._prefix

    def _objects(self, prefix: str) -> Iterator[dict[str, Any]]:
        for page in self._pages(Prefix=prefix):
            yield from page.get("Contents", [])

    def _pages(self, **asked: Any) -> Iterator[dict[str, Any]]:
        while True:
            page = self._call("list_objects_v2", **asked)
            yield page
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _call(self, method: str, **asked: Any) -> dict[str, Any]:
        with self._asking():
            answer: dict[str, Any] = self._system().call_s3(method, Bucket=self._bucket, **asked)
            return answer

    def _system(self, timeout_s: float | None = None) -> Any:
        """The library's file system, which holds connections; one for short requests, one for long ones."""
        timeout_s = timeout_s or self._mount.timeout_s
        with self._lock:
            if timeout_s not in self._systems:
                self._systems[timeout_s] = self._made(timeout_s)
            return self._systems[timeout_s]

    def _made(self, timeout_s: float) -> Any:
        try:
            import s3fs
        except ImportError as error:
            raise NotThere("it takes the extra s3, as in pip install 'storage-service[s3]'") from error
        mount, login = self._mount, {}
        if mount.key_file is not None and mount.secret_file is not None:
            login = {
                "key": secret(mount.key_file, "key_file"),
                "secret": secret(mount.secret_file, "secret_file"),
            }
        where = {"endpoint_url": mount.endpoint_url, "region_name": mount.region}
        system = s3fs.S3FileSystem(
            **login,
            skip_instance_cache=True,
            use_listings_cache=False,
            client_kwargs={name: value for name, value in where.items() if value},
            config_kwargs={
                "connect_timeout": mount.timeout_s,
                "read_timeout": timeout_s,
                "retries": {"total_max_attempts": 1},
                "s3": {"addressing_style": "path" if mount.endpoint_url else "auto"},
                # Others than Amazon's know no newer ones.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        )
        system.retries = 1  # the desk tries again, and says so meanwhile
        return system

    def _asking(self) -> _Asking:
        return _Asking(self)

    def _why(self, code: str, message: str) -> str:
        if code == "NoSuchBucket":
            return f"the bucket {self._bucket} does not exist"
        if code in _LOGIN:
            return f"its credentials are not accepted ({code})"
        if code in _FORBIDDEN:
            return f"access to the bucket {self._bucket} is forbidden ({code})"
        if code in _FULL:
            return f"it is full ({code})"
        if code in _BUSY:
            return f"it is too busy ({code})"
        return f"{message.rstrip('.')} ({code})"

    def translated(self, error: BaseException) -> BaseException:
        """What the library raised, as `RemoteFiles` says it; anything else as it is."""
        cause = error.__cause__ if getattr(error.__cause__, "response", None) else error
        said = getattr(cause, "response", None)
        if isinstance(said, dict) and isinstance(said.get("Error"), dict):
            code = str(said["Error"].get("Code", ""))
            if code in ("NoSuchKey", "404"):
                return FileNotFoundError("it is not there")
            if code in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                return FileExistsError("it is there")
            if code in _LOGIN:
                self.close()  # the files may hold better ones by the next try
            return NotThere(self._why(code, str(said["Error"].get("Message", ""))), code)
        name = type(error).__name__
        if name in ("NoCredentialsError", "PartialCredentialsError"):
            return NotThere("there are no credentials for it")
        if name in ("ReadTimeoutError", "ConnectTimeoutError") or isinstance(error, TimeoutError):
            return NoAnswer()
        if isinstance(error, NotThere | FileExistsError | FileNotFoundError):
            return error
        if isinstance(error, OSError) or type(error).__module__.startswith(("botocore", "aiobotocore", "aiohttp")):
            where = self._mount.endpoint_url or "S3"
            return NotThere(f"{where} cannot be reached ({name})")
        return error


class _Asking:
    """A block around a request: what the library raises is translated."""

    def __init__(self, files: S3Files) -> None:
        self._files = files

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and (translated := self._files.translated(error)) is not error:
            raise translated from error


class _Stream(io.RawIOBase):
    """A stream of the library, with its faults translated."""

    def __init__(self, file: IO[bytes], files: S3Files) -> None:
        self._file = file
        self._files = files

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _Asking(self._files):
            found = self._file.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()


def _found(path: str, each: dict[str, Any]) -> Found:
    mtime_ns = int(each["LastModified"].timestamp() * 1_000_000) * 1000
    return Found(path, each["Size"], mtime_ns, each.get("ETag", ""))


def _is_copy(source: tuple[Any, ...], target: tuple[Any, ...] | None) -> bool:
    """Whether an earlier try has copied this, and nobody has written it since. The ETag of a copy may be another
    (encrypted, or copied in parts); a copy that is younger than the last writing is one of that writing."""
    if target is None or source[1] != target[1]:
        return False
    return bool(source[0] and source[0] == target[0]) or bool(target[2] > source[2])


def _version(each: dict[str, Any]) -> tuple[Any, ...]:
    return each.get("ETag"), each["Size"], each["LastModified"]


def _markers_last(key: str) -> bool:
    return key.rpartition("/")[2] in (RUN_MARKER, ACQ_MARKER)
