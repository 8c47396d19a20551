"""The service as it is shipped, in a folder of its own, with eight storages and an open acquisition in each."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import zmq

from bench.load import uuid7s
from bench.process import StartError, last_words, program

STORAGES = 8
START_S = 20  # to the first answered ping
ANSWER_S = 20

CONFIGURATION = """\
state_dir = "state"

[endpoints]
commands = "{commands}"
events = "{events}"

[mounts]
"file:///" = "data"
"""


class Service:
    """A running service, asked one plain msgpack command after another."""

    def __init__(
        self, endpoint: str, process: subprocess.Popen[str], log: Path, asking: zmq.Socket[bytes]
    ) -> None:
        self.endpoint = endpoint
        self.pid = process.pid
        self._process = process
        self._log = log
        self._socket = asking
        self._asked = 0

    def ask(self, cmd: str, timeout_s: float = ANSWER_S, **args: object) -> Any:
        """The result of a command, sent with a fresh key.

        Raises StartError when the service has ended, does not answer in time, or answers with anything but ok.
        """
        self._asked += 1
        command = {"v": 1, "id": self._asked, "cmd": cmd, "args": args, "key": uuid7s(1)[0]}
        self._socket.send(msgpack.packb(command))
        deadline = time.monotonic() + timeout_s
        while not self._socket.poll(100):
            if self._process.poll() is not None:
                raise StartError(
                    f"the service ended with exit code {self._process.returncode} before it answered {cmd}: "
                    f"{last_words(self._log)}"
                )
            if time.monotonic() > deadline:
                raise StartError(
                    f"the service has not answered {cmd} in {timeout_s:.0f} s: {last_words(self._log)}"
                )
        reply = msgpack.unpackb(self._socket.recv())
        if not reply["ok"]:
            raise StartError(f"the service refuses {cmd}: {reply['error']['code']}: {reply['error']['message']}")
        return reply["result"]

    def open_acquisitions(self) -> list[tuple[str, str]]:
        """New storages, each with a run and an open acquisition; their (storage_id, acq_id).

        Raises StartError as `ask` does.
        """
        places = []
        for number in range(STORAGES):
            storage_id = f"bench-{number}"
            self.ask("init_storage", storage_id=storage_id, brg_name=storage_id, brg_path=storage_id)
            self.ask("config_storage", storage_id=storage_id)
            self.ask("new_run_storage", storage_id=storage_id, run_name="run")
            acquisition = self.ask("new_acq_storage", storage_id=storage_id, run_name="run", acq_name="acq")
            places.append((storage_id, acquisition["acq_id"]))
        return places

    def last_seq(self, after_seq: int = 0) -> int:
        """The newest seq of the journal. It is read page by page from `after_seq` on, so name one that is near.

        Raises StartError as `ask` does.
        """
        while True:
            page = self.ask("replay_events", after_seq=after_seq)
            if not page["more"]:
                return int(page["last_seq"])
            after_seq = page["events"][-1]["seq"]


def free_endpoint() -> str:
    """A TCP endpoint on the loopback interface that nobody has bound at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def running(folder: Path) -> Iterator[Service]:
    """The service with its state and data in `folder`, answering `ping`; ended at the end.

    Raises StartError when it cannot be started or does not answer in START_S.
    """
    commands, events = free_endpoint(), free_endpoint()
    configuration, log = folder / "storage.toml", folder / "service.log"
    configuration.write_text(CONFIGURATION.format(commands=commands, events=events))
    (folder / "data").mkdir()
    (folder / "conversions").mkdir()
    with (
        program("storage_service", "serve", "--config", str(configuration), log=log) as process,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as asking,
    ):
        asking.linger = 0
        asking.connect(commands)
        service = Service(commands, process, log, asking)
        service.ask("ping", timeout_s=START_S)
        yield service
