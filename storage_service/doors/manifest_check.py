"""Whether an acquisition's folder still is what its manifests say. It needs nothing but the files.

1. The newest segment's manifest says what there must be; those of conversions after it say what came, changed or
   went then. What none of them has is `added`, which is no damage.
2. Paths come from the disk, never from a manifest: a forged one opens nothing.
3. Each manifest names the one before it in its storage's chain: that one's bytes must have the digest it names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3
from msgspec import Struct

from storage_service.doors.manifest_format import (
    Entry,
    Header,
    ManifestError,
    ManifestReader,
    is_manifest,
    is_own,
    shown,
)
from storage_service.doors.manifest_marker import marker_digest, read_marker
from storage_service.doors.manifest_merge import newest, side_by_side
from storage_service.doors.manifest_tree import Found, digest_of, listed, open_file, walk
from storage_service.rules.state import Link
from storage_service.rules.work import ACQ_MARKER, TRASH

Digests = Callable[[Path, Iterator[bytes]], Iterable[tuple[bytes, str | None, str]]]
"""Reads the files at these paths below a folder: each path, with its BLAKE3, or None and why there is none."""


class Finding(Struct, frozen=True):
    """Something to be told of one file. `what`, of damage:

        missing     it is listed, and not there
        changed     its content, its size or the target of the link is another
        kind        it is something else: a link where a file was
        unreadable  it cannot be read
        manifest    a manifest is damaged, or is not the one that the service tells of
        chain       the manifest before it in the chain is not the one that it names

    of what is no damage:

        added       it came after the sealing
        replaced    it was changed by a conversion, as that one's manifest tells; removed: the same, taken away
        rewritten   acquisition.json was written anew by a second seal, and what lasts of it is as it was
        undigested  its manifest has no digest of it
        chain       the manifest before it is not to be found here
        unproven    there is no manifest that tells what must be here
    """

    what: str
    path: str
    detail: str = ""


class Report(Struct):
    """
    state    `ok`, `damaged`, or `unproven`: there is nothing to hold it against
    files    that the manifests list, and bytes of them
    touched  files with another modification time and the same size; and content, if that was read
    blake3   by manifest: the digest of its bytes, to be compared with the RunDB's
    """

    folder: str
    acq_id: str = ""
    uid: str = ""
    segment: int = 0
    state: str = "ok"
    files: int = 0
    bytes: int = 0
    touched: int = 0
    blake3: dict[str, str] = msgspec.field(default_factory=dict)
    damage: list[Finding] = msgspec.field(default_factory=list)
    notes: list[Finding] = msgspec.field(default_factory=list)

    def hurt(self, what: str, path: str, detail: str = "") -> None:
        self.state = "damaged"
        self.damage.append(Finding(what, path, detail))

    def note(self, what: str, path: str, detail: str = "") -> None:
        self.notes.append(Finding(what, path, detail))


def acquisitions_below(top: Path) -> Iterator[Path]:
    """The folders of acquisitions at or below a folder, in order; what is set aside in the trash is left out."""
    for folder, below, files in os.walk(top):
        if ACQ_MARKER in files or any(is_manifest(os.fsencode(name)) for name in files):
            below.clear()
            yield Path(folder)
        else:
            below[:] = sorted(name for name in below if name != TRASH)


def marker_of(folder: Path) -> dict[str, Any]:
    """What the marker file of an acquisition's folder says; nothing where it cannot be understood."""
    try:
        said = msgspec.json.decode((folder / ACQ_MARKER).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def check(
    folder: Path, digests: Digests, *, fast: bool = False, chain: bool = True, known: dict[str, str] | None = None
) -> Report:
    """Hold an acquisition's folder against its manifests. `fast`: sizes alone; `known`: digests of its manifests
    from elsewhere, by file name. Raises OSError when the folder itself cannot be read."""
    report = Report(str(folder))
    marker = marker_of(folder)
    headers = _headers(folder, report)
    uid = marker.get("uid")
    ours = {name: each for name, each in headers.items() if uid is None or each.uid == uid}
    segments = [each for each in ours.values() if each.conversion is None]
    whole = max(segments, key=lambda each: each.segment, default=None)
    report.acq_id = str(marker.get("acq_id", "")) or (whole.acq_id if whole else "")
    report.uid = whole.uid if whole else str(uid or "")
    report.segment = whole.segment if whole else 0
    if whole is None or marker.get("state") == "open" or _number(marker.get("segment")) > whole.segment:
        why = "it was opened again after its newest manifest" if whole else "it has no manifest"
        report.note("unproven", report.folder, why)
        if report.state == "ok":
            report.state = "unproven"
        return report
    names = [f"manifest-{whole.segment}.json"]
    after = [name for name, each in ours.items() if each.conversion is not None and each.over[:1] == (names[0],)]
    names += sorted(after, key=lambda name: len(ours[name].over))
    _compare(folder, names, digests, fast or whole.kind != "blake3", report)
    for name in names:
        if known and name in known and report.blake3.get(name) != known[name]:
            report.hurt(
                "manifest", name, f"its BLAKE3 is {report.blake3.get(name)}, the service has {known[name]}"
            )
        if chain:
            _look_back(folder, name, ours[name], report)
    return report


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _headers(folder: Path, report: Report) -> dict[str, Header]:
    """The first line of every manifest in a folder, by file name."""
    found = {}
    for name in sorted(os.listdir(folder)):
        if is_manifest(os.fsencode(name)):
            try:
                with _opened(folder, name) as file:
                    header = ManifestReader(file).header
                if name != _name_of(header):
                    raise ManifestError(f"it is that of {_name_of(header)}")
                found[name] = header
            except (ManifestError, OSError) as error:
                report.hurt("manifest", name, str(error))
    return found


def _name_of(header: Header) -> str:
    if header.conversion is None:
        return f"manifest-{header.segment}.json"
    return f"manifest-{header.conversion[0]}-conversion-{header.conversion[1]}.json"


def _opened(folder: Path, name: str) -> Any:
    return os.fdopen(os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", 1 << 20)


def _compare(folder: Path, names: list[str], digests: Digests, fast: bool, report: Report) -> None:
    """Hold what is there against what the manifests list, as one."""
    # Of files whose content is being read, with what was there now: as many as are under way.
    expected: dict[bytes, tuple[Entry, Entry]] = {}
    try:
        with ExitStack() as opened:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, fd)
            readers = [ManifestReader(opened.enter_context(_opened(folder, name))) for name in names]
            candidates = _candidates(fd, readers, fast, report, expected)
            for path, digest, problem in digests(folder, candidates):
                entry, now = expected.pop(path)
                if digest is None:
                    report.hurt("unreadable", entry.shown, problem)
                elif digest != entry.blake3:
                    report.hurt("changed", entry.shown, f"its BLAKE3 is {digest}, it was {entry.blake3}")
                if digest != entry.blake3:
                    report.touched -= now.mtime_ns != entry.mtime_ns
            report.blake3 = dict(zip(names, (each.blake3 for each in readers), strict=True))
    except ManifestError as error:
        report.hurt("manifest", ", ".join(names), str(error))


def _candidates(
    fd: int, readers: list[ManifestReader], fast: bool, report: Report, expected: dict[bytes, tuple[Entry, Entry]]
) -> Iterator[bytes]:
    """Tells what differs at first sight; yields the paths whose content is to be read."""
    here = ((found.path, found) for found in walk(fd) if not is_own(found.path))
    known = ((last.raw, (last, before)) for last, before in newest(each.entries() for each in readers))
    for path, found, pair in side_by_side(here, known):
        if pair is None:
            report.note("added", shown(path))
            continue
        last, before = pair
        if before is not None and before.kind != "gone" and last.problem is None:
            report.note("removed" if last.kind == "gone" else "replaced", last.shown)
        if last.kind == "gone":
            if found is not None:
                report.note("added", last.shown)
            continue
        report.files += 1
        report.bytes += last.size or 0
        if last.problem is not None:
            report.note("undigested", last.shown, last.problem)
        elif found is None:
            report.hurt("missing", last.shown)
        elif _is_rewritten(found, last):
            report.note("rewritten", last.shown)
        elif (now := _alike(found, last, report)) is not None and last.blake3 is not None and not fast:
            expected[path] = last, now
            yield path


def _is_rewritten(found: Found, last: Entry) -> bool:
    """Whether it is the marker file, other than it was, and what lasts of it the same."""
    if last.lasting_blake3 is None or not stat.S_ISREG(found.status.st_mode):
        return False
    try:
        content = read_marker(found.parent, found.name)
    except OSError:
        return False
    same = len(content) == last.size and last.blake3 in (None, blake3(content).hexdigest())
    return not same and marker_digest(content) == last.lasting_blake3


def _alike(found: Found, last: Entry, report: Report) -> Entry | None:
    """What is there, if it may be what is listed, as far as can be told without reading it."""
    now = listed(found, hashes=False, read=lambda _: None)
    if now is None:
        report.hurt("missing", last.shown)
    elif now.problem is not None:
        report.hurt("unreadable", last.shown, now.problem)
    elif now.kind != last.kind:
        report.hurt("kind", last.shown, f"it is a {now.kind}, it was a {last.kind}")
    elif now.size != last.size:
        report.hurt("changed", last.shown, f"it has {now.size} bytes, it had {last.size}")
    elif now.kind == "link" and now.raw_target != last.raw_target:
        report.hurt("changed", last.shown, f"it leads to {shown(now.raw_target)}, not {shown(last.raw_target)}")
    else:
        report.touched += now.mtime_ns != last.mtime_ns
        return now
    return None


# The chain


def _look_back(folder: Path, name: str, header: Header, report: Report) -> None:
    """Hold the manifest before this one in the chain against the digest that this one names."""
    before = header.previous
    if before is None:
        return
    place = f"{before.name} of {before.acq_id}"
    for root, path in _places(folder, header, before):
        digest = _digest(root, path, before)
        if digest is None:
            continue
        if digest != before.blake3:
            report.hurt("chain", name, f"{place} has the BLAKE3 {digest}, {name} names {before.blake3}")
        return
    report.note("chain", name, f"{place}, which it names as the one before it, is not here")


def _places(folder: Path, header: Header, before: Link) -> Iterator[tuple[Path, str]]:
    """Where the manifest before may be: in the same folder, at its own, or set aside."""
    if before.uid == header.uid:
        yield folder, before.name
        return
    place = folder.resolve()
    if before.mp == header.mp and place.parts[-len(Path(header.path).parts) :] == Path(header.path).parts:
        root = place.parents[len(Path(header.path).parts) - 1]
        yield root, f"{before.path}/{before.name}"
        yield root, f"{TRASH}/{before.uid}/{before.name}"


def _digest(root: Path, path: str, before: Link) -> str | None:
    """The BLAKE3 of the manifest at this path below a folder; None where it is not there, or another one's."""
    try:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fd = open_file(top, os.fsencode(path))
    except OSError:
        return None
    finally:
        os.close(top)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        try:
            # Another acquisition of the same name, made after that one was removed.
            if ManifestReader(file).header.uid != before.uid:
                return None
        except ManifestError:
            pass  # its digest will not fit either
        os.lseek(fd, 0, os.SEEK_SET)
        return digest_of(fd, lambda _: None)[0]
