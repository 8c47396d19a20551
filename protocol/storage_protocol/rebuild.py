"""The command that makes the RunDB anew from the files beside the data (SPEC 4.8)."""

from __future__ import annotations

from typing import ClassVar

from . import arguments as a
from .specs import Command


class RebuildRundb(Command, frozen=True, kw_only=True):
    """Bring back into the RunDB what the marker files below a mount point tell of and it does not know."""

    CMD: ClassVar = "rebuild_rundb"
    MUTATING: ClassVar = True
    mp: a.MountPoint = "file:///"
    path: a.TreePath = ""
