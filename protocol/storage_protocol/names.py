"""What names, paths and values may be (SPEC 3). Each rule returns what is wrong, or None."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite

Value = str | int | float | bool | None

UNDEFINED = "undef"
"""Pyrame's word for an argument that is not given (SPEC 3)."""

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,127}")
_NUMBERED = re.compile(r"([^{}]*)\{n(?::0([1-9][0-9]?))?\}([^{}]*)")
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def token(text: str) -> str | None:
    """A `storage_id`, a `producer` or the `ns` of variables."""
    if _TOKEN.fullmatch(text):
        return None
    return "it must be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or a digit"


def segment(text: str) -> str | None:
    """A `run_name`, or one segment of a path."""
    if _SEGMENT.fullmatch(text):
        return None
    return "it must be 1 to 128 of A-Z a-z 0-9 . _ + = - and begin with a letter or a digit"


RESERVED = frozenset({"run.json", "acquisition.json"})
"""What the service itself puts into the folders of runs and acquisitions: no folder may have these names."""


def folder(text: str) -> str | None:
    """A segment of a path that becomes a folder: any but the service's own files."""
    if text in RESERVED:
        return "it is the name of a file of the service's own"
    return segment(text)


def acq_name(text: str) -> str | None:
    """1 to 8 segments joined by `/`, at most 512 bytes."""
    parts = text.split("/")
    if len(parts) > 8:
        return "it must be at most 8 segments joined by /"
    if len(text.encode("utf-8", "replace")) > 512:
        return "it must be at most 512 bytes"
    return _first_wrong(parts)


def path(text: str) -> str | None:
    """A `brg_path`: 0 to 16 segments joined by `/`, relative."""
    if not text:
        return None
    parts = text.split("/")
    if len(parts) > 16:
        return "it must be at most 16 segments joined by /"
    return _first_wrong(parts)


def tree_path(text: str) -> str | None:
    """The path of any folder of a group, a run or an acquisition below a mount point: 0 to 32 segments."""
    if not text:
        return None
    parts = text.split("/")
    if len(parts) > 32:
        return "it must be at most 32 segments joined by /"
    return _first_wrong(parts)


def _first_wrong(parts: list[str]) -> str | None:
    for part in parts:
        if wrong := folder(part):
            return f"its segment {part[:80]!r} is not allowed: {wrong}"
    return None


def run_pattern(text: str) -> str | None:
    """A `run_name`, in which one `{n}` or `{n:06}` may stand for a number."""
    if "{" not in text and "}" not in text:
        return folder(text)
    found = _NUMBERED.fullmatch(text)
    if not found:
        return "it may hold one {n}, or {n:0W} with a width W of 1 to 99, and no other braces"
    return folder(numbered(text, 1))


def split_numbered(text: str) -> tuple[str, str] | None:
    """The text before and after the `{n}` of a run's name; None when it has none."""
    found = _NUMBERED.fullmatch(text)
    return (found[1], found[3]) if found else None


def numbered(text: str, number: int) -> str:
    """The run's name with the number in place of its `{n}`: `r{n:03}` and 7 give `r007`."""
    found = _NUMBERED.fullmatch(text)
    if not found:
        return text
    return f"{found[1]}{str(number).zfill(int(found[2] or 1))}{found[3]}"


def param(text: str) -> str | None:
    """The name of a parameter or a variable."""
    if 1 <= len(text) <= 128 and text.isprintable() and text[0] != " " and text[-1] != " ":
        return None
    return "it must be 1 to 128 printable characters without a leading or trailing space"


def mount_point(text: str) -> str | None:
    if 1 <= len(text) <= 1024 and text.isprintable():
        return None
    return "it must be 1 to 1024 printable characters"


RULES: dict[str, Callable[[str], str | None]] = {
    "storage_id": token,
    "producer": token,
    "ns": token,
    "segment": segment,
    "run_name": folder,
    "run_pattern": run_pattern,
    "acq_name": acq_name,
    "brg_path": path,
    "tree_path": tree_path,
    "param": param,
    "mount_point": mount_point,
}


def value(given: object) -> str | None:
    """What is wrong with a parameter's value, its size aside: str, int of 64 bits, finite float, bool or nil."""
    if given is None or isinstance(given, (str, bool)):
        return None
    if isinstance(given, int):
        return None if INT64_MIN <= given <= INT64_MAX else "an int must fit 64 bits with its sign"
    if isinstance(given, float):
        return None if isfinite(given) else "a float must be finite"
    return "it must be a str, an int, a float, a bool or nil"


NUMBER_BYTES = 8


def value_bytes(given: Value) -> int:
    """What a value counts against `value_bytes` and `params_bytes`: its UTF-8, or 8 for a number, 1 otherwise."""
    if type(given) is str:
        return len(given) if given.isascii() else len(given.encode())
    return 1 if given is None or type(given) is bool else NUMBER_BYTES
