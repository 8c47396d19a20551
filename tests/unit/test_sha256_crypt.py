"""SHA-256 crypt, against what other implementations made."""

from __future__ import annotations

import pytest

from storage_service.doors.sha256_crypt import hashed


@pytest.mark.parametrize(
    ("password", "salt", "rounds", "expected"),
    [
        # Made by the C library's crypt with "$5$$": the form that elogd keeps.
        ("secret", "", 5000, "o1w7HPzHt8gHmL5zUzDkRqt6Az.BjDfkvuDNNLWnXx5"),
        ("", "", 5000, "3c2QQ0KjIU1OLtB29cl8Fplc2WN7X89bnoEjaR7tWu."),
        ("Passwort mit Ä", "", 5000, "jmFaIeZ0ICO5j.Z.Ilz0QSwmrtOhpDptbzq56i8Zo/8"),
        ("x" * 100, "", 5000, "mzrcLAx4lwEwgorENojkt1zcPZIfwIkz0KeX0KJ/kS."),
        # Made by openssl passwd -5.
        ("Hello world!", "saltstring", 5000, "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
        # Made by the C library's crypt: of a salt 16 bytes count.
        ("Hello world!", "saltstringsaltstring", 10000, "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
    ],
)
def test_a_password_has_the_hash_that_others_give_it(password: str, salt: str, rounds: int, expected: str) -> None:
    assert hashed(password.encode(), salt.encode(), rounds) == expected
