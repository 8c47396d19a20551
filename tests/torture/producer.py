"""A producer as a lab has it: a program of its own that speaks through the client library, and keeps a record.

    python -m tests.torture.producer COMMANDS FOLDER NUMBER SEED

What it asks, and what it is answered, becomes a line of FOLDER/told each; the first line of a life says that it
lives. While FOLDER/rest is there it asks nothing new, and says so. It is killed now and then, and started again:
what it had asked and had no answer to is then unknown.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from storage_client import StorageClient
from storage_client.errors import RefusedError
from storage_protocol.commands import COMMANDS
from tests.support.polling import until

IDS_EACH = 1_000_000_000
NAMES = ("tracker", "calo")
# Shorter than a start of the service: most answers come to a repeat.
TIMEOUT_S = 0.7
# A look at everything lasts minutes at most.
REST_S = 3600.0


class Producer:
    """One life of the program."""

    def __init__(self, client: StorageClient[Any], folder: Path, number: int, seed: int) -> None:
        self.client = client
        self.chance = random.Random(seed)
        self.storage_id = f"p{number}"
        self.group = f"g{number}"
        self.rest = folder / "rest"
        told = folder / "told"
        before = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
        self.next_id = max((each.get("id", 0) for each in before), default=number * IDS_EACH) + 1
        self.told = told.open("a")
        self.resting = False

    def note(self, **what: Any) -> None:
        """A line of the record."""
        self.told.write(json.dumps({**what, "at": time.monotonic_ns()}) + "\n")
        self.told.flush()

    async def ask(self, cmd: str, **args: Any) -> Any:
        """Ask until there is an answer; its result, None when it is refused."""
        number, self.next_id = self.next_id, self.next_id + 1
        if "param" in args:
            args["value"] = number
        if "params" in args:
            args["params"] = {"own": number}
        if cmd == "mark_as_finished_storage":
            args["summary"] = {"id": number}
        args = {"storage_id": self.storage_id, **args}
        self.note(id=number, cmd=cmd, args=args)
        try:
            result = await self.client.call(COMMANDS[cmd].command(**args))
        except RefusedError as error:
            self.note(id=number, code=error.code, error=str(error))
            return None
        self.note(id=number, result=result)
        return result

    async def live(self) -> None:
        """Runs with acquisitions, until the process is killed."""
        self.note(alive=True)
        await self.ask("init_storage", brg_name=self.group, brg_path=f"home/{self.group}")
        await self.ask("config_storage")
        for name in NAMES:
            await self.ask("register_producer_storage", producer=name)
        while True:
            await self._pause()
            run = await self.ask("new_run_storage", run_name=self.chance.choice(("r{n}", "cal_{n:06}")), params={})
            if run is not None:
                await self._take_data(run["run_name"])

    async def _pause(self) -> None:
        if self.rest.exists():
            self.note(resting=True)
            await until(lambda: not self.rest.exists(), REST_S)
            self.note(resting=False)

    async def _take_data(self, run_name: str) -> None:
        chance = self.chance
        script = {"convert_script": "quick.sh"} if chance.random() < 0.3 else {}
        acq = await self.ask("new_acq_storage", acq_name="a", run_name=run_name, params={}, **script)
        if acq is None:
            return
        where = {"acq_id": acq["acq_id"], "uid": acq["uid"], "segment": acq["segment"]}
        for _ in range(chance.randrange(5)):
            names = [f"p{chance.randrange(8)}" for _ in range(chance.randrange(1, 20))]
            await asyncio.gather(*(self.ask("set_param_acq_storage", **where, param=name) for name in names))
        way = chance.random()
        if way < 0.6:
            await asyncio.gather(*(self.ask("mark_as_finished_storage", **where, producer=name) for name in NAMES))
        elif way < 0.9:
            await self.ask("close_acq_storage", **where, reason="enough")
        else:
            await self.ask("abort_acq_storage", **where, reason="no beam")


async def main(commands: str, folder: Path, number: int, seed: int) -> None:
    """Live."""
    async with StorageClient(commands, timeout_s=TIMEOUT_S, deadline_s=None) as client:
        await Producer(client, folder, number, seed).live()


if __name__ == "__main__":
    commands, folder, number, seed = sys.argv[1:]
    asyncio.run(main(commands, Path(folder), int(number), int(seed)))
