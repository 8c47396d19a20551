"""What clients read from the store: one record, a page of a list, a search, a replay (SPEC 4).

A read is one snapshot, BEGIN to END, so that a list and its `last_seq` agree. The records are rendered by
`rules/render.py`, where replies and events get theirs.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import apsw
import msgspec
from msgspec import Meta, Raw

from storage_protocol import commands as c
from storage_protocol import errors
from storage_protocol.errors import Refusal
from storage_protocol.limits import REPLY_BYTES
from storage_protocol.names import INT64_MAX
from storage_protocol.records import Node as NodeRecord

from ..rules import render
from ..rules.state import Acq, Group, Node, Places, Run
from ..rules.storages import ROOT
from .replay import Replay
from .rows import decode_conversion, decode_node, decode_storage, encode, value_of
from .search import NEWEST, Key, Search, Sizes, refused
