"""How the configuration speaks of keys and types in its sentences."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec


def words(kind: Any) -> str:
    """A type in words: what would be right."""
    if kind is bool or kind is Path:
        return "true or false" if kind is bool else "the path of a folder"
    info = msgspec.inspect.type_info(kind)
    if not isinstance(info, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return "a text"
    noun = "an int" if isinstance(info, msgspec.inspect.IntType) else "a number"
    bounds = [
        f"{word} {bound}"
        for word, bound in (("above", info.gt), ("of at least", info.ge), ("at most", info.le))
        if bound is not None
    ]
    return f"{noun} {' and '.join(bounds)}" if bounds else noun


def nearest(key: str, known: list[str]) -> str:
    """The known key that a wrong one is most like."""
    return get_close_matches(key, known, n=1, cutoff=0.0)[0]


def quoted(name: str) -> str:
    """A name as TOML has it in a dotted key."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else msgspec.json.encode(name).decode()
