"""`storage-service demo`, the real one: what it says, what it leaves in its folder, and when it fails."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from storage_service.demo.folder import shebang

PRODUCERS = {"compute": 4, "disk": 2, "network": 3}  # and how many channels each has
ACQUISITIONS = ("run_001/acq_1", "run_001/acq_2", "run_002/acq_1", "run_002/acq_2")
SVG = "{http://www.w3.org/2000/svg}"

Done = subprocess.CompletedProcess[str]


def demo(*words: str) -> subprocess.Popen[str]:
    """The demo, started. Interrupts that reach the tests do not reach it."""
    command = [sys.executable, "-m", "storage_service", "demo", *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def end_of(process: subprocess.Popen[str]) -> Done:
    """How a demo ended."""
    with process:
        try:
            out, err = process.communicate(timeout=100)
        finally:
            process.terminate()
    return Done(process.args, process.returncode, out, err)


def until(process: subprocess.Popen[str], word: str) -> None:
    """Read what a demo says up to the line with this word."""
    assert process.stdout
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"without a word of {word} it ended: {end_of(process)}")


def processes_of(folder: Path) -> dict[str, int]:
    """The processes of the demo in this folder, by the last word of their command that is no option."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_text().split("\0")
                log = (entry / "fd" / "2").readlink()
            except OSError:
                continue
            if log.parent == folder and "-m" in words:
                found[[word for word in words if word and not word.startswith("-")][-1]] = int(entry.name)
    return found


def read_raw(path: Path) -> tuple[dict[str, Any], list[tuple[float, ...]]]:
    """A raw file, as its header says that it is to be read."""
    line, _, body = path.read_bytes().partition(b"\n")
    head = json.loads(line)
    return head, list(struct.iter_unpack(head["record"], body))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one demo, shared."""
    return tmp_path_factory.mktemp("demo") / "kept"


@pytest.fixture(scope="module")
def done(kept: Path) -> Done:
    """One demo, in its folder, done."""
    return end_of(demo("--keep", str(kept)))


@pytest.fixture(params=ACQUISITIONS)
def acquisition(done: Done, kept: Path, request: pytest.FixtureRequest) -> Path:
    """The folder of each acquisition of the demo."""
    return kept / "data" / "demo" / str(request.param)


def test_it_ends_well_and_tells_the_tree_the_events_and_the_plots(done: Done, kept: Path) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    live, tree = done.stdout.split("The RunDB\n")
    for name in ACQUISITIONS:
        assert str(kept / "data" / "demo" / name / "plot.svg") in tree
        for event in ("acquisition.started", "acquisition.finished", "conversion.succeeded"):
            assert [line for line in live.splitlines() if event in line and name in line]
    assert tree.count("finished, complete") == len(ACQUISITIONS)
    assert "Every acquisition is complete and converted." in tree


def test_nothing_of_it_runs_on(done: Done, kept: Path) -> None:
    assert processes_of(kept) == {}
    assert '"event": "stopped"' in (kept / "service.log").read_text()
    assert (kept / "producers.log").read_text() == ""


def test_every_producer_has_marked_what_it_has_written(acquisition: Path) -> None:
    metadata = json.loads((acquisition / "acquisition.json").read_text())
    assert (metadata["state"], metadata["verdict"]) == ("finished", "complete")
    summaries = {mark["producer"]: mark["summary"] for mark in metadata["producers"]}
    assert set(summaries) == set(PRODUCERS)
    for producer, summary in summaries.items():
        file = acquisition / f"{producer}.raw"
        head, rows = read_raw(file)
        assert summary["bytes"] == file.stat().st_size
        assert summary["samples"] == len(rows)
        assert summary["samples"] + summary["missed"] == 200
        assert len(head["channels"]) == PRODUCERS[producer]
        times = [row[0] for row in rows]
        assert times == sorted(times)
        assert times[-1] - times[0] <= 200 * head["period_s"]


def test_the_table_holds_every_sample_and_the_rates_of_the_counters(acquisition: Path) -> None:
    with (acquisition / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    for producer in PRODUCERS:
        head, rows = read_raw(acquisition / f"{producer}.raw")
        for place, channel in enumerate(head["channels"], 1):
            column = [row[f"{producer}.{channel['name']} [{channel['unit']}]"] for row in table]
            told = [float(value) for value in column if value]
            if channel["counter"]:
                wanted = [
                    (now[place] - before[place]) * channel["scale"] / (now[0] - before[0])
                    for before, now in itertools.pairwise(rows)
                ]
            else:
                wanted = [row[place] * channel["scale"] for row in rows]
            assert told == pytest.approx(wanted, abs=0.001)
    times = [float(row["time [s]"]) for row in table]
    assert times[0] == 0
    assert times == sorted(set(times))


def test_the_plot_shows_every_channel(acquisition: Path) -> None:
    plot = ElementTree.parse(acquisition / "plot.svg").getroot()
    texts = ["".join(text.itertext()) for text in plot.iter(f"{SVG}text")]
    run, name = acquisition.parts[-2:]
    assert f"root/demo/{run}/{name}" in texts
    panels = [text for text in texts if text.startswith(("CPU", "Memory", "Disk", "Network"))]
    assert len(panels) == 4
    lines = [path.get("d", "") for path in plot.iter(f"{SVG}path") if path.get("class") == "line"]
    drawn = [line for line in lines if "L" in line]
    assert len(drawn) == sum(PRODUCERS.values())
    assert "nan" not in " ".join(lines)


def test_in_the_folder_of_an_earlier_demo_it_goes_on_and_a_failed_conversion_is_told(
    done: Done, kept: Path
) -> None:
    again = demo("--keep", str(kept))
    until(again, "acquisition.started")
    (kept / "conversions" / "convert.py").write_text("#!/bin/sh\nexit 3\n")
    ended = end_of(again)
    assert ended.returncode == 1
    assert "complete and converted" not in ended.stdout
    for run in ("run_003", "run_004"):
        assert f"The conversion of root/demo/{run}/acq_1 has failed: " in ended.stdout
    assert (kept / "data" / "demo" / ACQUISITIONS[0] / "plot.svg").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_of_it(tmp_path: Path, number: int, code: int) -> None:
    started = demo("--keep", str(tmp_path / "kept"))
    until(started, "acquisition.started")
    assert set(processes_of(tmp_path / "kept")) == {"serve", *PRODUCERS}
    started.send_signal(number)
    assert end_of(started).returncode == code
    assert processes_of(tmp_path / "kept") == {}


def test_a_producer_that_dies_is_told_and_ends_all_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    started = demo("--keep", str(folder))
    until(started, "acquisition.started")
    os.kill(processes_of(folder)["disk"], signal.SIGKILL)
    ended = end_of(started)
    assert ended.returncode == 1
    assert "The producer disk ended with exit code -9" in ended.stdout
    assert processes_of(folder) == {}


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    ended = end_of(demo("--keep", str(tmp_path)))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.fixture(params=["python", "a folder/python", f"{'deep/' * 30}python"])
def interpreter(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """This interpreter, at several places."""
    link = tmp_path / str(request.param)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(sys.executable)
    return link


def test_the_conversion_script_finds_its_interpreter_wherever_that_is(interpreter: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f"{shebang(str(interpreter))}\nimport sys\nprint(sys.argv[1:])\n")
    script.chmod(0o755)
    said = subprocess.run([script, "a b"], capture_output=True, text=True, check=True).stdout
    assert said == "['a b']\n"
