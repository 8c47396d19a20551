"""One command on its way: from the call that asked it to its answer, over as many attempts as that takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from storage_protocol import PROTOCOL_VERSION, codec
from storage_protocol.commands import Command

from .errors import BadRequestError, ReplyTimeoutError, ServiceUnreachableError, StorageError
from .patience import pause

Encode = Callable[[int, str | None], bytes]

# Each further attempt waits twice as long, up to this many times the first: a service in trouble is not hammered.
_MOST_PATIENCE = 4


class Asked:
    """A command that waits for its answer. Times are of the loop's clock, in seconds.

    keyed       it carries an idempotency key; `key` is None until the first attempt makes one
    sent_at     when the newest attempt was handed to the socket
    patience_s  for how long that attempt waits before the next one
    not_before  when the next attempt is due, after the service was overloaded
    """

    __slots__ = (
        "_encode",
        "attempts",
        "began_at",
        "deadline",
        "frame",
        "future",
        "id",
        "key",
        "keyed",
        "not_before",
        "patience_s",
        "sent_at",
        "timeout_s",
    )

    def __init__(
        self,
        id: int,
        encode: Encode,
        future: asyncio.Future[Any],
        began_at: float,
        timeout_s: float,
        deadline_s: float | None,
        keyed: bool,
        key: str | None,
    ) -> None:
        self.id = id
        self._encode = encode
        self.future = future
        self.began_at = began_at
        self.timeout_s = timeout_s
        self.deadline = float("inf") if deadline_s is None else began_at + deadline_s
        self.keyed = keyed
        self.key = key
        self.frame = b""
        self.attempts = 0
        self.sent_at = began_at
        self.patience_s = timeout_s
        self.not_before = 0.0

    @property
    def done(self) -> bool:
        """Answered, failed, or given up by who asked."""
        return self.future.done()

    def prepare(self, new_key: Callable[[], str]) -> bool:
        """Make the frame, once: every attempt sends the same bytes. False when it cannot be made."""
        if not self.frame:
            if self.keyed and self.key is None:
                self.key = new_key()
            try:
                self.frame = encode_frame(self._encode, self.id, self.key)
            except BadRequestError as error:
                self.fail(error)
                return False
        return True

    def went_out(self, now: float) -> None:
        """Another attempt was handed to the socket."""
        self.sent_at = now
        self.attempts += 1
        self.patience_s = pause(self.attempts, self.timeout_s, self.timeout_s * _MOST_PATIENCE)

    def overdue(self, now: float) -> bool:
        """Whether the newest attempt has waited long enough."""
        return now - self.sent_at >= self.patience_s

    def answer(self, result: Any) -> None:
        """Give the result to who asked, if they still wait."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: StorageError) -> None:
        """Raise the error where it was asked, if they still wait."""
        if not self.future.done():
            self.future.set_exception(error)

    def expire(self, now: float, heard_at: float, endpoint: str) -> None:
        """The deadline has passed without an answer; `heard_at`: when anything last came from the service."""
        waited = now - self.began_at
        details = {"key": self.key, "attempts": self.attempts}
        if heard_at < self.began_at:
            self.fail(
                ServiceUnreachableError(f"No storage service answered at {endpoint} in {waited:.1f} s.", details)
            )
        else:
            message = (
                f"The storage service at {endpoint} gave no answer in {waited:.1f} s, though it was asked "
                f"{self.attempts} times; whether the command happened is not known."
            )
            self.fail(ReplyTimeoutError(message, details))


def encode_frame(encode: Encode, id: int, key: str | None) -> bytes:
    """A command's frame. Raises BadRequestError when an argument is nothing that can be sent."""
    try:
        return encode(id, key)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequestError(f"An argument cannot be sent: {error}.") from None


def encoder(command: Command) -> Encode:
    """The frames of a command of the table."""
    return lambda id, key: codec.encode_command(id, command, key)


def raw_encoder(cmd: str, args: dict[str, Any]) -> Encode:
    """The frames of a command as it is given, whether the table knows it or not."""

    def encode(id: int, key: str | None) -> bytes:
        envelope: dict[str, Any] = {"v": PROTOCOL_VERSION, "id": id, "cmd": cmd, "args": args}
        return codec.encode_value(envelope if key is None else envelope | {"key": key})

    return encode
