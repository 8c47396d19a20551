"""The command line with the real service: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Storage, Wire

Plan = Callable[..., Storage]
Done = subprocess.CompletedProcess[str]

COMMAND = [sys.executable, "-m", "storage_service"]


def run(*words: str, environment: Mapping[str, str] | None = None) -> Done:
    """The command line with these words, to its end."""
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("STORAGE_SERVICE__")}
    surroundings |= environment or {}
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, timeout=60, env=surroundings, check=False
    )


@pytest.fixture
def cli(service: Service) -> Callable[..., Done]:
    """The command line against the shared service."""

    def ask(*words: str) -> Done:
        return run(words[0], "--endpoint", service.commands, *words[1:])

    return ask


@pytest.fixture
def nobody() -> str:
    """An endpoint where no service is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def good(done: Done) -> str:
    """The output of a command line that went well."""
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_call_shows_the_result_as_json(cli: Callable[..., Done]) -> None:
    text = good(cli("call", "describe"))
    assert json.loads(text)["protocol"] == 1
    assert len(text.splitlines()) > 10
    assert len(good(cli("call", "ping", "--compact")).splitlines()) == 1


def test_call_reads_values_as_json_and_otherwise_as_text(cli: Callable[..., Done], storage: Storage) -> None:
    here = f"storage_id={storage.storage_id}"
    made = json.loads(good(cli("call", "new_run_storage", here, "run_name=r1", 'params={"x": 1}')))
    assert made["params"] == {"x": 1}
    good(cli("call", "new_run_storage", here, 'run_name="12"'))
    acq = json.loads(
        good(cli("call", "new_acq_storage", here, "run_name=r1", "acq_name=a/b", "producers_count=2"))
    )
    assert acq["expected"] == 2
    for value in ("1.5", "true", "null", "hello world", '"7"', "007", "a=b", "NaN"):
        good(
            cli(
                "call",
                "set_param_acq_storage",
                here,
                f"acq_id={acq['acq_id']}",
                f"param=p {value}",
                f"value={value}",
            )
        )
    assert storage.wire.call("get_acq", acq_id=acq["acq_id"])["params"] == {
        "p 1.5": 1.5,
        "p true": True,
        "p null": None,
        "p hello world": "hello world",
        'p "7"': "7",
        "p 007": "007",
        "p a=b": "a=b",
        "p NaN": "NaN",
    }


@pytest.mark.parametrize("content", [b"<a>\xe9</a>\n", "<a>é</a>\r\n".encode(), b""])
def test_call_takes_what_a_file_has(
    cli: Callable[..., Done], storage: Storage, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "setup.xml").write_bytes(content)
    here = f"storage_id={storage.storage_id}"
    told = json.loads(good(cli("call", "set_config_storage", here, f"document=@{tmp_path}/setup.xml")))
    assert told == {"blake3": blake3(content).hexdigest()}


def test_call_with_the_same_key_gives_the_same_answer(cli: Callable[..., Done], storage: Storage) -> None:
    words = ("call", "new_run_storage", f"storage_id={storage.storage_id}", "run_name=r{n}")
    first = good(cli(*words, "--key", f"cli-{storage.storage_id}"))
    assert good(cli(*words, "--key", f"cli-{storage.storage_id}")) == first
    assert good(cli(*words)) != first


