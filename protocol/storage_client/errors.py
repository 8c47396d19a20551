"""What can go wrong for a client: one class per refusal code (SPEC 2), and what no reply can tell.

Whose fault it is decides the class: a refusal is the service's answer and has a code of `storage_protocol.errors`;
the last classes here are the client's own, for an answer that never came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage_protocol.errors import Refusal


class StorageError(Exception):
    """Everything that this package raises.

    code     the refusal's code, or one of the client's own
    message  one sentence for a person
    details  for programs; which keys it has depends on the code
    """

    CODE = "error"

    def __init__(self, message: str, details: Mapping[str, Any] | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.CODE
        self.message = message
        self.details: dict[str, Any] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class RefusedError(StorageError):
    """The service said no, and changed nothing. A code without a class of its own is of a newer service."""


class BadRequestError(RefusedError):
    """A missing, unknown or mistyped field or argument; `details["field"]` where one is to blame."""

    CODE = "bad_request"


class UnsupportedVersionError(RefusedError):
    """The service speaks other versions of the protocol: `details["supported"]`."""

    CODE = "unsupported_version"


class UnknownCommandError(RefusedError):
    """There is no such command; `details["closest"]` is the nearest name, or None."""

    CODE = "unknown_command"


class InvalidNameError(RefusedError):
    """A name or a path that the rules for names do not allow: `details["field"]`, `details["rule"]`."""

    CODE = "invalid_name"


class NotFoundError(RefusedError):
    """There is no such thing: `details["what"]`, `details["id"]`."""

    CODE = "not_found"


class AlreadyExistsError(RefusedError):
    """It exists with other content, or belongs to another storage: `details["what"]`, `details["id"]`."""

    CODE = "already_exists"


class WrongStateError(RefusedError):
    """`details["what"]` `details["id"]` is in `details["state"]`, which has only `details["allowed"]`."""

    CODE = "wrong_state"


class ConflictError(RefusedError):
    """The key came before with another command or other arguments."""

    CODE = "conflict"


class KeyExpiredError(RefusedError):
    """The key is from before `details["forgotten_before"]`: whether it ran once is no longer known."""

    CODE = "key_expired"


class ForbiddenError(RefusedError):
    """This client may not do that: `details["needs"]`."""

    CODE = "forbidden"


class UnavailableError(RefusedError):
    """An outside party of the service failed; trying again is right. `details["reason"]`."""

    CODE = "unavailable"


class OverloadedError(RefusedError):
    """Too much was waiting until the deadline; `retry_after_s` seconds from now is a better time."""

    CODE = "overloaded"

    @property
    def retry_after_s(self) -> float:
        """Seconds to wait before the next try."""
        return seconds_to_wait(self.details)


class TooLargeError(RefusedError):
    """Over the limit `details["limit"]`."""

    CODE = "too_large"


class InternalError(RefusedError):
    """A defect of the service; its log has the traceback under `details["incident"]`."""

    CODE = "internal"


class ReplyTimeoutError(StorageError):
    """No answer until the deadline, though it was asked again: whether a command happened is not known.

    To find out, repeat it with the same key (`details["key"]`): it happens at most once.
    """

    CODE = "reply_timeout"


class ServiceUnreachableError(ReplyTimeoutError):
    """No answer until the deadline, and no other sign of the service either."""

    CODE = "service_unreachable"


class UnexpectedReplyError(StorageError):
    """An answer that this client does not understand: the service speaks another dialect."""

    CODE = "unexpected_reply"


class ClientClosedError(StorageError):
    """The client was closed before the answer came: whether a command happened is not known."""

    CODE = "client_closed"


class JournalChangedError(StorageError):
    """Behind the endpoint is another journal now, `details["journal_id"]`: its seq mean nothing to the old one."""

    CODE = "journal_changed"


class EventsForgottenError(StorageError):
    """The journal no longer has what comes after `details["after_seq"]`; it begins at `details["oldest_seq"]`."""

    CODE = "events_forgotten"


class MountError(StorageError):
    """A location has no place on this host: the table of mount points does not know it, or it cannot be used."""

    CODE = "mount"


class CursorFileError(StorageError):
    """The file of a cursor holds none, or cannot be read or written."""

    CODE = "cursor_file"


class SpoolError(StorageError):
    """The spool file cannot be read or written: what was to be put into it is not safe."""

    CODE = "spool"


class SpoolInUseError(SpoolError):
    """Another client has this spool file open, here or in another process: each needs one of its own."""

    CODE = "spool_in_use"


REFUSALS: dict[str, type[RefusedError]] = {each.CODE: each for each in RefusedError.__subclasses__()}
"""The class of each refusal code."""


def refused(refusal: Refusal) -> RefusedError:
    """The exception for a refusal."""
    kind = REFUSALS.get(refusal.code, RefusedError)
    return kind(refusal.message, refusal.details, refusal.code)


def seconds_to_wait(details: Mapping[str, Any]) -> float:
    """The `retry_after_s` of a refusal's details, between 10 ms and a minute; a second where there is none."""
    said = details.get("retry_after_s")
    return min(max(float(said), 0.01), 60.0) if isinstance(said, (int, float)) else 1.0
