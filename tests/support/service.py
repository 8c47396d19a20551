"""The real service as a process of its own: its folder, its configuration, its life and its death."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.wire import NoReply, Tail, Wire

from .polling import eventually

Settings = Mapping[str, Mapping[str, object]]

# A conversion that says who it is and then waits for the file `go`, but never for more than about a minute.
HELD = """#!/bin/sh
echo $$ > "$ACQ_DIR/pid-$CONVERSION_ATTEMPT"
i=0
while [ ! -e "$ACQ_DIR/go" ] && [ $i -lt 1000 ]; do sleep 0.05; i=$((i+1)); done
"""


class Died(Exception):
    """The service ended where it should have become ready; the text holds the end of its log."""


def alive(pid: int) -> bool:
    """Whether a process of that id runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def pid_in(file: Path) -> int:
    """The process id that a script wrote into a file, once it is there."""
    return int(eventually(lambda: file.exists() and file.read_text().strip()))


class Service:
    """One service in one folder, restarted as often as a test likes, always on the same endpoints.

    `settings` are tables of storage.toml that are laid over those below; `environment` is added to the process's;
    `through` are words before the command that starts it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        transport: str = "ipc",
        settings: Settings | None = None,
        environment: Mapping[str, str] | None = None,
        through: Sequence[str] = (),
    ) -> None:
        self.through = list(through)
        self.folder = folder
        self.mount = folder / "data"
        self.scripts = folder / "conversions"
        self.state = folder / "var"
        self.config = folder / "storage.toml"
        self.log = folder / "service.log"
        self.token = uuid.uuid4().hex
        self.commands, self.events = _endpoints(folder, transport)
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        for place in (self.mount, self.scripts):
            place.mkdir(parents=True, exist_ok=True)
        tables: dict[str, dict[str, object]] = {
            "endpoints": {"commands": self.commands, "events": self.events},
            "mounts": {"file:///": "data"},
            "conversion": {
                "scripts_dir": "conversions",
                "grace_s": 1,
                "log_bytes": 65536,
                "env": {"CONFIGURED": "yes", "SERVICE_UNDER_TEST": self.token},
            },
        }
        for name, table in (settings or {}).items():
            tables[name] = {**tables.get(name, {}), **table}
        self.config.write_text(_toml(tables))

    @property
    def pid(self) -> int:
        """The process id of the running service."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def launched(self) -> subprocess.Popen[bytes]:
        """The process that was started last, running or not."""
        assert self._process is not None
        return self._process

    @property
    def exit_code(self) -> int | None:
        """Of the process that was started last; nil while it runs."""
        assert self._process is not None
        return self._process.poll()

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process and do not wait until it is ready."""
        assert not self.running, "it runs already"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STORAGE_SERVICE__")}
        environment |= {"SECRET_OF_THE_SERVICE": "hidden", "SERVICE_UNDER_TEST": self.token}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.through, sys.executable, "-m", "storage_service", "serve", "--config", str(self.config)],
                cwd=self.folder,
                env=environment | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._process

    def start(self, patience_s: float = 30.0) -> Service:
        """Start it and wait until it answers a ping. Died when it ends or stays silent."""
        process = self.launch()
        deadline = time.monotonic() + patience_s
        with self.connect(patience_s=0.5) as wire:
            while time.monotonic() < deadline and process.poll() is None:
                with contextlib.suppress(NoReply):
                    wire.call("ping")
                    return self
        raise Died(f"exit code {process.poll()}; the end of its log:\n{self.log_text()[-4000:]}")

    def connect(self, patience_s: float = 20.0) -> Wire:
        """A new connection to the commands endpoint."""
        return Wire(self.commands, patience_s=patience_s)

    def tail(self, *topics: str) -> Tail:
        """A new subscription to the events endpoint, to everything when no topic is named."""
        return Tail(self.events, *topics)

    def script(self, name: str, body: str, mode: int = 0o755) -> str:
        """Put a conversion script into the scripts folder; its name."""
        path = self.scripts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
        path.chmod(mode)
        return name

    def log_text(self) -> str:
        """All that the service has written to its standard error."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def signal(self, number: int) -> int:
        """Send a signal to the service alone, wait for its end; its exit code."""
        assert self._process is not None
        os.kill(self._process.pid, number)
        return self._process.wait(30)

    def kill(self) -> None:
        """`kill -9`, to the service's process and nothing else."""
        self.signal(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        return self.signal(signal.SIGTERM)

    def restart(self) -> Service:
        """`kill -9` and start again."""
        self.kill()
        return self.start()

    def close(self) -> None:
        """End the process, its group, and all that carries its token or names its scripts."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        for pid in carriers(self.token, self.scripts):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _endpoints(folder: Path, transport: str) -> tuple[str, str]:
    if transport == "ipc":
        return f"ipc://{folder}/commands.ipc", f"ipc://{folder}/events.ipc"
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = one.getsockname()[1], two.getsockname()[1]
    return f"tcp://127.0.0.1:{ports[0]}", f"tcp://127.0.0.1:{ports[1]}"


def _toml(tables: Mapping[str, Mapping[str, object]]) -> str:
    lines = ['state_dir = "var"']
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{json.dumps(key)} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)


def carriers(token: str, scripts: Path | None = None) -> list[int]:
    """The processes that have this token of a test in their environment, or one of these scripts as a program."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                carries = f"SERVICE_UNDER_TEST={token}".encode() in (entry / "environ").read_bytes()
                runs = scripts is not None and os.fsencode(scripts) in (entry / "cmdline").read_bytes()
                if carries or runs:
                    found.append(int(entry.name))
    return found
