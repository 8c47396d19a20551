"""A producer of the demo: `python -m storage_service.demo.producer disk --endpoint tcp://127.0.0.1:5570`.

It registers, waits for acquisitions to start, joins each, writes one raw file into its folder and marks it as
finished. On its standard output it says `ready`, and while it samples how many samples it has.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from storage_client import COMMANDS_ENDPOINT, StorageClient
from storage_service.demo.sampling import SOURCES, Sampler

STORAGE_ID = "demo"
PERIOD_S = 0.01
SAMPLES = 200
"""At most: a sample whose time has passed before it could be taken is missed, and counted as that."""

_TELL_EVERY = 10  # samples


async def produce(producer: str, endpoint: str) -> None:
    """Take part in every acquisition of the demo's storage, until cancelled."""
    sampler = Sampler(producer)
    async with StorageClient(endpoint) as client, client.events(f"acquisition.started/{STORAGE_ID}/") as started:
        await client.register_producer(STORAGE_ID, producer)
        _say("ready")
        async for event in started:
            joined = {name: event.data[name] for name in ("acq_name", "run_name")}
            async with client.acquisition(STORAGE_ID, producer=producer, **joined) as block:
                if block.path is None:
                    raise RuntimeError("the folder of the acquisition cannot be reached from here")
                file = block.path / f"{producer}.raw"
                samples = await record(sampler, file)
                block.summary |= {
                    "samples": samples,
                    "missed": SAMPLES - samples,
                    "bytes": file.stat().st_size,
                }


async def record(sampler: Sampler, file: Path) -> int:
    """Write a raw file of SAMPLES periods; how many samples are in it.

    Samples lie on the ticks of the monotonic clock: those of one tick, of all producers, belong together.
    """
    taken = 0
    with file.open("wb") as raw:
        raw.write(sampler.header(PERIOD_S))
        first = last = int(time.monotonic() / PERIOD_S)
        while last < first + SAMPLES:
            await asyncio.sleep((last + 1) * PERIOD_S - time.monotonic())
            now_s = time.monotonic()
            if (tick := int(now_s / PERIOD_S)) == last:
                continue  # woken a moment too early
            if tick > first + SAMPLES:
                break
            raw.write(sampler.sample(now_s))
            last = tick
            taken += 1
            if taken % _TELL_EVERY == 0:
                _say(str(taken))
    return taken


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run one producer until it is ended."""
    parser = argparse.ArgumentParser(description="A producer of the storage service's demo.")
    parser.add_argument("producer", choices=sorted(SOURCES))
    parser.add_argument("--endpoint", default=COMMANDS_ENDPOINT, help="where the service takes commands")
    asked = parser.parse_args()
    asyncio.run(produce(asked.producer, asked.endpoint))


if __name__ == "__main__":
    main()
