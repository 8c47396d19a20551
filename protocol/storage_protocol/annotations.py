"""The commands of what is noted of a node after the fact (SPEC 4.4)."""

from __future__ import annotations

from typing import ClassVar

from . import arguments as a
from .specs import Command


class AnnotateNode(Command, frozen=True, kw_only=True):
    """Note something of a run or an acquisition, at any time: its quality, or a comment."""

    CMD: ClassVar = "annotate_node"
    MUTATING: ClassVar = True
    node_id: a.Id
    name: a.ParamName
    value: a.AnyValue
    author: a.Short = ""


class ListAnnotations(Command, frozen=True, kw_only=True):
    """All that was noted of a node, newest first."""

    CMD: ClassVar = "list_annotations"
    node_id: a.Id
    limit: a.PageSize = 100
    cursor: a.Cursor | None = None
