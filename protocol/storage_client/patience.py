"""How long is waited before another try: longer each time, and not the same for everybody.

Clients that lost the service in the same moment would all come back in the same moment, again and again.
"""

from __future__ import annotations

from random import SystemRandom

_SPREAD = 0.25  # at most this part is added to a wait
_MOST_DOUBLINGS = 20

_dice = SystemRandom()


def spread(seconds: float) -> float:
    """A wait of at least so many seconds, and of up to a quarter more."""
    return seconds * _dice.uniform(1.0, 1.0 + _SPREAD)


def pause(tries: int, first_s: float, most_s: float) -> float:
    """Seconds to wait after so many tries (from 1): `first_s`, doubled each time up to `most_s`, and spread."""
    return spread(min(first_s * (1 << min(tries - 1, _MOST_DOUBLINGS)), most_s))
