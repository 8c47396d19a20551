"""A producer with the client library. python async_client.py [ENDPOINT]"""

import asyncio
import sys

from storage_client import StorageClient


async def main(endpoint: str = "tcp://127.0.0.1:5570") -> None:
    async with StorageClient(endpoint) as client:
        await client.init_storage("example", "examples", brg_path="examples")
        await client.config_storage("example")
        run = await client.new_run("example", "run_{n}", params={"voltage": 200})

        # Leaving the block marks the acquisition as finished; an exception in it marks it as failed.
        async with client.acquisition("example", run_name=run.run_name, acq_name="first") as block:
            await block.set_param("threshold", 0.25)
            block.summary["bytes"] = (block.path / "data.bin").write_bytes(bytes(range(256)))

        # A parameter that an acquisition lacks is looked up in its run.
        found = await client.find_nodes(kind="acq", verdict="complete", where={"voltage": {"ge": 100}})
        for node in found.nodes:
            print(node.id, node.params)


asyncio.run(main(*sys.argv[1:]))
