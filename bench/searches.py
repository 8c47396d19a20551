"""Searches of a filled store: the first page of `find_nodes`, and how long it takes."""

import time
from collections.abc import Callable
from typing import Any

from bench.filling import CLASSES
from bench.measured import LoadError
from bench.service import Service

# By the values of bench/filling.py: class_0 is the number of the acquisition modulo CLASSES, class_1 one more.
KINDS: dict[str, Callable[[int], dict[str, Any]]] = {
    "1 % match": lambda n: {"class_0": n % CLASSES},
    "none match": lambda n: {"class_0": CLASSES + n},
    "none match, of two halves": lambda n: {
        "class_0": {"lt": CLASSES // 2},
        "class_1": {"gt": CLASSES // 2 + n % (CLASSES // 10)},
    },
}


def asked_ms(service: Service, times: int, acquisitions: int) -> dict[str, list[float]]:
    """What each kind of search took in milliseconds, each so many times, one search after the other.

    Raises StartError when the service does not answer, LoadError when it finds what it should not.
    """
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(times):
        for kind, where in KINDS.items():
            start = time.perf_counter()
            nodes = service.ask("find_nodes", where=where(number))["nodes"]
            took[kind].append((time.perf_counter() - start) * 1e3)
            if bool(nodes) is not (kind == "1 % match" and acquisitions >= CLASSES):
                raise LoadError(f"find_nodes where {where(number)} finds {len(nodes)} of {acquisitions}")
    return took
