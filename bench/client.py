"""The client library under load: coroutines that each await `set_param_acq` in turn.

`python -m bench.client`, a `Load` as JSON on standard input, a `Measured` as JSON on standard output; `window` is
the number of coroutines on each of the places, all of one client. What they ask in one turn of the loop travels in
one message, and messages are not counted: the latencies are those of the calls.
"""

import asyncio
import dataclasses
import gc
import json
import sys
import time

from bench.load import PARAMS, WARM_UP_S, Load
from bench.measured import LoadError, Measured, Tally, cpu_s
from storage_client import RefusedError, StorageClient, StorageError


async def ask(client: StorageClient, place: tuple[str, str], number: int, until: float, tally: Tally) -> None:
    """One producer: the next value when the one before is acknowledged, until a time of `perf_counter`."""
    storage_id, acq_id = place
    param, value = f"param_{number % PARAMS}", number << 32
    while (start := time.perf_counter()) < until:
        value += 1
        try:
            await client.set_param_acq(storage_id, acq_id, param, value)
        except RefusedError as refusal:
            tally.refusals[str(refusal)] += 1
        else:
            tally.commands += 1
            tally.latencies_s.append(time.perf_counter() - start)


async def drive(client: StorageClient, load: Load, seconds: float) -> Tally:
    """All coroutines for a time. Raises StorageError when the service is not there."""
    tally = Tally()
    start = time.perf_counter()
    asking = (
        ask(client, place, number, start + seconds, tally)
        for number in range(load.window)
        for place in load.places
    )
    await asyncio.gather(*asking)
    tally.elapsed_s = time.perf_counter() - start
    return tally


async def run(load: Load) -> Measured:
    """Warm up, then measure. Raises StorageError when the service is not there, LoadError when it has ended."""
    async with StorageClient(load.endpoint) as client:
        warm = await drive(client, load, WARM_UP_S)
        gc.collect()
        server, own = cpu_s(load.server_pid), time.process_time()
        tally = await drive(client, load, load.seconds)
        server, own = cpu_s(load.server_pid) - server, time.process_time() - own
    return tally.measured(warm, server, own)


if __name__ == "__main__":
    try:
        print(json.dumps(dataclasses.asdict(asyncio.run(run(Load(**json.load(sys.stdin)))))))
    except (LoadError, StorageError) as failure:
        sys.exit(str(failure))
