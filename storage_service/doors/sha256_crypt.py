"""SHA-256 crypt, as Ulrich Drepper's text of 2008 has it ("Unix crypt using SHA-256 and SHA-512").

The standard library had it in a module that Python 3.13 has no more.
"""

from __future__ import annotations

from hashlib import sha256

ROUNDS = 5000
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def hashed(password: bytes, salt: bytes = b"", rounds: int = ROUNDS) -> str:
    """The hash alone: 43 characters, without `$5$`, rounds and salt, of which at most 16 bytes count."""
    salt = salt[:16]
    size = len(password)
    once = sha256(password + salt + password).digest()
    mixed = sha256(password + salt + _as_long(once, size))
    bits = size
    while bits:
        mixed.update(once if bits & 1 else password)
        bits >>= 1
    digest = mixed.digest()
    p = _as_long(sha256(password * size).digest(), size)
    s = _as_long(sha256(salt * (16 + digest[0])).digest(), len(salt))
    for turn in range(rounds):
        parts = [
            p if turn % 2 else digest,
            s if turn % 3 else b"",
            p if turn % 7 else b"",
            digest if turn % 2 else p,
        ]
        digest = sha256(b"".join(parts)).digest()
    return _spelt(digest)


def _as_long(digest: bytes, size: int) -> bytes:
    return (digest * (size // len(digest) + 1))[:size]


def _spelt(digest: bytes) -> str:
    """Three bytes to four characters, the bytes in an order of their own."""
    found, a, b, c = "", 0, 10, 20
    for _ in range(10):
        found += _characters(digest[a] << 16 | digest[b] << 8 | digest[c], 4)
        a, b, c = c + 1, a + 1, b + 1
    return found + _characters(digest[31] << 8 | digest[30], 3)


def _characters(bits: int, count: int) -> str:
    return "".join(_ALPHABET[bits >> 6 * place & 63] for place in range(count))
