"""The peers that are servers, each with every write synced: how they are found, configured, asked and counted."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.process import StartError, last_words, started
from bench.service import free_endpoint

START_S = 20.0
STREAM = {"name": "journal", "subjects": ["param.>"], "storage": "file", "retention": "limits", "num_replicas": 1}


class MissingError(Exception):
    """A peer is not installed; the message says what was looked for."""


@dataclass(frozen=True)
class Server:
    """A peer that runs: where, in which process, which version, and how it was told to sync."""

    endpoint: str
    pid: int
    version: str
    configured: str
    count: Callable[[], int]


def found(name: str) -> str:
    """A program of the search path, or of the environment that this runs in. Raises MissingError."""
    path = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        raise MissingError(f"there is no program {name}")
    return path


def version(*words: str) -> str:
    """What a program says of its version."""
    told = subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()
    return next((word.removeprefix("v=") for word in told if word.lstrip("v=")[:1].isdigit()), "unknown")


def exchange(endpoint: str, asked: bytes, ends: bytes) -> bytes:
    """Ask over a connection of its own, and read until the answer has `ends` in it.

    Raises OSError when nobody is there or the answer does not come.
    """
    host, _, port = endpoint.removeprefix("tcp://").partition(":")
    with socket.create_connection((host, int(port)), timeout=START_S) as peer:
        peer.sendall(asked)
        heard = b""
        while ends not in heard:
            if not (data := peer.recv(65536)):
                raise OSError(f"the peer hangs up after {heard[:200]!r}")
            heard += data
        return heard


def answering(endpoint: str, asked: bytes, ends: bytes, log: Path) -> None:
    """Wait until a peer answers. Raises StartError when it does not."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            exchange(endpoint, asked, ends)
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise StartError(f"{endpoint} does not answer: {error}; {last_words(log)}") from error
            time.sleep(0.05)


@contextmanager
def redis(folder: Path) -> Iterator[Server]:
    """Redis with its log of appends synced after each event of its loop, before it answers.

    Raises MissingError and StartError.
    """
    program, endpoint, log = found("redis-server"), free_endpoint(), folder / "redis.log"
    (folder / "redis").mkdir()
    options = {"--appendonly": "yes", "--appendfsync": "always", "--save": ""}
    port = endpoint.rpartition(":")[2]
    place = ["--bind", "127.0.0.1", "--port", port, "--dir", str(folder / "redis")]
    with started([program, *place, *(word for pair in options.items() for word in pair)], log) as process:
        answering(endpoint, b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n", log)

        def count() -> int:
            return int(exchange(endpoint, b"*2\r\n$4\r\nXLEN\r\n$7\r\njournal\r\n", b"\r\n").strip(b":\r\n"))

        told = " ".join(f"{name[2:]} {value or chr(34) * 2}" for name, value in options.items())
        work = "XADD, HSET and SET NX EX in one MULTI"
        yield Server(endpoint, process.pid, version(program, "--version"), f"{told}; {work}", count)


@contextmanager
def nats(folder: Path) -> Iterator[Server]:
    """NATS with a JetStream on files that syncs every write before it acknowledges it.

    Raises MissingError and StartError.
    """
    program, endpoint, log = found("nats-server"), free_endpoint(), folder / "nats.log"
    configuration = folder / "nats.conf"
    configuration.write_text(
        f'listen: "{endpoint.removeprefix("tcp://")}"\n'
        f'jetstream {{ store_dir: "{folder / "nats"}", sync_interval: always }}\n'
    )
    hello = b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n'
    with started([program, "-c", str(configuration)], log) as process:
        answering(endpoint, hello + b"PING\r\n", b"PONG\r\n", log)

        def ask(subject: str, body: bytes, ends: bytes) -> bytes:
            asked = b"SUB _INBOX.ask 1\r\nPUB %s _INBOX.ask %d\r\n%s\r\n" % (subject.encode(), len(body), body)
            return exchange(endpoint, hello + asked, ends)

        def count() -> int:
            told = ask("$JS.API.STREAM.INFO.journal", b"", b'"first_seq"')
            return int(told.partition(b'"messages":')[2].partition(b",")[0])

        made = ask("$JS.API.STREAM.CREATE.journal", json.dumps(STREAM).encode(), b"}\r\n")
        if b'"error"' in made:
            raise StartError(f"NATS makes no stream: {made[-300:]!r}")
        told = "sync_interval always, a stream on files, 1 replica, duplicate window 2 min; Nats-Msg-Id is the key"
        yield Server(endpoint, process.pid, version(program, "--version"), told, count)
