"""Named places at which a test ends the process, as `kill -9` or a power cut would.

One stands before and after each step that makes something durable, in the store and in the doors. None does
anything unless the environment names it when the process starts:

    STORAGE_FAILPOINT=store.committed       the first time that place is passed
    STORAGE_FAILPOINT=store.committed:3     the third time

The tests find the names in the code, so that none is forgotten: they are literals, each in one place.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "STORAGE_FAILPOINT"

_armed, _, _count = os.environ.get(VARIABLE, "").partition(":")
_left = int(_count or 1)
ARMED = bool(_armed)
"""Whether any place is: what is passed for each event or reply asks this first, and is spared a call."""


def passing(name: str) -> None:
    """The process is at this place. It ends here, with nothing flushed and nobody told, if the place is armed."""
    global _left
    if name == _armed:
        _left -= 1
        if not _left:
            os.kill(os.getpid(), signal.SIGKILL)
