"""What a run of the long tier leaves in writing: the summary with the conditions of the run, Markdown or JSON."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import apsw
import zmq

from tests.torture.progress import WORDS, Progress

ROOT = Path(__file__).parents[2]
BEGIN = "<!-- torture: begin -->"
END = "<!-- torture: end -->"


def conditions(seed: int, folder: Path, seconds: float) -> dict[str, str]:
    """What somebody needs to know who wants to repeat it."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "duration": f"{seconds / 60:.0f} min",
        "command": shlex.join(["python", "-m", "tests.torture", *sys.argv[1:]]),
        "seed": str(seed),
        "commit": _commit(),
        "Python": platform.python_version(),
        "SQLite": str(apsw.sqlite_lib_version()),
        "ZeroMQ": zmq.zmq_version(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "file system": _file_system(folder),
    }


def _commit() -> str:
    def git(*words: str) -> str:
        ran = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return ran.stdout.strip() if ran.returncode == 0 else ""

    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + changed


def _file_system(folder: Path) -> str:
    """The kind of the mount that is nearest above the folder."""
    nearest, kind = Path("/"), "unknown"
    for mount in Path("/proc/mounts").read_text().splitlines():
        _, place, type_, *_ = mount.split(" ")
        if folder.resolve().is_relative_to(place) and len(place) >= len(str(nearest)):
            nearest, kind = Path(place), type_
    return kind


def markdown(parts: Sequence[Progress], told: dict[str, str]) -> str:
    """A table and the conditions below it."""
    names = ("promise", "what", *WORDS, "seconds")
    lines = [f"| {' | '.join(names)} |", f"| --- | --- |{' ---: |' * (len(names) - 2)}"]
    for each in parts:
        if each.state == "skipped":
            continue
        numbers = [f"{each.numbers[name]:,}" for name in WORDS]
        lines.append(f"| {' | '.join([each.part.name, each.part.title, *numbers, f'{each.seconds:.0f}'])} |")
    skipped = [each.part.name for each in parts if each.state == "skipped"]
    if skipped:
        lines += ["", f"Not run, {len(skipped)} of {len(parts)} parts: {', '.join(skipped)}."]
    if early := [each.part.name for each in parts if each.state == "ended early"]:
        lines += ["", f"Ended early: {', '.join(early)}."]
    return "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in told.items()), ""])


def as_json(parts: Sequence[Progress], told: dict[str, str]) -> str:
    """The same for programs."""
    rows = [
        {
            "part": each.part.name,
            "promise": each.part.promise,
            "state": each.state,
            **each.numbers,
            "seconds": round(each.seconds, 1),
            "seed": each.seed,
            "found": each.found,
        }
        for each in parts
    ]
    return json.dumps({"conditions": told, "parts": rows}, indent=2) + "\n"


def write(file: Path, parts: Sequence[Progress], told: dict[str, str]) -> None:
    """JSON into a file of that name; Markdown between the marks of a page that has them, or as a page of its own.

    Raises OSError.
    """
    if file.suffix == ".json":
        file.write_text(as_json(parts, told), "utf-8")
        return
    text = file.read_text("utf-8") if file.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        before, after = "", "\n"
    file.write_text(f"{before}{BEGIN}\n\n{markdown(parts, told)}\n{END}{after}", "utf-8")
