"""A producer's signs of life, for as long as it has an acquisition open (SPEC 4.2.14)."""

from __future__ import annotations

import asyncio
import logging

from .calls import S
from .commands import Commands
from .errors import ClientClosedError, NotFoundError, StorageError

_log = logging.getLogger(__name__)

# A sign of life comes so often within the storage's time-out that two of them may be lost, or late.
_TIMES = 3
# Before the storage has told its time-out, it is asked for it so often, in seconds.
_ASK_AGAIN_S = 1.0


async def keep_alive(client: Commands[S], storage_id: str, producer: str) -> None:
    """Say for ever that a producer is alive, as often as its storage wants to hear it.

    Returns when the storage has no `producer_timeout_s`, or is not there any more, or the client is closed. A
    service that is away is told as soon as it is back: nothing is raised.
    """
    every_s: float | None = None
    while True:
        try:
            if every_s is None:
                async with asyncio.timeout(_ASK_AGAIN_S):
                    timeout_s = (await client.get_storage(storage_id)).producer_timeout_s
                if timeout_s is None:
                    return
                every_s = timeout_s / _TIMES
            async with asyncio.timeout(every_s):
                await client.heartbeat_producer(storage_id, producer)
        except (NotFoundError, ClientClosedError):
            return
        except (StorageError, TimeoutError) as error:
            _log.debug("no answer to a sign of life of %s in %s: %r", producer, storage_id, error)
        await asyncio.sleep(every_s or _ASK_AGAIN_S)
