"""The last gate before names become paths."""

from __future__ import annotations

from storage_service.rules.work import Fault


def check_segments(path: tuple[str, ...]) -> None:
    """The rules have checked every name long before; this is the last gate. A leading dot is the service's own.

    Raises `Fault`: `invalid_name`.
    """
    for name in path:
        if not name or name.startswith(".") or "/" in name or not name.isprintable():
            message = f"{name!r} cannot be a segment of a path: no empty ones, no leading dot, no slash."
            raise Fault("invalid_name", message, field="path", rule="segment")
