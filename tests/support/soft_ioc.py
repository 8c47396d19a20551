"""A real IOC for the tests of Channel Access: softioc, as a process of its own, on the loopback only.

As a program it serves the records below until its standard input ends.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from .polling import eventually

PREFIX = "TEST"
LONG_TEXT = "ö" * 400
TEXT_BYTES = 64 << 10


def why_not() -> str:
    """Why there can be none here; empty when there can."""
    absent = [name for name in ("aioca", "softioc") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} not installed: pip install 'storage-service[dev]'" if absent else ""


def free_port() -> int:
    """A port that is free for TCP and UDP alike."""
    for _ in range(100):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def environment() -> dict[str, str]:
    """What an IOC and its clients need to find each other; a process reads it once, before its first search."""
    return {
        "EPICS_CA_ADDR_LIST": "127.0.0.1",
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_SERVER_PORT": str(free_port()),
        "EPICS_CA_REPEATER_PORT": str(free_port()),
    }


class SoftIoc:
    """The IOC, where `environment` in this process says."""

    def __init__(self, folder: Path) -> None:
        served = {
            "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1",
            "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
            "PVXS_QSRV_ENABLE": "NO",  # its second protocol would listen at ports that are not ours
        }
        self._log = folder / "ioc.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.soft_ioc"],
                cwd=Path(__file__).parents[2],
                env={**os.environ, **served},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        eventually(self._is_ready)

    def _is_ready(self) -> bool:
        text = self._log.read_text(errors="replace")
        assert self.process.poll() is None, text
        return "\nready\n" in text

    def stop(self) -> None:
        """It hangs, every thread of it."""
        self.process.send_signal(signal.SIGSTOP)
        eventually(lambda: set(self._states()) == {"T"})

    def _states(self) -> list[str]:
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks]

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def main() -> None:
    """Serve the records of the tests, and repeat beacons: else a client does that, with more and more sockets."""
    from epicscorelibs.ca.cadef import libca
    from softioc import asyncio_dispatcher, builder, softioc

    threading.Thread(target=libca.caRepeaterThread, args=(None,), daemon=True).start()
    builder.SetDeviceName(PREFIX)
    limits = {"HIGH": 30, "HSV": "MINOR", "HIHI": 50, "HHSV": "MAJOR"}
    degrees = {"COOL": 21.5, "WARM": 31.0, "HOT": 51.0}
    records = {name: builder.aOut(name, initial_value=0, EGU="degC", **limits) for name in degrees}
    builder.longOut("COUNT", initial_value=7, EGU="events")
    builder.aOut("UNDEFINED")
    builder.mbbOut("MODE", "Idle", "Running", "Broken", initial_value=1)
    builder.mbbOut("ODD_MODE", "Idle", "Running", initial_value=9)
    builder.stringOut("TEXT", initial_value="hello")
    builder.longStringOut("LONG_TEXT", initial_value=LONG_TEXT, length=2000)
    builder.longStringOut("FULL_TEXT", initial_value="x" * TEXT_BYTES, length=TEXT_BYTES + 1000)
    builder.longStringOut("ENDLESS_TEXT", initial_value="x" * (TEXT_BYTES + 10), length=TEXT_BYTES + 1000)
    builder.WaveformOut("WAVE", initial_value=[1.0, 2.0, 3.0])
    builder.aOut("NAN", initial_value=float("nan"))
    builder.aOut("INF", initial_value=float("inf"))
    builder.LoadDatabase()
    softioc.iocInit(asyncio_dispatcher.AsyncioDispatcher())
    for name, value in degrees.items():
        records[name].set(value)  # alarms are found when a record is processed
    print("\nready", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
