"""Variables of EPICS by Channel Access, through aioca: the extra `epics`, imported when it is first used.

aioca and the library below it have one context a process, with threads of its own, which call the loop. What a
program's environment says of addresses (`EPICS_CA_ADDR_LIST`, ...) is read once, when that is made.
"""

from __future__ import annotations

import asyncio
import math
import os
import select
import threading
from contextlib import suppress
from typing import Any

from storage_protocol.errors import UNAVAILABLE, shown
from storage_protocol.limits import Limits
from storage_protocol.names import Value

from ...rules.readings import Reading
from ...rules.work import Fault
from .errand import Errands, StillHanging

NAME_BYTES = 512  # a search is one datagram, with room for the rest
VALUE_BYTES = Limits().value_bytes
MOST_CHANNELS = 4096  # kept connected between two reads
FIRST = "storage-service:starts"  # a channel to start the library with; it is gone before it is searched for
PATIENCE_S = 1.0  # for a program that is found not to be there
SEVERITIES = ("NO_ALARM", "MINOR", "MAJOR", "INVALID")

_STRING, _ENUM, _CHAR = 0, 3, 4  # DBF types, as Channel Access numbers them


class ChannelAccess:
    """PVs by their names; see `Variables` for what its methods do and raise. There is one of it a process.

    Channels stay connected from one read to the next. When no read is under way and one of them is not connected,
    all are let go: else the network would be searched for ever for a name that was mistyped once. A PV that nobody
    has is silence on the wire: `read` waits for it until it is cancelled.
    """

    def __init__(self) -> None:
        self._aioca: Any = None
        self._errands = Errands("channel access")
        self._loading = asyncio.Lock()
        self._reading = 0

    async def read(self, name: str) -> Reading:
        wrong = _wrong_name(name)
        if wrong:
            return Reading(missing=f"{shown(name)} is no name of a PV: {wrong}.")
        aioca = await self._library()
        self._reading += 1
        try:
            return await _read(aioca, name)
        except Fault:
            raise
        except Exception as error:  # what its callbacks meet it hands over as it is
            raise _fault(name, repr(error)) from error
        finally:
            self._reading -= 1
            self._tidy(aioca)

    async def close(self) -> None:
        """Let go of all channels, with what reads still wait for."""
        if self._aioca is not None:
            self._aioca.purge_channel_caches()

    async def _library(self) -> Any:
        async with self._loading:
            if self._aioca is None:
                self._aioca = await self._load()
        return self._aioca

    async def _load(self) -> Any:
        try:
            return await self._errands.run(_load)
        except ImportError as error:
            message = (
                "PVs cannot be read by Channel Access, since aioca is not there; "
                f"install storage-service[epics]: {error}."
            )
            raise Fault(UNAVAILABLE, message, reason=str(error)) from error
        except StillHanging as error:
            message = "PVs cannot be read by Channel Access: to look up its hosts still takes its time."
            raise Fault(UNAVAILABLE, message, reason="an earlier start hangs") from error
        except Exception as error:  # of a library that does not fit: there is no list of what it raises
            message = f"PVs cannot be read by Channel Access, since aioca cannot be used: {error}."
            raise Fault(UNAVAILABLE, message, reason=repr(error)) from error

    def _tidy(self, aioca: Any) -> None:
        if not self._reading:
            channels = aioca.get_channel_infos()
            if len(channels) > MOST_CHANNELS or not all(each.connected for each in channels):
                aioca.purge_channel_caches()


def _wrong_name(name: str) -> str | None:
    if not name or not name.isprintable() or " " in name:
        return "it must be printable characters without a space"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it must be Unicode text"
    return f"it must be at most {NAME_BYTES} bytes" if size > NAME_BYTES else None


def _load() -> Any:
    """Import aioca, and have its library start. For a thread: it takes long, and looks up the hosts to search at.

    What it has started belongs to the process, though one thread did it; the loop's joins it at its first read.
    """
    import aioca

    async def start() -> None:
        await aioca.connect(FIRST, wait=False)  # all is started with the first channel, not before
        aioca.purge_channel_caches()

    before = _children()
    asyncio.run(start())
    # It tries to start a program `caRepeater`, does without where there is none, and forgets that it has forked.
    for pid in _children() - before:
        with suppress(OSError):
            pidfd = os.pidfd_open(pid)
            try:
                if select.select([pidfd], [], [], PATIENCE_S)[0]:
                    os.waitpid(pid, os.WNOHANG)
            finally:
                os.close(pidfd)
    return aioca


def _children() -> set[int]:
    """What this thread has forked; of a kernel that does not tell, nothing."""
    with suppress(OSError), open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
        return set(map(int, file.read().split()))
    return set()


async def _read(aioca: Any, name: str) -> Reading:
    # The library's own time-outs and exceptions are off: the first are the caller's, of the others it tells three.
    channel = await aioca.cainfo(name, timeout=None, throw=False)
    if not channel.ok:
        raise _fault(name, channel)
    if not channel.read:
        return Reading(missing=f"The PV {name} may not be read.")
    is_text = channel.datatype == _CHAR and channel.count > 1
    if channel.count != 1 and not is_text:
        return Reading(missing=f"The PV {name} is an array of {channel.count}, which is no value of a statistic.")
    more = {"datatype": aioca.DBR_CHAR, "count": VALUE_BYTES + 1} if is_text else {}
    given = await aioca.caget(name, format=aioca.FORMAT_CTRL, timeout=None, throw=False, **more)
    if isinstance(given, aioca.CANothing):
        raise _fault(name, given)
    unit = getattr(given, "units", None) or None
    severity = SEVERITIES[given.severity] if 0 <= given.severity < len(SEVERITIES) else str(given.severity)
    if is_text:
        text = bytes(given).partition(b"\0")[0]
        if len(text) > VALUE_BYTES:
            return Reading(missing=f"The value of the PV {name} is over {VALUE_BYTES} bytes.")
        # A text has no unit; and what is not UTF-8 is shown, since EPICS says nothing of encodings.
        return _checked(name, text.decode(errors="replace"), None, severity)
    return _checked(name, _scalar(channel.datatype, given), unit, severity)


def _scalar(datatype: int, given: Any) -> Value:
    if datatype == _STRING:
        return str(given)
    if datatype == _ENUM:
        return str(given.enums[given]) if 0 <= given < len(given.enums) else int(given)
    return float(given) if isinstance(given, float) else int(given)


def _checked(name: str, value: Value, unit: str | None, severity: str) -> Reading:
    if isinstance(value, float) and not math.isfinite(value):
        return Reading(
            unit=unit, severity=severity, missing=f"The PV {name} is {value}, which is no finite number."
        )
    if isinstance(value, str) and len(value.encode()) > VALUE_BYTES:
        return Reading(missing=f"The value of the PV {name} is over {VALUE_BYTES} bytes.")
    return Reading(value=value, unit=unit, severity=severity)


def _fault(name: str, nothing: Any) -> Fault:
    return Fault(UNAVAILABLE, f"The PV {name} cannot be read by Channel Access: {nothing}.", reason=str(nothing))
