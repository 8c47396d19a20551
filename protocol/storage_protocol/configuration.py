"""The command of what is saved beside the data as the configuration of an acquisition (SPEC 4.3)."""

from __future__ import annotations

from typing import ClassVar

from . import arguments as a
from .specs import Command

DOCUMENT_BYTES = 960 << 10
"""The largest document that can be handed in: with its command it has to fit a frame of 1 MiB."""


class SetConfig(Command, frozen=True, kw_only=True):
    """Hand in the configuration that is saved beside every later acquisition of a storage; nil takes it back."""

    CMD: ClassVar = "set_config_storage"
    MUTATING: ClassVar = True
    storage_id: a.StorageId
    document: a.Document
    name: a.GroupName = "config.xml"
