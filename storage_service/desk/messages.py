"""A command message on its way: its commands in order, and the reply message that it will have."""

from __future__ import annotations

from typing import NamedTuple

from storage_protocol import codec, commands, errors
from storage_protocol.codec import Rejected, Request
from storage_protocol.errors import Refusal
from storage_protocol.limits import REPLY_BYTES, Limits

ANYWHERE = "*"
"""The lane of a query that concerns no storage, or every storage."""

NOWHERE = ""
"""The lane of what reads no state, and so waits for nobody."""


class Message:
    """One message of one peer. `left` counts the commands that have no reply yet; `order` are those that wait, of
    which `next` has its turn: commands of one message are executed in order. `sizes`: bytes of each command frame.
    `room`: bytes that are left for the results of its replies; once it is spent, nothing more of it is done.
    `held`: bytes that count as its peer's while it waits: its waiting commands and the results that it has."""

    __slots__ = ("delimiter", "held", "left", "next", "order", "peer", "replies", "room", "sizes")

    def __init__(self, peer: bytes, delimiter: bool, sizes: list[int]) -> None:
        self.peer = peer
        self.delimiter = delimiter
        self.sizes = sizes
        self.replies: list[bytes] = [b""] * len(sizes)
        self.left = len(sizes)
        self.order: list[int] = []
        self.next = 0
        self.room = REPLY_BYTES
        self.held = 0

    def reply(self, index: int, frame: bytes) -> bool:
        """Keep the reply to one command; True when it was the last that was missing."""
        self.replies[index] = frame
        self.left -= 1
        return self.left == 0

    def passed(self) -> None:
        """The command whose turn it was is decided or answered."""
        if self.order:
            self.order.pop(0)
        self.next = self.order[0] if self.order else len(self.replies)

    def parts(self) -> list[bytes]:
        """The reply message as it is sent: the peer, its delimiter if it sent one, the reply frames."""
        return [self.peer, b"", *self.replies] if self.delimiter else [self.peer, *self.replies]


class Ticket:
    """One command of a message.

    lane         the storage that it concerns
    fingerprint  of the command and its arguments; computed for commands with a key
    size         bytes of its frame
    running      it is at work (a query with the reader, a command with a door, a repeat with its first)
    sealing      the acquisition that it waits for to be sealed, or None
    deadline     until when, in seconds of the monotonic clock
    """

    __slots__ = ("deadline", "fingerprint", "index", "lane", "message", "request", "running", "sealing", "size")

    def __init__(self, message: Message, index: int, request: Request) -> None:
        self.message = message
        self.index = index
        self.request = request
        stateless = isinstance(request.command, commands.Ping | commands.Describe)
        self.lane: str = NOWHERE if stateless else getattr(request.command, "storage_id", None) or ANYWHERE
        self.size = message.sizes[index]
        self.fingerprint = b""
        self.running = False
        self.deadline: float | None = None
        self.sealing: str | None = None


class Opened:
    """A received message whose commands are decoded in bites. One over the limits has one entry, which is refused,
    and none of it runs (SPEC 2). `size`: its bytes."""

    __slots__ = ("_frames", "_limits", "_next", "_refusal", "message", "size")

    def __init__(self, parts: list[bytes], limits: Limits) -> None:
        """The first part is the peer, then comes an optional delimiter, then the commands."""
        delimiter = len(parts) > 1 and parts[1] == b""
        self._frames = parts[2:] if delimiter else parts[1:]
        self._limits = limits
        self.size = sum(map(len, self._frames))
        self._next = 0
        self._refusal = _refused_whole(self._frames, limits)
        sizes = [0] if self._refusal is not None else list(map(len, self._frames))
        self.message = Message(parts[0], delimiter, sizes)

    @property
    def left(self) -> int:
        """Entries that were in no bite yet."""
        return len(self.message.sizes) - self._next

    def bite(self, most: int) -> Bite:
        """The next commands, at most so many."""
        first, self._next = self._next, min(self._next + most, len(self.message.sizes))
        if self._refusal is not None:
            return Bite(self.message, first, [Rejected(None, self._refusal)])
        frames = self._frames[first : self._next]
        return Bite(self.message, first, [codec.decode_command(frame, self._limits) for frame in frames])


class Bite(NamedTuple):
    """Decoded commands of a message, or why one cannot be; `first`: the place of the first one in its message."""

    message: Message
    first: int
    requests: list[Request | Rejected]


def open_message(parts: list[bytes], limits: Limits) -> Bite:
    """A received message, all of it decoded at once."""
    opened = Opened(parts, limits)
    return opened.bite(opened.left)


def _refused_whole(frames: list[bytes], limits: Limits) -> Refusal | None:
    if not frames:
        return errors.bad_request("The message has no command frame; it must have at least one.")
    if len(frames) > limits.frames_per_message:
        message = f"The message has {len(frames)} command frames; {limits.frames_per_message} are the most."
        return errors.too_large("frames_per_message", limits.frames_per_message, message)
    size = sum(map(len, frames))
    if size > limits.message_bytes:
        message = f"The message has {size} bytes; {limits.message_bytes} are the most."
        return errors.too_large("message_bytes", limits.message_bytes, message)
    return None
