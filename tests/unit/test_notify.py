"""What systemd is told."""

import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from storage_service.notify import notify


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(30)
        yield receiver


def test_a_state_reaches_the_socket(
    receiver: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a short name: the address of a socket has 107 bytes
    receiver.bind("notify")
    monkeypatch.setenv("NOTIFY_SOCKET", "notify")
    notify("READY=1\nSTATUS=takes commands")
    assert receiver.recv(4096) == b"READY=1\nSTATUS=takes commands"


def test_a_state_reaches_an_abstract_socket(receiver: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"storage-service-{uuid.uuid4()}"
    receiver.bind(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    notify("STOPPING=1")
    assert receiver.recv(4096) == b"STOPPING=1"


@pytest.mark.parametrize("address", [None, ""])
def test_without_a_socket_nothing_happens(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    with structlog.testing.capture_logs() as logged:
        notify("READY=1")
    assert logged == []


@pytest.mark.parametrize("address", ["/nowhere/at/all", "/" + "x" * 200, "@nobody-is-bound-here"])
def test_a_socket_that_nobody_reads_is_logged_and_not_raised(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with structlog.testing.capture_logs() as logged:
        notify("READY=1")
    assert [(line["log_level"], line["address"]) for line in logged] == [("warning", address)]