def test_a_refusal_is_one_sentence_and_exit_code_1(cli: Callable[..., Done]) -> None:
    done = cli("call", "get_storage", "storage_id=nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("not_found: ")
    assert "nobody" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_command_is_answered_by_the_service(cli: Callable[..., Done]) -> None:
    done = cli("call", "get_storag", "storage_id=s")
    assert done.returncode == 1
    assert done.stderr.startswith("unknown_command: ")
    assert "get_storage" in done.stderr


@pytest.mark.parametrize("words", [("call", "ping"), ("watch",), ("story", "root/a")])
def test_a_service_that_is_not_there_is_one_sentence_at_once(nobody: str, words: tuple[str, ...]) -> None:
    began = time.monotonic()
    done = run(*words, "--endpoint", nobody)
    # The client alone would go on asking for thirty seconds.
    assert time.monotonic() - began < 20
    assert (done.returncode, done.stdout) == (3, "")
    assert nobody in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_endpoint_comes_from_the_environment_too(service: Service) -> None:
    name = "STORAGE_SERVICE__ENDPOINTS__COMMANDS"
    good(run("call", "ping", environment={name: service.commands}))


@pytest.mark.parametrize(
    "words",
    [
        ("call",),
        ("call", "ping", "x"),
        ("call", "ping", "=1"),
        ("call", "ping", "a=1", "a=2"),
        ("call", "ping", "a=@/nowhere/setup.xml"),
        ("story",),
        ("watch", "--count", "0"),
        ("watch", "--after-seq", "many"),
        ("dance",),
    ],
)
def test_wrong_usage_is_exit_code_2(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_help_and_version_need_no_service() -> None:
    assert {"call", "watch", "story", "serve", "demo"} <= set(good(run("--help")).split())
    assert good(run("--version")).strip().count(".") == 2


def test_watch_shows_history_and_ends_after_a_count(cli: Callable[..., Done], storage: Storage) -> None:
    after = storage.wire.last_seq()
    storage.run("r1", params={"x": 1})
    storage.call("set_param_run_storage", run_name="r1", param="x", value="a\x1b[31mb")
    topics = (f"run.created/{storage.storage_id}/", f"run.param_set/{storage.storage_id}/")
    words = ("watch", *topics, "--after-seq", str(after), "--count", "2")
    created, param_set = good(cli(*words)).splitlines()
    assert "run.created" in created
    assert f"{storage.group}/r1" in created
    assert "param=x" in param_set
    assert "\x1b" not in param_set
    events: list[dict[str, Any]] = [json.loads(line) for line in good(cli(*words, "--json")).splitlines()]
    assert [event["type"] for event in events] == ["run.created", "run.param_set"]
    assert events[1]["data"]["value"] == "a\x1b[31mb"


def test_watch_shows_what_happens(service: Service, wire: Wire, plan: Plan) -> None:
    watching = subprocess.Popen(
        [*COMMAND, "watch", "--endpoint", service.commands, "--json", "--count", "3", "run.created/"],
        stdout=subprocess.PIPE,
        text=True,
    )
    storage = plan(wire).open()

    def ended() -> bool:
        # It begins when it is ready, which shows only in what it prints.
        storage.run("r{n}")
        return watching.poll() is not None

    eventually(ended)
    out, _ = watching.communicate(timeout=30)
    seqs = [json.loads(line)["seq"] for line in out.splitlines()]
    assert watching.returncode == 0
    assert len(seqs) == 3
    assert seqs == sorted(seqs)


def test_an_interrupted_watch_ends_quietly(service: Service, wire: Wire) -> None:
    words = ["watch", "--endpoint", service.commands, "--after-seq", "0"]
    wire.call("new_group", name="interrupted")
    watching = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watching.stdout is not None
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=30)
    assert (watching.returncode, err) == (130, b"")


def test_a_reader_that_went_away_ends_a_watch_quietly(service: Service, wire: Wire) -> None:
    words = ["watch", "--endpoint", service.commands, "--after-seq", "0"]
    wire.call("new_group", name="piped")
    watching = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watching.stdout is not None
    watching.stdout.readline()
    watching.stdout.close()
    number = iter(range(1_000_000))

    def ended() -> bool:
        wire.call("new_group", name=f"piped-{next(number)}")
        return watching.poll() is not None

    eventually(ended)
    assert watching.stderr is not None
    assert watching.stderr.read() == b""
    watching.stderr.close()
    assert watching.returncode == 141


def test_story_tells_the_life_of_an_acquisition(cli: Callable[..., Done], storage: Storage) -> None:
    storage.run("r1")
    acq = storage.acq("a", "r1", params={"x": 1})
    storage.mark(acq, "ecal", summary={"events": 5})
    eventually(lambda: storage.wire.call("get_acq", acq_id=acq["acq_id"])["sealed"])
    lines = eventually(lambda: len(told := good(cli("story", acq["acq_id"])).splitlines()) > 4 and told)
    types = ["acquisition.started", "acquisition.producer_finished", "acquisition.finished", "acquisition.sealed"]
    types.append("acquisition.manifest_written")
    assert [next(word for word in line.split() if word.startswith("acquisition.")) for line in lines] == types
    assert "producer=ecal" in lines[1]
    assert all("+" in line for line in lines)
    events = [json.loads(line) for line in good(cli("story", acq["run_id"], "--json")).splitlines()]
    assert [event["type"] for event in events] == ["run.created", *types]


def test_the_story_of_nothing_is_one_sentence(cli: Callable[..., Done]) -> None:
    done = cli("story", "root/nothing/here")
    assert (done.returncode, done.stdout) == (1, "")
    assert "root/nothing/here" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_installed_command_is_there() -> None:
    installed = Path(sys.executable).with_name("storage-service")
    done = subprocess.run([installed, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert good(done).strip()
