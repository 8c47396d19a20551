"""The client in a program that is busy elsewhere, with the real service."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.support.service import Service
from tests.support.wire import Storage, Wire

# Takes one event, then its loop stands still until a line comes, then it takes events again.
STANDS_STILL = """
import asyncio, sys
from storage_client import StorageClient

async def main():
    async with StorageClient(sys.argv[1]) as client:
        stream = client.events("acquisition.param_set/", after_seq=0)
        await anext(stream)
        print("still", flush=True)
        sys.stdin.readline()
        last = int(sys.stdin.readline())
        async for event in stream:
            if event.seq >= last:
                break
        print("there", flush=True)

asyncio.run(main())
"""
# Longer than any heartbeat of ZeroMQ that a client would reasonably ask for.
STILL_S = 9.0


def test_a_subscriber_whose_loop_stands_still_loses_nothing_and_does_not_die(
    wire: Wire, storage: Storage, service: Service
) -> None:
    storage.run()
    acq = storage.acq()
    words = [sys.executable, "-c", STANDS_STILL, service.commands]
    args = {"storage_id": storage.storage_id, "acq_id": acq["acq_id"], "param": "x"}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        wire.call("set_param_acq_storage", value=0, **args)
        assert client.stdout.readline() == "still\n"
        until, value = time.monotonic() + STILL_S, 0
        # Far more than its queue holds, for as long as it stands still.
        while time.monotonic() < until or value < 20_000:
            posted = [wire.post("set_param_acq_storage", value="x" * 500, **args) for _ in range(256)]
            for number in posted:
                wire.collect(number)
            value += len(posted)
        client.stdin.write(f"\n{wire.last_seq()}\n")
        client.stdin.flush()
        assert client.stdout.readline() == "there\n"
    assert client.returncode == 0
