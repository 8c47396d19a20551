"""A subscriber that uses the client library's iterator, as a process of its own.

    python -m tests.torture.client_subscriber COMMANDS OUT

As `subscriber`, for everything. It ends once it has the event whose seq stands in OUT.stop.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from storage_client import StorageClient


async def main(commands: str, out: Path) -> None:
    """Write the seq of each event."""
    stop = out.with_suffix(".stop")
    with out.open("w") as file:
        async with StorageClient(commands, deadline_s=None) as client:
            stream = client.events(after_seq=0)
            following = aiter(stream)
            newest = 0
            pending = asyncio.ensure_future(anext(following))
            while not (stop.exists() and newest >= int(stop.read_text())):
                done, _ = await asyncio.wait([pending], timeout=0.2)
                if done:
                    newest = pending.result().seq or newest
                    file.write(f"{newest} 0\n")
                    pending = asyncio.ensure_future(anext(following))
                else:
                    file.flush()
            pending.cancel()
    print(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
