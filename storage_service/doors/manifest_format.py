"""The bytes of a manifest: one JSON document in which every file has a line of its own (docs/verify.md).

    {"format":"storage-service/manifest/1","acq_id":...,...,"files":[
    {"path":"a.dat","kind":"file","size":7,"mtime_ns":1,"blake3":"..."},
    {"path":"b.dat",...}
    ],"count":2,"bytes":14}

So any JSON library reads it whole, and this one a line at a time, in bounded memory. Files stand in the order of
the bytes of their paths. A path that is not UTF-8 stands in `path_b64`, in base64, instead of `path`; so does the
target of a link. Its digest is the BLAKE3 of all its bytes.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import IO

import msgspec
from blake3 import blake3
from msgspec import Struct

from storage_service.rules.state import Link
from storage_service.rules.work import WriteManifest

FORMAT = "storage-service/manifest/1"
LINE_MOST = 1 << 20
"""Bytes of the longest line that is read; a path of the file system has at most some thousands."""

_NAME = re.compile(rb"manifest-(\d{1,9})(?:-conversion-(\d{1,9}))?\.json")
_OWN_TEMPORARY = re.compile(rb"\.(?:manifest-[\d-]*(?:conversion-\d+)?\.json|acquisition\.json)\.new")


class ManifestError(Exception):
    """These bytes are no manifest, or not all of one; the message says where."""


class Header(Struct, frozen=True):
    """What a manifest is about; see `WriteManifest`."""

    format: str
    storage_id: str
    acq_id: str
    uid: str
    segment: int
    conversion: tuple[int, int] | None
    over: tuple[str, ...]
    kind: str
    time: str
    mp: str
    path: str
    previous: Link | None


class Entry(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One file: its path below the folder, and what it was.

    kind      `file`, `link`, `fifo`, `socket`, `device`, `folder` (one that could not be read), or `gone`: in an
              earlier manifest, and not there any more
    size      bytes, and mtime_ns, nanoseconds since 1970: of a `file`
    blake3    of its content; left out where the manifest has sizes alone, or there is a problem
    lasting_blake3  of `acquisition.json`: of what nobody changes in it after the seal (`marker_digest`)
    target    of a `link`, which is not followed
    problem   why there is no digest
    """

    path: str | None = None
    path_b64: str | None = None
    kind: str
    size: int | None = None
    mtime_ns: int | None = None
    blake3: str | None = None
    lasting_blake3: str | None = None
    target: str | None = None
    target_b64: str | None = None
    problem: str | None = None

    @property
    def raw(self) -> bytes:
        """The path as the file system has it."""
        return _raw(self.path, self.path_b64)

    @property
    def raw_target(self) -> bytes:
        """The target of a link as the file system has it."""
        return _raw(self.target, self.target_b64)

    @property
    def shown(self) -> str:
        """The path for people."""
        return shown(self.raw)


class _Tail(Struct, frozen=True):
    count: int
    bytes: int


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode
_decode_entry = msgspec.json.Decoder(Entry).decode
_decode_tail = msgspec.json.Decoder(_Tail).decode


def entry(raw: bytes, kind: str, target: bytes | None = None, **more: int | str | None) -> Entry:
    """The entry of a path given as the file system has it."""
    path, path_b64 = _told(raw)
    named = dict(zip(("target", "target_b64"), _told(target) if target is not None else (None, None), strict=True))
    return Entry(path=path, path_b64=path_b64, kind=kind, **named, **more)  # type: ignore[arg-type]


def _told(raw: bytes) -> tuple[str | None, str | None]:
    try:
        return raw.decode(), None
    except UnicodeDecodeError:
        return None, b64encode(raw).decode()


def _raw(text: str | None, in_base64: str | None) -> bytes:
    if text is not None:
        return text.encode()
    try:
        return b64decode(in_base64 or "", validate=True)
    except ValueError as error:
        raise ManifestError(f"{in_base64!r} is no path in base64") from error


def shown(raw: bytes) -> str:
    """A path for people: what is not UTF-8, or cannot be printed, as `\\xff`."""
    text = raw.decode(errors="backslashreplace")
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def is_manifest(name: bytes) -> bool:
    """Whether a file of this name, directly in an acquisition's folder, is a manifest."""
    return _NAME.fullmatch(name) is not None


def is_own(path: bytes) -> bool:
    """Whether a path in an acquisition's folder is no data: manifests, and the service's files in the making."""
    return is_manifest(path) or _OWN_TEMPORARY.fullmatch(path) is not None


def header_of(order: WriteManifest) -> Header:
    return Header(
        format=FORMAT,
        storage_id=order.storage_id,
        acq_id=order.acq_id,
        uid=order.uid,
        segment=order.segment,
        conversion=order.conversion,
        over=order.over,
        kind=order.kind,
        time=order.time,
        mp=order.mp,
        path="/".join(order.path),
        previous=order.previous,
    )


class ManifestWriter:
    """Writes a manifest entry by entry. `count` and `bytes` are what it has, `blake3` is right after `end`."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self.count = 0
        self.bytes = 0
        self._file = file
        self._hasher = blake3()
        self._put(_encode(header)[:-1] + b',"files":[')

    def add(self, entry: Entry) -> None:
        self._put((b",\n" if self.count else b"\n") + _encode(entry))
        self.count += 1
        self.bytes += entry.size or 0

    def end(self) -> None:
        self._put(b'\n],"count":%d,"bytes":%d}\n' % (self.count, self.bytes))

    @property
    def blake3(self) -> str:
        return self._hasher.hexdigest()

    def _put(self, data: bytes) -> None:
        self._hasher.update(data)
        self._file.write(data)


class ManifestReader:
    """Reads a manifest, a line at a time. Raises ManifestError where it is none, also during `entries`.

    `blake3` is that of its bytes once all entries were taken; `count` and `bytes` are then what it says of itself.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hasher = blake3()
        self.count = self.bytes = 0
        first = self._line()
        if not first.endswith(b',"files":[\n'):
            raise ManifestError("it does not begin as a manifest does")
        try:
            self.header = _decode_header(first[: -len(b',"files":[\n')] + b"}")
        except msgspec.DecodeError as error:
            raise ManifestError(f"its first line is not understood: {error}") from error
        if self.header.format != FORMAT:
            raise ManifestError(f"its format is {self.header.format!r}, not {FORMAT!r}")

    @property
    def blake3(self) -> str:
        return self._hasher.hexdigest()

    def entries(self) -> Iterator[Entry]:
        """What it lists, in the order of the paths' bytes."""
        count, size, before = 0, 0, b""
        while not (line := self._line()).startswith(b"]"):
            try:
                found = _decode_entry(line.rstrip(b",\n"))
            except msgspec.DecodeError as error:
                raise ManifestError(f"its entry {count + 1} is not understood: {error}") from error
            if count and found.raw <= before:
                raise ManifestError(f"its entry {count + 1} is out of order")
            before = found.raw
            count += 1
            size += found.size or 0
            yield found
        try:
            tail = _decode_tail(b"{" + line.removeprefix(b"],"))
        except msgspec.DecodeError as error:
            raise ManifestError(f"its last line is not understood: {error}") from error
        if (tail.count, tail.bytes) != (count, size) or self._file.read(1):
            raise ManifestError(f"its end does not fit the {count} entries before it")
        self.count, self.bytes = count, size

    def _line(self) -> bytes:
        line = self._file.readline(LINE_MOST)
        self._hasher.update(line)
        if not line.endswith(b"\n"):
            raise ManifestError("it is cut off" if len(line) < LINE_MOST else "it has a line that is too long")
        return line
