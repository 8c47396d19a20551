"""A command message on its way: its commands in order, and the reply message that it will have."""

from __future__ import annotations

from msgspec import Struct, field

from storage_protocol import codec, commands, errors
from storage_protocol.codec import Rejected
from storage_protocol.errors import Refusal
from storage_protocol.limits import REPLY_BYTES, Limits
from storage_protocol.plain import Request

ANYWHERE = "*"
"""The lane of a query that concerns no storage, or every storage."""

NOWHERE = ""
"""The lane of what reads no state, and so waits for nobody."""

_STATELESS = (commands.Ping, commands.Describe)


# These are Structs for their price: one of each is made for nearly every command. They are themselves, not values.


class Message(Struct, eq=False):
    """One message of one peer. `left` counts the commands that have no reply yet; `order` are those that wait, of
    which `next` has its turn: commands of one message are executed in order. `sizes`: bytes of each command frame.
    `room`: bytes that are left for the results of its replies; once it is spent, nothing more of it is done.
    `held`: bytes that count as its peer's while it waits: its waiting commands and the results that it has."""

    peer: bytes
    delimiter: bool
    sizes: list[int]
    replies: list[bytes]
    left: int
    room: int
    order: list[int] = field(default_factory=list)
    next: int = 0
    held: int = 0

    @classmethod
    def of(cls, peer: bytes, delimiter: bool, sizes: list[int]) -> Message:
        """A message without any reply yet."""
        return cls(peer, delimiter, sizes, [b""] * len(sizes), len(sizes), REPLY_BYTES)

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


class Ticket(Struct, eq=False):
    """One command of a message.

    lane         the storage that it concerns
    fingerprint  of the command and its arguments; computed for commands with a key
    size         bytes of its frame
    running      it is at work (a query with the reader, a command with a door, a repeat with its first)
    sealing      the acquisition that it waits for to be sealed, or None
    deadline     until when, in seconds of the monotonic clock
    """

    message: Message
    index: int
    request: Request
    lane: str
    size: int
    fingerprint: bytes = b""
    running: bool = False
    deadline: float | None = None
    sealing: str | None = None

    @classmethod
    def of(cls, message: Message, index: int, request: Request) -> Ticket:
        """The ticket of the message's command at this place."""
        lane = getattr(request.command, "storage_id", None)
        if not lane:
            lane = NOWHERE if type(request.command) in _STATELESS else ANYWHERE
        return cls(message, index, request, lane, message.sizes[index])


class Opened:
    """A received message whose commands are decoded in bites. One over the limits has one entry, which is refused,
    and none of it runs (SPEC 2). `size`: its bytes; `left`: entries that were in no bite yet."""

    __slots__ = ("_frames", "_limits", "_refusal", "left", "message", "size")

    def __init__(self, parts: list[bytes], limits: Limits) -> None:
        """The first part is the peer, then comes an optional delimiter, then the commands."""
        delimiter = len(parts) > 1 and not parts[1]
        self._frames = parts[2:] if delimiter else parts[1:]
        self._limits = limits
        sizes = list(map(len, self._frames))
        self.size = sum(sizes)
        self._refusal: Refusal | None = None
        if not (0 < len(sizes) <= limits.frames_per_message and self.size <= limits.message_bytes):
            self._refusal, sizes = _refused_whole(len(sizes), self.size, limits), [0]
        self.left = len(sizes)
        self.message = Message.of(parts[0], delimiter, sizes)

    def bite(self, most: int, most_bytes: int) -> tuple[Bite, int]:
        """The next commands, at most so many, until they have so many bytes; and how many they have."""
        sizes, decode, limits = self.message.sizes, codec.decode_command, self._limits
        if self.left == len(sizes) <= most and self.size <= most_bytes and self._refusal is None:
            self.left = 0
            return Bite(self.message, 0, [decode(frame, limits) for frame in self._frames]), self.size
        first = len(sizes) - self.left
        end = min(first + most, len(sizes))
        size = sum(sizes[first:end])
        if size > most_bytes:
            end, size = first, 0
            while size < most_bytes:
                size += sizes[end]
                end += 1
        self.left = len(sizes) - end
        if self._refusal is not None:
            return Bite(self.message, first, [Rejected(None, self._refusal)]), size
        return Bite(self.message, first, [decode(frame, limits) for frame in self._frames[first:end]]), size

    def refused(self, refusal: Refusal) -> list[bytes]:
        """The reply message when nothing of it is taken: each command is refused, in its place."""
        if self._refusal is not None:
            self.message.replies = [codec.encode_refusal(None, self._refusal)]
        else:
            self.message.replies = codec.encode_refusals(self._frames, refusal)
        return self.message.parts()


class Bite(Struct, frozen=True):
    """Decoded commands of a message, or why one cannot be; `first`: the place of the first one in its message."""

    message: Message
    first: int
    requests: list[Request | Rejected]


def open_message(parts: list[bytes], limits: Limits) -> Bite:
    """A received message, all of it decoded at once."""
    opened = Opened(parts, limits)
    return opened.bite(opened.left, opened.size + 1)[0]


def _refused_whole(frames: int, size: int, limits: Limits) -> Refusal:
    """Why a message with so many command frames and bytes is refused, which it is."""
    if not frames:
        return errors.bad_request("The message has no command frame; it must have at least one.")
    if frames > limits.frames_per_message:
        message = f"The message has {frames} command frames; {limits.frames_per_message} are the most."
        return errors.too_large("frames_per_message", limits.frames_per_message, message)
    message = f"The message has {size} bytes; {limits.message_bytes} are the most."
    return errors.too_large("message_bytes", limits.message_bytes, message)
