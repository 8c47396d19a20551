"""A subscriber that uses the client library's iterator, as a process of its own.

    python -m tests.torture.client_subscriber COMMANDS OUT [CURSOR]

As `subscriber`, for everything. It ends once it has the event whose seq stands in OUT.stop, or with what it is
refused: then the code stands in OUT.ended. With a cursor it begins there, and insists on that journal.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from storage_client import StorageClient
from storage_client.cursor import Cursor
from storage_client.errors import StorageError


async def main(commands: str, out: Path, cursor: Cursor | None) -> None:
    """Write the seq of each event."""
    stop = out.with_suffix(".stop")
    with out.open("w") as file:
        async with StorageClient(commands, deadline_s=None) as client:
            stream = client.events(after_seq=0) if cursor is None else client.events(after=cursor)
            following = aiter(stream)
            newest = 0 if cursor is None else cursor.seq
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
    commands, out, *cursor = sys.argv[1:]
    try:
        asyncio.run(main(commands, Path(out), Cursor.parse(cursor[0]) if cursor else None))
    except StorageError as error:
        Path(out).with_suffix(".ended").write_text(error.code)
