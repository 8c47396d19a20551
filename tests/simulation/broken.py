"""A promise that was not kept."""

from __future__ import annotations


class Broken(AssertionError):
    """`what` is `lost`, `doubled`, `wrong` or `waits`; the message says the rest."""

    def __init__(self, what: str, message: str) -> None:
        super().__init__(f"{what}: {message}")
        self.what = what


def must(holds: object, what: str, message: str, *shown: object) -> None:
    """Raise Broken unless it holds. `shown` is put behind the message, only then."""
    if not holds:
        raise Broken(what, " | ".join([message, *(repr(each) for each in shown)]))
