"""One command that changes something, on its way through the outbox: directly, or by way of the spool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from storage_protocol import codec
from storage_protocol.limits import Limits

from .asked import Asked, Encode, encode_frame
from .errors import OverloadedError, ReplyTimeoutError, UnavailableError, refused
from .spool import Draft

NO_ANSWER = (ReplyTimeoutError, UnavailableError, OverloadedError)
"""What is no answer to a command: to ask it again, with the same key, is right."""


class Outgoing:
    """A command between its caller and the outbox. Times are of the loop's clock, in seconds.

    key         the caller's own, if any
    patience_s  for how long the caller waits for an answer before the spool's receipt has to do
    future      what the caller awaits
    asked       the direct attempt, where there was one
    kept_at     when it was put into the spool
    receipt     when the caller is given the receipt
    """

    def __init__(self, encode: Encode, key: str | None, patience_s: float) -> None:
        self._encode = encode
        self._key = key
        self.patience_s = patience_s
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked: Asked | None = None
        self.kept_at = 0.0
        self.receipt: asyncio.TimerHandle | None = None

    def give(self, result: Any) -> None:
        """Let the caller go on with this."""
        self._stop_waiting()
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Raise this where it was asked."""
        self._stop_waiting()
        if not self.future.done():
            self.future.set_exception(error)

    def conclude(self) -> bool:
        """Hand on the answer to the direct attempt. False when there is none."""
        if self.asked is None or not self.asked.future.done() or self.asked.future.cancelled():
            return False
        error = self.asked.future.exception()
        if isinstance(error, NO_ANSWER):
            return False
        if error is None:
            self.give(self.asked.future.result())
        else:
            self.fail(error)
        return True

    def draft(self, new_key: Callable[[], str]) -> Draft:
        """The command as it is spooled, with the key that it was asked with, and asked no more directly.

        Raises what the service would refuse it with, where that is certain: a class of `errors.REFUSALS`.
        """
        key = self._key
        if self.asked is not None:
            key = key or self.asked.key
            self.asked.future.cancel()
        key = key or new_key()
        frame = encode_frame(self._encode, 0, key)
        read = codec.decode_command(frame, Limits())
        if isinstance(read, codec.Rejected):
            raise refused(read.refusal)
        envelope = msgspec.msgpack.decode(frame)
        return Draft(envelope["cmd"], envelope["args"], key)

    def _stop_waiting(self) -> None:
        if self.receipt is not None:
            self.receipt.cancel()
