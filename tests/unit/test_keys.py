"""UUIDv7 keys (SPEC 5), and how the service remembers them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_protocol.errors import Refusal
from storage_protocol.keys import uuid7, uuid7_ms
from storage_service.desk.keyring import AHEAD_S, LOOK_UP, Keyring, Remembered, last_to_forget, may_be_forgotten


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_key_tells_its_time(ms: int, random: bytes) -> None:
    key = uuid7(ms, random)
    assert len(key) == 36
    assert (UUID(key).version, UUID(key).variant) == (7, "specified in RFC 4122")
    assert uuid7_ms(key) == uuid7_ms(key.upper()) == ms


def test_keys_are_ordered_by_their_time() -> None:
    assert uuid7(1, b"\xff" * 10) < uuid7(2, b"\x00" * 10)


def test_different_random_bytes_make_different_keys() -> None:
    assert uuid7(1, bytes(range(10))) != uuid7(1, bytes(range(1, 11)))


KEY = uuid7(1_700_000_000_000, bytes(10))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "k",
        "x" * 36,
        str(uuid4()),
        KEY.replace("-", ""),
        "{" + KEY[1:],
        KEY[:-1],
        KEY + "0",
        KEY[:19] + "c" + KEY[20:],
        KEY[:14] + "4" + KEY[15:],
        KEY[:8] + "0" + KEY[9:],
        "０" + KEY[1:],
    ],
)
def test_any_other_key_tells_no_time(key: str) -> None:
    assert uuid7_ms(key) is None


# The keyring

OLD, NEW, NEWER = (uuid7(ms, bytes(10)) for ms in (1000, 2000, 3000))


def test_a_uuid7_that_is_newer_than_any_in_the_database_needs_no_look_up() -> None:
    keyring = Keyring(watermark_ms=1000, forgotten_ms=0)
    assert keyring.must_look_up(OLD)
    assert not keyring.must_look_up(NEW)
    assert keyring.must_look_up("plain")


def test_a_key_of_this_life_is_looked_up_once_it_is_committed() -> None:
    keyring = Keyring(watermark_ms=0, forgotten_ms=0)
    assert not keyring.must_look_up(NEW)
    keyring.committed([(NEW, b"f", b"r")])
    assert keyring.must_look_up(NEW)


def test_what_was_looked_up_before_the_commit_is_of_no_use() -> None:
    keyring = Keyring(watermark_ms=0, forgotten_ms=0)
    assert keyring.asking("plain")
    assert not keyring.asking("plain")
    keyring.committed([("plain", b"f", b"r")])
    keyring.looked_up("plain", None)
    assert keyring.must_look_up("plain")


def looked_up(keyring: Keyring, key: str, found: Remembered | None = None) -> Keyring:
    assert keyring.before(key, b"print", 1e9) is LOOK_UP
    assert keyring.asking(key)
    keyring.looked_up(key, found)
    return keyring


def code(keyring: Keyring, key: str) -> Any:
    before = keyring.before(key, b"print", 1e9)
    return before.code if isinstance(before, Refusal) else before


def test_a_key_from_before_the_newest_forgotten_one_is_forgotten() -> None:
    keyring = looked_up(Keyring(watermark_ms=5000, forgotten_ms=2000), OLD)
    refusal = keyring.before(OLD, b"print", 1e9)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "key_expired"
    assert refusal.details["forgotten_before"].startswith("1970-01-01T00:00:02.00")
    assert code(looked_up(keyring, NEWER), NEWER) is None
    assert code(looked_up(keyring, "plain"), "plain") is None


def test_the_newest_forgotten_key_itself_never_runs_again() -> None:
    assert code(looked_up(Keyring(watermark_ms=5000, forgotten_ms=2000), NEW), NEW) == "key_expired"


def test_a_key_that_this_life_never_saw_is_forgotten_like_any_other() -> None:
    keyring = Keyring(watermark_ms=0, forgotten_ms=0)
    keyring.start(NEW, b"print")
    keyring.committed([(NEW, b"f", b"r")])
    keyring.forgotten_ms = 2000
    assert code(keyring, OLD) == "key_expired"


def test_what_the_database_said_is_kept_until_no_command_needs_it() -> None:
    told = Remembered(b"print", b"result")
    keyring = looked_up(Keyring(watermark_ms=5000, forgotten_ms=0), OLD, told)
    assert keyring.before(OLD, b"print", 1e9) == told
    assert code(keyring, OLD) == told
    keyring.done(OLD)
    assert keyring.before(OLD, b"print", 1e9) is LOOK_UP


def test_a_key_with_another_command_is_in_conflict() -> None:
    keyring = looked_up(Keyring(watermark_ms=5000, forgotten_ms=0), OLD, Remembered(b"another", b"result"))
    assert code(keyring, OLD) == "conflict"
    keyring.start(NEWER, b"another")
    assert code(keyring, NEWER) == "conflict"


def test_many_keys_are_forgotten_in_memory_and_looked_up_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_service.desk.keyring.RECENT_KEYS", 10)
    keyring = Keyring(watermark_ms=0, forgotten_ms=0)
    keys = [uuid7(ms, bytes(10)) for ms in range(1, 100)]
    for key in keys:
        keyring.committed([(key, b"f", b"r")])
    assert all(map(keyring.must_look_up, keys))
    assert not keyring.must_look_up(uuid7(100, bytes(10)))


@pytest.mark.parametrize(
    ("key", "may"),
    [
        ("plain", True),
        (OLD, True),
        (uuid7(5000 + int(AHEAD_S) * 1000, bytes(10)), True),
        (uuid7(5001 + int(AHEAD_S) * 1000, bytes(10)), False),
        (uuid7(2**48 - 1, bytes(10)), False),
    ],
)
def test_a_key_that_is_dated_far_ahead_may_not_be_forgotten_yet(key: str, may: bool) -> None:
    assert may_be_forgotten(key, last_to_forget(before=5.0)) == may
