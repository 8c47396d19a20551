"""docs/mounts.md: its example runs, its table of mount points loads; and the example program beside it."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage_service.config import load
from tests.support.kinds import SftpSite
from tests.support.service import Service
from tests.support.sftp_server import SftpServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "mounts.md").read_text("utf-8")


def test_the_table_of_the_page_loads(tmp_path: Path) -> None:
    text = "".join(re.findall(r"^```toml\n(.*?)^```$", PAGE, re.M | re.S))
    (tmp_path / "storage.toml").write_text(text)
    assert len(load(tmp_path / "storage.toml", {}, {}).mounts) == 5


async def test_the_example_of_the_page_runs_as_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    service = Service(tmp_path).start()
    try:
        source = text.replace("tcp://127.0.0.1:5570", service.commands)
        running = eval(compile(source, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), {})
        assert inspect.isawaitable(running)
        await asyncio.wait_for(running, 60)
    finally:
        service.close()
    said = f"written to file://{service.mount}/first_tests/calibration_1/threshold_200\n"
    assert capsys.readouterr().out == said
    assert (service.mount / "first_tests/calibration_1/threshold_200/tracker.raw").stat().st_size == 4096


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[SftpServer]:
    (tmp_path / "sftp").mkdir()
    server = SftpServer(tmp_path / "sftp", tmp_path / "keys")
    yield server
    server.close()


def test_the_example_program_writes_to_a_mount_point_elsewhere(sftp: SftpServer, tmp_path: Path) -> None:
    site = SftpSite(sftp)
    text = f'{{ username = "daq", password_file = "{sftp.password}", known_hosts = "{sftp.known_hosts}" }}'
    (tmp_path / "mounts.toml").write_text(f'[mounts]\n"{site.mp}" = {text}\n')
    given = {"username": "daq", "password_file": str(sftp.password), "known_hosts": str(sftp.known_hosts)}
    service = Service(tmp_path / "service", settings={"mounts": {site.mp: given}}).start()
    try:
        program = [sys.executable, str(ROOT / "examples" / "elsewhere.py"), service.commands]
        done = subprocess.run(
            [*program, str(tmp_path / "mounts.toml"), site.mp],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    finally:
        service.close()
    assert (done.stdout, done.stderr) == (f"{site.mp}/examples/elsewhere_1/first\n", "")
    assert site.files()["examples/elsewhere_1/first/data.bin"] == bytes(range(256))
