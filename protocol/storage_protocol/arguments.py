"""The types of arguments: what `describe` calls them, which rule of SPEC 3 they keep, how they are read.

A type is an annotation with a `Meta`: its `description` is the name that `describe` and refusals use, and its
`extra` may hold `rule` (a name in `names.RULES`), `read` (brings other accepted forms into one, before the type
is checked), `integer` and `where`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from . import names, times

MAX_COUNT = 1_000_000
MAX_SECONDS = 366 * 86_400


def _flag(raw: object) -> object:
    """Pyrame says 0 and 1 for no and yes."""
    return bool(raw) if type(raw) is int and raw in (0, 1) else raw


def _names(raw: object) -> object:
    """Pyrame gives a list as one text with commas."""
    return [part.strip() for part in raw.split(",") if part.strip()] if isinstance(raw, str) else raw


def _document(raw: object) -> object:
    """A text is kept as its UTF-8."""
    return raw.encode() if isinstance(raw, str) else raw


def _time(raw: object) -> object:
    if not isinstance(raw, str):
        return raw
    return times.to_wire(times.from_wire(raw))


StorageId = Annotated[str, Meta(description="storage_id", extra={"rule": "storage_id"})]
ProducerName = Annotated[str, Meta(description="producer", extra={"rule": "producer"})]
ProducerNames = Annotated[tuple[str, ...], Meta(description="list of producer", extra={"rule": "producer"})]
Namespace = Annotated[str, Meta(description="ns", extra={"rule": "ns"})]
GroupName = Annotated[str, Meta(description="segment", extra={"rule": "segment"})]
RunName = Annotated[str, Meta(description="run_name", extra={"rule": "run_name"})]
RunPattern = Annotated[str, Meta(description="run_name, may hold {n}", extra={"rule": "run_pattern"})]
AcqName = Annotated[str, Meta(description="acq_name", extra={"rule": "acq_name"})]
GroupPath = Annotated[str, Meta(description="brg_path", extra={"rule": "brg_path"})]
TreePath = Annotated[str, Meta(description="tree_path", extra={"rule": "tree_path"})]
MountPoint = Annotated[str, Meta(description="mount point", extra={"rule": "mount_point"})]
ParamName = Annotated[str, Meta(description="param", extra={"rule": "param"})]
Params = Annotated[
    dict[str, str | int | float | bool | None],
    Meta(description="map of param to value", extra={"rule": "param", "values": True}),
]
Summary = Annotated[
    dict[str, str | int | float | bool | None],
    Meta(description="map of at most 32 values", extra={"rule": "param", "values": True}),
]
AnyValue = Annotated[str | int | float | bool | None, Meta(description="value", extra={"values": True})]
Delta = Annotated[int | float, Meta(description="int or float", extra={"values": True})]
Document = Annotated[
    bytes | None, Meta(description="str or bin of at most 983040 bytes, or nil", extra={"read": _document})
]
Short = Annotated[str, Meta(description="str of at most 128 characters", max_length=128)]
Where = Annotated[
    dict[str, Any], Meta(description="map of param to a value or a map of comparisons", extra={"where": True})
]
Id = Annotated[str, Meta(description="id", max_length=2048)]
Text = Annotated[str, Meta(description="str of at most 65536 characters", max_length=65536)]
Flag = Annotated[bool, Meta(description="bool, or 0 or 1", extra={"read": _flag})]
Bool = Annotated[bool, Meta(description="bool")]
Names = Annotated[
    tuple[str, ...], Meta(description="list of str, or one comma-separated str", extra={"read": _names})
]
Seconds = Annotated[float, Meta(description="seconds > 0", gt=0, le=MAX_SECONDS)]
Count = Annotated[int, Meta(description="int >= 0", ge=0, le=MAX_COUNT, extra={"integer": True})]
Segment = Annotated[int, Meta(description="int >= 1", ge=1, le=names.INT64_MAX, extra={"integer": True})]
Seq = Annotated[int, Meta(description="int >= 0", ge=0, le=names.INT64_MAX, extra={"integer": True})]
Age = Annotated[float, Meta(description="seconds, int or float >= 0", ge=0, le=1e10)]
PageSize = Annotated[int, Meta(description="int from 1 to 10000", ge=1, le=10_000, extra={"integer": True})]
Cursor = Annotated[str, Meta(description="cursor of the page before", max_length=4096)]
Time = Annotated[str, Meta(description="RFC 3339 time", extra={"read": _time})]
Mode = Annotated[Literal["append", "remove"], Meta(description='"append" or "remove"')]
NodeKind = Annotated[Literal["group", "run", "acq"], Meta(description='"group", "run" or "acq"')]
AcqState = Annotated[Literal["open", "finished", "aborted"], Meta(description='"open", "finished" or "aborted"')]
Verdict = Annotated[Literal["complete", "partial"], Meta(description='"complete" or "partial"')]
ConversionState = Annotated[
    Literal["queued", "running", "succeeded", "failed", "cancelled"],
    Meta(description='"queued", "running", "succeeded", "failed" or "cancelled"'),
]
Topics = Annotated[tuple[str, ...], Meta(description="list of topic prefixes")]
ElogServer = Annotated[
    str, Meta(description="str of 1 to 1024 printable characters", pattern=r"\A[^\x00-\x1f\x7f]{1,1024}\Z")
]
ElogName = Annotated[
    str,
    Meta(
        description="str of 1 to 128 printable characters without /, not . or ..",
        pattern=r"\A(?!\.{1,2}\Z)[^\x00-\x1f\x7f/]{1,128}\Z",
    ),
]
