"""A command message on its way: its commands in order, and the reply message that it will have."""

from __future__ import annotations

from storage_protocol import codec, commands, errors
from storage_protocol.codec import Rejected, Request
from storage_protocol.errors import Refusal
from storage_protocol.limits import Limits

ANYWHERE = "*"
"""The lane of a query that concerns no storage, or every storage."""

NOWHERE = ""
"""The lane of what reads no state, and so waits for nobody."""


class Message:
    """One message of one peer. `left` counts the commands that have no reply yet; `order` are those that wait, of
    which `next` has its turn: commands of one message are executed in order."""

    __slots__ = ("delimiter", "left", "next", "order", "peer", "replies")

    def __init__(self, peer: bytes, delimiter: bool, count: int) -> None:
        self.peer = peer
        self.delimiter = delimiter
        self.replies: list[bytes] = [b""] * count
        self.left = count
        self.order: list[int] = []
        self.next = 0

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
    running      it is at work (a query with the reader, a command with a door, a repeat with its first)
    sealing      the acquisition that it waits for to be sealed, or None
    deadline     until when, in seconds of the monotonic clock
    """

    __slots__ = ("deadline", "fingerprint", "index", "lane", "message", "request", "running", "sealing")

    def __init__(self, message: Message, index: int, request: Request) -> None:
        self.message = message
        self.index = index
        self.request = request
        stateless = isinstance(request.command, commands.Ping | commands.Describe)
        self.lane: str = NOWHERE if stateless else getattr(request.command, "storage_id", None) or ANYWHERE
        self.fingerprint = b""
        self.running = False
        self.deadline: float | None = None
        self.sealing: str | None = None


def open_message(parts: list[bytes], limits: Limits) -> tuple[Message, list[Request | Rejected]]:
    """A received message, decoded: the first part is the peer, then an optional delimiter, then commands.

    A message over the limits has one entry, which is refused, and none of it runs (SPEC 2).
    """
    delimiter = len(parts) > 1 and parts[1] == b""
    frames = parts[2:] if delimiter else parts[1:]
    refusal = _refused_whole(frames, limits)
    requests: list[Request | Rejected]
    if refusal is not None:
        requests = [Rejected(None, refusal)]
    else:
        requests = [codec.decode_command(frame, limits) for frame in frames]
    return Message(parts[0], delimiter, len(requests)), requests


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
