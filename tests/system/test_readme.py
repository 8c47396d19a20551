"""The programs in the README, run word for word against a real service."""

from __future__ import annotations

import ast
import re
import select
import subprocess
import sys
from pathlib import Path

from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Storage, Wire

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PRODUCER, SUBSCRIBER, CLIENT = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def program(text: str, service: Service) -> list[str]:
    """The command line that runs a program of the README against this service."""
    text = text.replace("tcp://127.0.0.1:5570", service.commands).replace("tcp://127.0.0.1:5571", service.events)
    return [sys.executable, "-c", text]


def test_the_producer_takes_the_next_number(service: Service, wire: Wire) -> None:
    for number in (1, 2):
        done = subprocess.run(program(PRODUCER, service), capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        run = wire.call("get_run", run_id=f"root/first_tests/calibration_{number}")
        assert run["storage_id"] == "daq"


def test_the_subscriber_prints_what_is_finished(service: Service, storage: Storage) -> None:
    storage.run()
    process = subprocess.Popen(program(SUBSCRIBER, service), stdout=subprocess.PIPE, text=True, bufsize=1)
    stream = process.stdout
    assert stream is not None
    try:
        numbers = iter(range(1000))

        def heard() -> bool:
            acq = storage.acq(acq_name=f"a{next(numbers)}")
            storage.call("close_acq_storage", acq_id=acq["acq_id"])
            return bool(select.select([stream], [], [], 0.1)[0])

        eventually(heard)
        assert "partial missing: []" in stream.readline()
    finally:
        process.kill()
        process.wait()
        stream.close()


def test_the_client_block_is_a_program() -> None:
    compile(CLIENT, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
