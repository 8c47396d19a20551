"""How the service is started and ended: operation.md."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.polling import eventually
from tests.support.service import HELD, Service, Settings, alive, pid_in
from tests.support.wire import Storage

Make = Callable[..., Service]


def refuses(service: Service) -> str:
    """What a service says that must refuse to start, with exit code 2."""
    assert service.launch().wait(30) == 2, service.log_text()
    said = service.log_text()
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(own_service: Make, number: int) -> None:
    service = own_service()
    with service.connect() as wire:
        Storage(wire, "s", brg_name="g").open().run()
    assert service.signal(number) == 0
    service.start()
    with service.connect() as wire:
        assert wire.call("get_run", run_id="root/g/run")


def test_a_running_conversion_gets_term_and_is_queued_anew(own_service: Make) -> None:
    service = own_service()
    service.script("held.sh", HELD.replace("echo", "trap 'echo > \"$ACQ_DIR/term\"; exit 1' TERM\necho", 1))
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g").open()
        storage.run()
        acq = storage.acq(convert_script="held.sh")
        storage.close(acq)
    folder = Path(acq["location"]["local_path"])
    pid = pid_in(folder / "pid-1")
    assert service.terminate() == 0
    assert not alive(pid)
    assert (folder / "term").exists()
    service.start()
    assert pid_in(folder / "pid-2")
    (folder / "go").touch()
    with service.connect() as wire:

        def conversion() -> dict[str, object]:
            found: dict[str, object] = wire.call("list_conversions", acq_id=acq["acq_id"])["conversions"][0]
            return found

        eventually(lambda: conversion()["state"] == "succeeded")
        assert conversion()["attempt"] == 2
        assert wire.journal(topics=["conversion.failed/"]) == []


def test_a_conversion_that_ignores_term_does_not_hold_the_end(own_service: Make) -> None:
    service = own_service()
    service.script("deaf.sh", HELD.replace("echo", "trap '' TERM\necho", 1))
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g").open()
        storage.run()
        acq = storage.acq(convert_script="deaf.sh")
        storage.close(acq)
    pid = pid_in(Path(acq["location"]["local_path"]) / "pid-1")
    assert service.terminate() == 0
    assert not alive(pid)


def test_a_second_service_on_the_same_state_refuses_to_start(own_service: Make) -> None:
    first = own_service()
    second = own_service(start=False, name="second")
    second.config.write_text(second.config.read_text().replace('"var"', f'"{first.state}"'))
    assert second.launch().wait(30) != 0
    said = second.log_text()
    assert str(first.pid) in said
    assert "Traceback" not in said
    with first.connect() as wire:
        assert wire.call("ping")


def test_the_state_is_free_again_after_a_kill(own_service: Make) -> None:
    first = own_service()
    second = own_service(start=False, name="second")
    second.config.write_text(second.config.read_text().replace('"var"', f'"{first.state}"'))
    first.kill()
    second.start()


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"conversion": {"colour": "red"}}, ("conversion", "colour")),
        ({"colours": {"red": 1}}, ("colours",)),
        ({"conversion": {"max_parallel": "many"}}, ("conversion", "max_parallel")),
        ({"endpoints": {"commands": 5570}}, ("endpoints", "commands")),
        ({"limits": {"frame_bytes": "big"}}, ("limits", "frame_bytes")),
    ],
)
def test_a_configuration_that_is_wrong_ends_the_start_with_one_sentence(
    own_service: Make, settings: Settings, path: tuple[str, ...]
) -> None:
    said = refuses(own_service(settings, start=False))
    assert all(part in said for part in path)


def test_a_state_folder_that_is_none_ends_the_start(own_service: Make) -> None:
    service = own_service(start=False)
    service.state.write_text("a file")
    assert "state_dir" in refuses(service)


def test_a_wrong_value_in_the_environment_is_as_wrong_as_one_in_the_file(own_service: Make) -> None:
    environment = {"STORAGE_SERVICE__CONVERSION__MAX_PARALLEL": "many"}
    assert "max_parallel" in refuses(own_service(start=False, environment=environment)).lower()


def test_the_environment_goes_before_the_file(own_service: Make, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    service = own_service(start=False)
    service.commands = f"ipc://{tmp_path}/other.ipc"
    service.environment = {
        "STORAGE_SERVICE__ENDPOINTS__COMMANDS": service.commands,
        "STORAGE_SERVICE__MOUNTS": json.dumps({"file:///elsewhere": str(tmp_path / "elsewhere")}),
        "STORAGE_SERVICE__LIMITS__FRAMES_PER_MESSAGE": "7",
    }
    service.start()
    with service.connect() as wire:
        assert wire.call("describe")["limits"]["frames_per_message"] == 7
        mounts = [mount["mp"] for mount in wire.call("get_status")["mounts"]]
        assert "file:///elsewhere" in mounts


def test_limits_of_the_file_are_kept_and_told(own_service: Make) -> None:
    service = own_service({"limits": {"frame_bytes": 4096, "frames_per_message": 3}})
    with service.connect() as wire:
        limits = wire.call("describe")["limits"]
        assert (limits["frame_bytes"], limits["frames_per_message"]) == (4096, 3)
        assert wire.exchange(b"x" * 4097)[0]["error"]["code"] == "too_large"
        assert [reply["error"]["code"] for reply in wire.exchange(*[b"x"] * 4)] == ["too_large"]
        assert len(wire.exchange(*[b"x"] * 3)) == 3


def test_without_a_file_named_the_one_in_the_working_folder_is_taken(own_service: Make) -> None:
    service = own_service(start=False)
    service.config.write_text(service.config.read_text() + "\n[colours]\n")
    ended = subprocess.run(
        [sys.executable, "-m", "storage_service", "serve"],
        cwd=service.folder,
        env={key: value for key, value in os.environ.items() if not key.startswith("STORAGE_SERVICE__")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert "colours" in ended.stderr


def test_the_open_net_needs_a_word_of_consent(own_service: Make) -> None:
    service = own_service({"endpoints": {"commands": "tcp://0.0.0.0:55701"}}, start=False)
    assert service.launch().wait(30) != 0
    assert "insecure" in service.log_text()


def test_a_mount_that_is_not_there_is_a_warning_and_no_obstacle(own_service: Make) -> None:
    service = own_service({"mounts": {"file:///": "data", "file:///gone": "gone"}})
    with service.connect() as wire:
        assert Storage(wire, "s", brg_name="g").open().run()
        gone = Storage(wire, "t", brg_name="h", brg_mp="file:///gone")
        gone.call("init_storage", **gone.arguments)
        assert gone.refusal("config_storage").code == "unavailable"
        (told,) = [mount for mount in wire.call("get_status")["mounts"] if mount["mp"] == "file:///gone"]
        assert told["state"]
