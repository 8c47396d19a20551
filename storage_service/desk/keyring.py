"""Idempotency keys: which are new, which are at work, which must be looked up (SPEC 5).

Looking up every key before its command would cost more than the command. A UUIDv7 that is younger than every key
ever stored cannot be in the database; so the keys of this life are remembered in memory down to a watermark, and
only an older key, or one of another form, is looked up. Nothing is ever guessed: when in doubt, look it up.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec
from msgspec import Struct, field

from storage_protocol import errors
from storage_protocol.commands import COMMANDS, Command
from storage_protocol.errors import Refusal
from storage_protocol.keys import uuid7_ms
from storage_protocol.times import to_wire

from .messages import Ticket
from .recent_keys import RecentKeys

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
RECENT_KEYS = 50_000
# A day: the least for which a key is remembered.
FRESH_MS = 86_400_000
# A clock that is further ahead than this, in seconds, is wrong; a client's own is never quite the service's.
AHEAD_S = 3600.0
_NAMES = {spec.command: spec.command.CMD.encode() for spec in COMMANDS.values()}


def fingerprint(command: Command) -> bytes:
    """16 bytes that are the same for the same command with the same arguments, defaults filled in."""
    return blake2b(_NAMES[type(command)] + _encode(command), digest_size=16).digest()


def _is_fresh(ms: int, wall: float) -> bool:
    """Whether a key was made with the service's clock, lately: then it was never forgotten, whatever the clock
    said before. Else a clock that was ahead for a while would have all commands refused until that time comes."""
    return abs(ms - wall * 1000) < FRESH_MS


def last_to_forget(before: float) -> int:
    """The newest UUIDv7, in milliseconds since 1970, that may be forgotten with what was stored before this time
    (seconds since 1970, by the host's clock).

    Forgetting a UUIDv7 refuses all older ones for good. One that was dated far ahead of the clock therefore stays
    until its own time has come, or fresh keys would be refused up to that time.
    """
    return int((before + AHEAD_S) * 1000)


def may_be_forgotten(key: str, up_to_ms: int) -> bool:
    """Whether a key is dated no later than this, or not dated at all."""
    return (uuid7_ms(key) or 0) <= up_to_ms


class Remembered(Struct, frozen=True):
    """A key as the database has it: the command's fingerprint and the reply's result (msgpack)."""

    fingerprint: bytes
    result: bytes


class LookUp(Struct, frozen=True):
    """The answer that there is no answer yet."""


LOOK_UP = LookUp()


class AtWork(Struct, eq=False):
    """A key whose first command has no durable reply yet, and the repeats that wait for it. `ms`: the key's time,
    in milliseconds since 1970, 0 when it is no UUIDv7."""

    fingerprint: bytes
    ms: int
    repeats: list[Ticket] = field(default_factory=list)


class Keyring:
    """
    watermark_ms   the time of the newest UUIDv7 key that may be in the database without being in memory
    forgotten_ms   the time of the newest UUIDv7 key that was forgotten: older ones never run again; 0: none
    ahead          keys in the database that are dated after the watermark
    """

    def __init__(self, watermark_ms: int, forgotten_ms: int, ahead: Iterable[str] = ()) -> None:
        self.watermark_ms = watermark_ms
        self.forgotten_ms = forgotten_ms
        self.newest_ms = watermark_ms
        self.at_work: dict[str, AtWork] = {}
        self._recent = RecentKeys()
        for key in ahead:
            self._recent.add(key, uuid7_ms(key) or 0)
        self._looked_up: dict[str, Remembered | None] = {}
        self._asked: set[str] = set()
        self._expiring_ms = 0
        self._in_doubt: set[str] = set()

    def before(self, key: str, fingerprint: bytes, wall: float) -> AtWork | Remembered | Refusal | LookUp | None:
        """What came before with this key: the first command at work, its reply, why it cannot be had, or nothing.

        LOOK_UP when only the database can tell. `wall`: seconds since 1970, as the host's clock says.
        """
        first = self.at_work.get(key)
        if first is not None:
            return first if first.fingerprint == fingerprint else errors.conflict(key)
        ms = uuid7_ms(key)
        if key in self._looked_up:
            found = self._looked_up[key]
            if found is not None:
                return found if found.fingerprint == fingerprint else errors.conflict(key)
        elif self._may_be_stored(key, ms):
            return LOOK_UP
        # It is in no database. The newest that was forgotten is itself one that must not run again.
        if ms is not None and ms <= self.forgotten_ms and not _is_fresh(ms, wall):
            return errors.key_expired(key, to_wire(self.forgotten_ms / 1000))
        return None

    def must_look_up(self, key: str) -> bool:
        """Whether the database must be asked before a command with this key is decided."""
        return key not in self._looked_up and self._may_be_stored(key, uuid7_ms(key))

    def _may_be_stored(self, key: str, ms: int | None) -> bool:
        return ms is None or ms <= self.watermark_ms or self._recent.has(key, ms)

    def asking(self, key: str) -> bool:
        """Say that the database is being asked; False when it is already."""
        if key in self._asked:
            return False
        self._asked.add(key)
        return True

    def is_asked(self, key: str) -> bool:
        """Whether the database has not answered yet."""
        return key in self._asked

    def looked_up(self, key: str, found: Remembered | None) -> None:
        """What the database said. Of no use when the key was committed meanwhile: it is asked again.

        While old keys are being forgotten, one that is not there may be one of them, and `forgotten_ms` does not
        say so yet: it is asked again when that is known.
        """
        if key in self._asked and found is None and 0 < (uuid7_ms(key) or 0) <= self._expiring_ms:
            self._in_doubt.add(key)
        elif key in self._asked:
            self._asked.discard(key)
            self._looked_up[key] = found

    def expiring(self, up_to_ms: int) -> None:
        """A transaction that forgets old keys up to this time is out."""
        self._expiring_ms = up_to_ms

    def expired(self, forgotten_ms: int) -> set[str]:
        """It is over: what was forgotten is known, `forgotten_ms` of the newest; 0: nothing. Returns the keys that
        were in doubt until now."""
        self.forgotten_ms = max(self.forgotten_ms, forgotten_ms)
        self._expiring_ms = 0
        doubted, self._in_doubt = self._in_doubt, set()
        self._asked -= doubted
        return doubted

    def done(self, key: str) -> None:
        """No ticket needs what was looked up any more."""
        self._looked_up.pop(key, None)

    def start(self, key: str, fingerprint: bytes) -> None:
        """The first command with this key is at work. `newest_ms` goes into the transaction that is cut next."""
        if self._looked_up:
            self._looked_up.pop(key, None)
        ms = uuid7_ms(key) or 0
        self.at_work[key] = AtWork(fingerprint, ms)
        self.newest_ms = max(self.newest_ms, ms)

    def is_new(self, key: str) -> bool:
        """Whether memory alone can tell that no command with this key came before, as it can of nearly every new
        UUIDv7."""
        return self._ms_if_new(key) is not None

    def _ms_if_new(self, key: str) -> int | None:
        ms = uuid7_ms(key)
        if ms is None or ms <= self.watermark_ms or ms <= self.forgotten_ms:
            return None
        if key in self.at_work or key in self._looked_up or self._recent.has(key, ms):
            return None
        return ms

    def start_if_new(self, key: str, fingerprint: bytes) -> bool:
        """If it `is_new`, its first command is at work. Else nothing is done."""
        ms = self._ms_if_new(key)
        if ms is None:
            return False
        self.at_work[key] = AtWork(fingerprint, ms)
        if ms > self.newest_ms:
            self.newest_ms = ms
        return True

    def committed(self, keys: Iterable[tuple[str, bytes, bytes]]) -> list[tuple[Ticket, bytes]]:
        """These keys with their fingerprints and replies are in the database; returns the repeats that wait for a
        reply, with that."""
        repeats = []
        asked, looked_up, at_work, remember = self._asked, self._looked_up, self.at_work, self._recent.add
        for key, _, result in keys:
            if asked:
                asked.discard(key)
            if looked_up:
                looked_up.pop(key, None)
            first = at_work.pop(key, None)
            ms = first.ms if first is not None else uuid7_ms(key) or 0
            if ms > self.watermark_ms:
                remember(key, ms)
            if first is not None and first.repeats:
                repeats += [(repeat, result) for repeat in first.repeats]
        self.watermark_ms = max(self.watermark_ms, self._recent.forget_some(RECENT_KEYS))
        return repeats
