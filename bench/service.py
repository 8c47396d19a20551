"""The service as it is shipped, in a folder of its own, with eight storages and an open acquisition in each."""

import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import zmq

from bench.load import uuid7s
from bench.process import StartError, last_words, program

STORAGES = 8
LOG = "service.log"
DATABASE = Path("state", "storage.db")
START_S = 20  # to the first answered ping
ANSWER_S = 20

CONFIGURATION = """\
state_dir = "state"

[endpoints]
commands = "{commands}"
events = "{events}"

[mounts]
"file:///" = "data"

{more}
"""


class Service:
    """A running service, asked one plain msgpack command after another."""

    def __init__(
        self, endpoints: tuple[str, str], process: subprocess.Popen[str], folder: Path, asking: zmq.Socket[bytes]
    ) -> None:
        self.endpoint, self.events = endpoints
        self.pid = process.pid
        self.folder = folder
        self.start_s = 0.0  # from the start of its process to the first answered ping
        self._process = process
        self._log = folder / LOG
        self._socket = asking
        self._asked = 0

    def ask(self, cmd: str, timeout_s: float = ANSWER_S, **args: object) -> Any:
        """The result of a command, sent with a fresh key.

        Raises StartError when the service has ended, does not answer in time, or answers with anything but ok.
        """
        self._send(cmd, args)
        return self._result(cmd, timeout_s)

    def ask_all(self, cmd: str, every: Iterable[dict[str, Any]], window: int = 16) -> list[tuple[Any, float]]:
        """A command with each of these arguments, so many of them outstanding at a time; the results as they came,
        each with its time in seconds since 1970.

        Raises StartError as `ask` does.
        """
        results: list[tuple[Any, float]] = []
        sent = 0
        for args in every:
            if sent - len(results) == window:
                results.append((self._result(cmd, ANSWER_S), time.time()))
            self._send(cmd, args)
            sent += 1
        while len(results) < sent:
            results.append((self._result(cmd, ANSWER_S), time.time()))
        return results

    def _send(self, cmd: str, args: dict[str, Any]) -> None:
        self._asked += 1
        command = {"v": 1, "id": self._asked, "cmd": cmd, "args": args, "key": uuid7s(1)[0]}
        self._socket.send(msgpack.packb(command))

    def _result(self, cmd: str, timeout_s: float) -> Any:
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

    @property
    def log_mib(self) -> float:
        """The size of the database's write-ahead log."""
        return size_mib(self.folder / "state" / "storage.db-wal")

    @property
    def store_mib(self) -> float:
        """The size of the database, its write-ahead log included."""
        return size_mib(self.folder / DATABASE) + self.log_mib

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


def size_mib(file: Path) -> float:
    """Of a file, 0 where there is none."""
    return file.stat().st_size / (1 << 20) if file.exists() else 0.0


@contextmanager
def running(folder: Path, more: str = "") -> Iterator[Service]:
    """The service with its state and data in `folder`, answering `ping`; ended at the end.

    `more` is added to its configuration, as TOML.

    Raises StartError when it cannot be started or does not answer in START_S.
    """
    commands, events = free_endpoint(), free_endpoint()
    configuration = folder / "storage.toml"
    configuration.write_text(CONFIGURATION.format(commands=commands, events=events, more=more))
    (folder / "data").mkdir(exist_ok=True)
    (folder / "conversions").mkdir(exist_ok=True)
    start = time.perf_counter()
    with (
        program("storage_service", "serve", "--config", str(configuration), log=folder / LOG) as process,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as asking,
    ):
        asking.linger = 0
        asking.connect(commands)
        service = Service((commands, events), process, folder, asking)
        service.ask("ping", timeout_s=START_S)
        service.start_s = time.perf_counter() - start
        yield service
