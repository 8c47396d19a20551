"""A producer that writes wherever its acquisition is. python elsewhere.py [ENDPOINT [MOUNTS.toml [MOUNT]]]"""

import asyncio
import sys

from storage_client import Mounts, StorageClient


async def main(endpoint: str = "tcp://127.0.0.1:5570", table: str = "", mount_point: str = "file:///") -> None:
    # On the service's own host no table is needed.
    mounts = Mounts.from_file(table) if table else Mounts()
    async with StorageClient(endpoint) as client:
        await client.init_storage("example", "elsewhere", brg_path="examples", brg_mp=mount_point)
        await client.config_storage("example")
        run = await client.new_run("example", "elsewhere_{n}")
        async with client.acquisition("example", run_name=run.run_name, acq_name="first") as block:
            place = await asyncio.to_thread(mounts.resolve, block.acq.location)
            with place.open("data.bin", "wb") as file:
                file.write(bytes(range(256)))
            block.summary["bytes"] = 256
        print(place.url)


asyncio.run(main(*sys.argv[1:]))
