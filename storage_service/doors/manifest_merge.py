"""Several manifests of one folder read as one: the newest that has a path tells what is there."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import TypeVar

from .manifest_format import Entry

T = TypeVar("T")
U = TypeVar("U")


def newest(manifests: Iterable[Iterable[Entry]]) -> Iterator[tuple[Entry, Entry | None]]:
    """Each path once, with its entry in the last manifest that has it, and the one in the manifest before that.

    The manifests are given oldest first.
    """
    ranked = [_ranked(entries, rank) for rank, entries in enumerate(manifests)]
    before: Entry | None = None
    last: Entry | None = None
    for _, _, each in heapq.merge(*ranked, key=lambda item: item[:2]):
        if last is not None and each.raw == last.raw:
            before, last = last, each
            continue
        if last is not None:
            yield last, before
        before, last = None, each
    if last is not None:
        yield last, before


def _ranked(entries: Iterable[Entry], rank: int) -> Iterator[tuple[bytes, int, Entry]]:
    for each in entries:
        yield each.raw, rank, each


def side_by_side(
    left: Iterable[tuple[bytes, T]], right: Iterable[tuple[bytes, U]]
) -> Iterator[tuple[bytes, T | None, U | None]]:
    """Two streams in the order of their keys, joined: each key once, with what either has of it."""
    one, other = iter(left), iter(right)
    at, beside = next(one, None), next(other, None)
    while at is not None or beside is not None:
        if beside is None or (at is not None and at[0] < beside[0]):
            if at is not None:
                yield at[0], at[1], None
            at = next(one, None)
        elif at is None or beside[0] < at[0]:
            yield beside[0], None, beside[1]
            beside = next(other, None)
        else:
            yield at[0], at[1], beside[1]
            at, beside = next(one, None), next(other, None)
