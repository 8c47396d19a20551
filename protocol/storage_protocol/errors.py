"""Refusals: the closed list of codes by which a command is told no (SPEC 2)."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from msgspec import Struct, field

BAD_REQUEST = "bad_request"
UNSUPPORTED_VERSION = "unsupported_version"
UNKNOWN_COMMAND = "unknown_command"
INVALID_NAME = "invalid_name"
NOT_FOUND = "not_found"
ALREADY_EXISTS = "already_exists"
WRONG_STATE = "wrong_state"
CONFLICT = "conflict"
KEY_EXPIRED = "key_expired"
FORBIDDEN = "forbidden"
UNAVAILABLE = "unavailable"
OVERLOADED = "overloaded"
TOO_LARGE = "too_large"
INTERNAL = "internal"

CODES: dict[str, str] = {
    BAD_REQUEST: "not msgpack, not a map, or a missing, unknown or mistyped field or argument",
    UNSUPPORTED_VERSION: "the protocol version is not one that the service speaks",
    UNKNOWN_COMMAND: "there is no such command",
    INVALID_NAME: "a name or a path that the rules for names do not allow",
    NOT_FOUND: "the storage, run, acquisition, conversion, variable, mount point or RunDB node does not exist",
    ALREADY_EXISTS: "it exists with other content, or belongs to another storage",
    WRONG_STATE: "the state machine has no such transition here",
    CONFLICT: "the same key came with another command or other arguments",
    KEY_EXPIRED: "the key is older than the oldest that is remembered, and is never run again",
    FORBIDDEN: "this client may not do that",
    UNAVAILABLE: "a mount point, the disk, the database or another outside party failed; try again",
    OVERLOADED: "too much is waiting; nothing was changed",
    TOO_LARGE: "over a limit",
    INTERNAL: "a defect of the service; nothing was changed",
}


class Refusal(Struct, frozen=True):
    """A reply that says no.

    code     one of `CODES`
    message  one sentence for a person: what is wrong, with the offending value, and what would be right
    details  for programs; which keys it has depends on the code (SPEC 2)
    """

    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)


def shown(value: object, width: int = 80) -> str:
    """A value as a message quotes it: control characters escaped, cut after `width` characters."""
    if isinstance(value, (str, bytes)) and len(value) > width:
        return repr(value[:width]) + "..."
    text = repr(value)
    return text if len(text) <= width else text[:width] + "..."


def bad_request(message: str, field: str | None = None) -> Refusal:
    return Refusal(BAD_REQUEST, message, {} if field is None else {"field": field})


def unsupported_version(version: int, supported: int) -> Refusal:
    message = f"Protocol version {version} is not spoken here; this service speaks version {supported}."
    return Refusal(UNSUPPORTED_VERSION, message, {"supported": [supported]})


def unknown_command(name: str, known: Iterable[str]) -> Refusal:
    closest = next(iter(get_close_matches(name[:128], list(known), n=1, cutoff=0.5)), None)
    hint = f"did you mean {closest}?" if closest else "describe lists the commands."
    return Refusal(UNKNOWN_COMMAND, f"There is no command {shown(name)}; {hint}", {"closest": closest})


def invalid_name(field: str, rule: str, message: str) -> Refusal:
    return Refusal(INVALID_NAME, message, {"field": field, "rule": rule})


def not_found(what: str, id: str, message: str = "") -> Refusal:
    return Refusal(NOT_FOUND, message or f"There is no {what} {shown(id)}.", {"what": what, "id": id[:512]})


def already_exists(what: str, id: str, message: str) -> Refusal:
    return Refusal(ALREADY_EXISTS, message, {"what": what, "id": id})


def wrong_state(what: str, id: str, state: str, allowed: Iterable[str], message: str) -> Refusal:
    details = {"what": what, "id": id, "state": state, "allowed": sorted(allowed)}
    return Refusal(WRONG_STATE, message, details)


def conflict(key: str) -> Refusal:
    message = f"The key {shown(key)} came before with another command or other arguments; use a fresh key."
    return Refusal(CONFLICT, message)


def key_expired(key: str, forgotten_before: str) -> Refusal:
    message = (
        f"The key {shown(key)} was made before {forgotten_before}, from when keys are no longer remembered; "
        "it is not run again."
    )
    return Refusal(KEY_EXPIRED, message, {"forgotten_before": forgotten_before})


def unavailable(reason: str, message: str) -> Refusal:
    return Refusal(UNAVAILABLE, message, {"reason": reason})


def overloaded(retry_after_s: float, message: str) -> Refusal:
    return Refusal(OVERLOADED, message, {"retry_after_s": retry_after_s})


def too_large(limit: str, maximum: int, message: str) -> Refusal:
    return Refusal(TOO_LARGE, message, {"limit": limit, "maximum": maximum})


def internal(incident: str) -> Refusal:
    message = f"The service has a defect; nothing was changed. Its log has the traceback under {incident}."
    return Refusal(INTERNAL, message, {"incident": incident})
