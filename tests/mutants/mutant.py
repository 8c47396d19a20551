"""A planted bug as a file: what it breaks, why it is one, what catches it, and the patch.

    promise: R2
    why: the key is written in a transaction of its own
    caught-by: tests/contract/test_store_commits.py::test_a_key_is_written_once

    diff --git a/storage_service/store/sqlite.py ...

What stands behind `caught-by` are words for `python -m pytest -x -q`, or a line that begins with `python -m`.
There may be several such lines; the first that fails has caught it.
"""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
NUMBERED = ("R1", "R2", "R3", "R4", "R5", "R6", "R8", "R9", "R10", "R12")
PROMISES = (
    *(*NUMBERED, "BARRIER", "MANIFEST", "SEAL", "TRASH", "SIM", "VARS", "NOTES", "SPACE"),
    *("READINGS", "REBUILD", "LOGBOOK", "MOUNT"),
)
"""Those of docs/reliability.md (R7 is none of the service's), and what SPEC.md promises besides: the finish
barrier neither hangs nor lies; a manifest tells what lies beside the data, names the one before it, and is never
written over; what is told as sealed is on the disk; what is set aside is neither lost nor kept for ever; a
variable is the sum that was acknowledged; what is noted of a node is kept and found; a full mount point is told
and not filled; what was configured and measured is read once, before the seal, and stands beside the data; a
rebuild brings back what was there, once, and nothing else; what a logbook is owed is written there, once, in
order, and whole. SIM is what simulated lives look at, all of it at once."""


class BadPatchError(Exception):
    """A file that is no mutant; the text says what it lacks."""


@dataclass(frozen=True)
class Mutant:
    """`caught_by`: the programs to run, each a list of words, with this Python."""

    name: str
    promise: str
    why: str
    caught_by: tuple[tuple[str, ...], ...]
    path: Path

    @property
    def touches(self) -> list[str]:
        """The files that the patch changes."""
        return re.findall(r"^\+\+\+ b/(\S+)", self.path.read_text("utf-8"), re.MULTILINE)


def read(path: Path) -> Mutant:
    """The mutant of a file. Raises BadPatchError."""
    header, diff, _ = path.read_text("utf-8").partition("\ndiff --git ")
    lines = [line for line in header.splitlines() if line.strip()]
    said = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    if not diff:
        raise BadPatchError(f"{path.name} has no diff")
    if strange := sorted({name for name, _ in said} - {"promise", "why", "caught-by"}):
        raise BadPatchError(f"{path.name} says {strange}; its lines are promise, why and caught-by")
    if missing := [name for name in ("promise", "why", "caught-by") if not dict(said).get(name)]:
        raise BadPatchError(f"{path.name} does not say {missing}")
    promise = dict(said)["promise"]
    if promise not in PROMISES or not path.name.startswith(f"{promise}-"):
        raise BadPatchError(f"{path.name} is for {promise}; its name begins with a promise, one of {PROMISES}")
    words = tuple(_program(value) for name, value in said if name == "caught-by")
    return Mutant(path.stem, promise, dict(said)["why"], words, path)


def _program(caught_by: str) -> tuple[str, ...]:
    words = shlex.split(caught_by)
    if words[:2] == ["python", "-m"]:
        return (sys.executable, *words[1:])
    return (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *words)


def of_folder(names: list[str], folder: Path = FOLDER) -> list[Mutant]:
    """Those whose name, or its beginning, is named; all when none is. Raises BadPatchError."""
    every = [read(path) for path in sorted(folder.glob("*.patch"))]
    chosen = [each for each in every if not names or any(each.name.startswith(name) for name in names)]
    for name in names:
        if not any(each.name.startswith(name) for each in every):
            raise BadPatchError(f"there is no mutant {name}")
    return chosen
