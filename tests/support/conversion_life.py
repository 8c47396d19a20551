"""A conversion of a real service, and the processes that come of it: whoever is killed, none may overlap."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from storage_service.doors.conversion_start import RUNNER
from tests.support.polling import eventually
from tests.support.scripts import FUGITIVE, marked, python
from tests.support.service import Service
from tests.support.wire import Storage, Wire

SETTINGS = {"max_attempts": 100, "retry_backoff_s": 0, "max_interruptions": 100, "grace_s": 0.3}

# Whatever lives of an attempt has the file `alive` locked, so that the next attempt sees an overlap, without the
# lock of the service's own. Deaf to TERM, it floods its log and leaves a fugitive; it ends when it may.
SCRIPT = python(
    FUGITIVE
    + """
import fcntl, signal
def write(line):
    fd = os.open("lines", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode() + b"\\n")
    os.close(fd)

attempt = os.environ["CONVERSION_ATTEMPT"]
alive = os.open("alive", os.O_RDWR | os.O_CREAT)
try:
    fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    write("overlap")
fcntl.flock(alive, fcntl.LOCK_SH)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
write("start " + attempt)
flee("fled-" + attempt, first="import fcntl; alive = open('alive'); fcntl.flock(alive, 1)")
for _ in range(6000):
    if os.path.exists("go"):
        break
    os.write(1, b"x" * 4096)
    time.sleep(0.01)
write("end " + attempt)
"""
)


class Life:
    """A service with one conversion, and the processes that have come of it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        service.script("stay.py", SCRIPT)
        with service.connect() as wire:
            storage = Storage(wire, "s", brg_name="g", brg_path="p").open()
            storage.run()
            self.acq = storage.acq(convert_script="stay.py")
            storage.close(self.acq)
        self.folder = Path(self.acq["location"]["local_path"])

    def conversion(self, wire: Wire) -> Any:
        return wire.call("list_conversions", acq_id=self.acq["acq_id"])["conversions"][0]

    def lines(self) -> list[str]:
        file = self.folder / "lines"
        return file.read_text().splitlines() if file.exists() else []

    def processes(self) -> dict[int, int]:
        return marked(str(self.service.scripts))

    def reach(self, point: str, attempt: int) -> None:
        """Wait until the attempt has come to that point, as seen from outside."""
        if point == "begun":
            eventually(lambda: any(RUNNER[-1].encode() in words(pid) for pid in self.processes()))
        elif point == "started":
            eventually(lambda: f"start {attempt}" in self.lines())
        else:
            eventually((self.folder / f"fled-{attempt}").exists)

    def kill(self, victims: str) -> None:
        if "service" in victims:
            self.service.kill()
        there = self.processes()
        runner = [pid for pid, parent in there.items() if parent not in there and b"fled" not in words(pid)]
        keeper = [pid for pid, parent in there.items() if parent in runner]
        script = [pid for pid, parent in there.items() if parent in keeper and b"fled" not in words(pid)]
        for name, pids in {"runner": runner, "keeper": keeper, "script": script}.items():
            for pid in pids if name in victims else []:
                os.kill(pid, signal.SIGKILL)

    def check(self) -> None:
        """It has succeeded: once, nothing overlapped, and nothing is left."""
        with self.service.connect() as wire:
            eventually(lambda: self.conversion(wire)["state"] == "succeeded", 40)
            attempt = self.conversion(wire)["attempt"]
            told = wire.journal(topics=["conversion.succeeded/", "conversion.failed/"])
        assert [event["type"] for event in told] == ["conversion.succeeded"]
        assert self.processes() == {}
        assert os.listdir(self.service.state / "locks") == []
        lines = self.lines()
        assert "overlap" not in lines
        assert len(lines) == len(set(lines))  # none was started twice
        assert f"end {attempt}" in lines


def words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
