"""`storage-service verify` as a program: its bar on a terminal, and its end when it is interrupted."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import uuid
from pathlib import Path

from tests.support.polling import eventually
from tests.support.service import carriers
from tests.support.shelf import Shelf


def shelf_with_a_large_file(tmp_path: Path, size: int) -> Shelf:
    """A file that takes as long as one likes, with a manifest that has another digest of it."""
    shelf = Shelf(tmp_path)
    large = shelf.put("large.dat", b"")
    shelf.write()
    os.truncate(large, size)
    manifest = shelf.folder / "manifest-1.json"
    content = manifest.read_text().replace('"size":0', f'"size":{size}')
    head, _, tail = content.rpartition('"bytes":')
    listed = int(tail.rstrip("}\n")) + size
    manifest.write_text(f'{head}"bytes":{listed}}}\n')
    return shelf


def test_on_a_terminal_a_bar_shows_how_far_it_is(tmp_path: Path) -> None:
    shelf = shelf_with_a_large_file(tmp_path, 256 << 20)
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "storage_service", "verify", str(shelf.folder)]
    process = subprocess.Popen(words, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
        while data := os.read(ours, 65536):
            shown += data
    os.close(ours)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"    changed    large.dat" in told
    assert b"/256.0 MiB" in shown


def test_interrupted_it_ends_at_once_and_leaves_nobody(tmp_path: Path) -> None:
    shelf = shelf_with_a_large_file(tmp_path, 1 << 40)
    token = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "storage_service", "verify", str(shelf.folder)],
        env={**os.environ, "SERVICE_UNDER_TEST": token},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )

    def reading() -> bool:
        return any(name.endswith("large.dat") for pid in carriers(token) for name in open_files(pid))

    eventually(reading, 60)
    assert len(carriers(token)) > 1
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    eventually(lambda: not carriers(token))


def open_files(pid: int) -> list[str]:
    try:
        return [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []
