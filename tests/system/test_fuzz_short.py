"""The short form of `python -m tests.fuzz`: each frame is answered, in bounded time and memory.

In a process of its own: what is measured must be the frame's, and not that of threads and heaps of other tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

INPUTS = 100_000
SEED = 20


def test_any_frame_is_answered_in_bounded_time_and_memory() -> None:
    words = [sys.executable, "-m", "tests.fuzz", "--inputs", str(INPUTS), "--seed", str(SEED)]
    done = subprocess.run(
        words, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=110, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["cycles"], told["wrong"]) == (INPUTS, 0)
    # Frames of all kinds: most are refused, many are not.
    assert INPUTS // 20 < told["faults"] < INPUTS * 19 // 20
