"""`python -m bench.hostile`: what one bad peer costs a polite one, and the service's memory (promise R6).

A polite peer asks for one thing after the other, first alone and then beside each kind of bad peer, which is a
process of its own. What is printed for each: the polite peer's p50 and p99, the ratio of that p99 to the quiet one
in the same run, and by how much the service's memory grew. The promise is a ratio of at most 5 and a p99 of at
most 250 ms; nothing is judged here. Beside it stand p99 and ratio of a bare echo (bench/reference.py) with the
same peers: what the machine, the kernel and ZeroMQ make of a bad peer that nothing holds back.
"""

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import zmq

from bench.measured import LoadError
from bench.process import CHECKOUT, StartError, end_with_parent, last_words, memory_mib, reference
from bench.service import Service, running

MIB = 1 << 20
EVENTS = 256  # of 64 kB each, so that a page of the journal is as large as a reply may be
SETTLE_S = 1.0  # how long a bad peer is let begin
SILENCE_S = 30
ACQ = {"storage_id": "bench-0", "acq_id": "root/bench-0/run/acq"}

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
PING = b"\x00\x0a\x81\xa3cmd\xa4ping"


def frame(cmd: str, **args: object) -> bytes:
    """A command frame."""
    packed: bytes = msgpack.packb({"id": 1, "cmd": cmd, "args": args})
    return packed


VALUE = frame("set_param_acq_storage", **ACQ, param="flood", value=1)
REPLAY = frame("replay_events", limit=10_000)


# Bad peers: each does what it does until it is killed


def flood(endpoint: str, message: list[bytes], reads: bool, window: int) -> None:
    """Send one message over and over; at most `window` wait in its own socket."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.sndhwm, peer.rcvhwm = window, 0 if reads else 1
        peer.connect(endpoint)
        while True:
            peer.send_multipart(message)
            while reads and peer.poll(0):
                peer.recv_multipart()


def plain(endpoint: str) -> socket.socket:
    """A TCP connection."""
    host, _, port = endpoint.removeprefix("tcp://").partition(":")
    return socket.create_connection((host, int(port)))


def greeted(endpoint: str) -> socket.socket:
    """The same, when both sides have said who they are."""
    peer = plain(endpoint)
    peer.sendall(GREETING + READY)
    heard = b""
    while b"ROUTER" not in heard:
        heard += peer.recv(1) or sys.exit("the bad peer was cut before it was greeted")
    return peer


def reconnecting(endpoint: str) -> None:
    """A thousand connections a second, each of which asks for a ping and goes."""
    while True:
        due = time.monotonic() + 0.001
        with greeted(endpoint) as peer:
            peer.sendall(PING)
        time.sleep(max(due - time.monotonic(), 0))


def half_open(endpoint: str) -> None:
    """Two hundred connections that stop in the middle of the greeting, and are made again when they are cut."""
    while True:
        with contextlib.ExitStack() as stack:
            for n in range(200):
                stack.enter_context(plain(endpoint)).sendall((GREETING + READY)[: n % 80])
            time.sleep(5)


def a_byte_a_second(endpoint: str) -> None:
    """Fifty connections that send a large frame byte by byte."""
    peers = [greeted(endpoint) for _ in range(50)]
    for peer in peers:
        peer.sendall(b"\x02" + MIB.to_bytes(8, "big"))
    while True:
        for peer in peers:
            peer.sendall(b"x")
        time.sleep(1)


BAD: dict[str, Callable[[str], None]] = {
    "floods with changes, one a message": lambda to: flood(to, [VALUE], reads=True, window=1000),
    "floods with changes, 1,024 a message": lambda to: flood(to, [VALUE] * 1024, reads=True, window=10),
    "floods and never reads": lambda to: flood(to, [VALUE], reads=False, window=1000),
    "asks for pages of 4 MiB": lambda to: flood(to, [REPLAY], reads=True, window=1000),
    "asks for pages and never reads": lambda to: flood(to, [REPLAY] * 16, reads=False, window=1000),
    "sends frames of 1 MiB of garbage": lambda to: flood(to, [bytes(MIB)] * 4, reads=True, window=10),
    "reconnects 1,000 times a second": reconnecting,
    "stays half open, 200 connections": half_open,
    "sends a byte a second, 50 connections": a_byte_a_second,
}


@contextmanager
def beside(bad: str, endpoint: str) -> Iterator[None]:
    """A bad peer at work."""
    words = [sys.executable, "-m", "bench.hostile", "--bad", bad, "--endpoint", endpoint]
    process = subprocess.Popen(words, cwd=CHECKOUT, preexec_fn=end_with_parent)
    try:
        time.sleep(SETTLE_S)
        if process.poll() is not None:
            raise LoadError(f"the peer that {bad} has ended")
        yield
    finally:
        process.kill()
        process.wait()


def polite(endpoint: str, seconds: float, pid: int, is_echo: bool = False) -> tuple[list[float], float]:
    """The seconds that each command took, in order of size, and the most memory that was seen. Of an echo the
    replies are not read.

    Raises LoadError when no reply comes for SILENCE_S.
    """
    took, most, number = [], 0.0, 0
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        peer.connect(endpoint)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            number += 1
            for message in (
                frame("set_param_acq_storage", **ACQ, param="polite", value=number),
                frame("get_acq", acq_id=ACQ["acq_id"]),
                frame("list_acqs"),
                frame("ping"),
            ):
                asked = time.perf_counter()
                peer.send(message)
                if not peer.poll(SILENCE_S * 1000):
                    raise LoadError(f"the polite peer has no reply after {SILENCE_S} s")
                received = peer.recv()
                reply: dict[str, Any] = {"ok": True} if is_echo else msgpack.unpackb(received)
                took.append(time.perf_counter() - asked)
                if not reply["ok"]:
                    raise LoadError(f"the polite peer is refused: {reply['error']['message']}")
            most = max(most, memory_mib(pid))
    return sorted(took), most


def fill(service: Service) -> None:
    """Acquisitions, and a journal of large events."""
    service.open_acquisitions()
    for number in range(EVENTS):
        args: dict[str, object] = {**ACQ, "param": "large", "value": f"{number} " * 12_000}
        service.ask_all("set_param_acq_storage", [args])


def p99_ms(took: list[float]) -> float:
    """Of what is in order of size."""
    return took[int(len(took) * 0.99)] * 1e3


def show(
    title: str, took: list[float], quiet: list[float], grown: float, echo_ms: float, echo_quiet_ms: float
) -> None:
    """Print one row."""
    p50 = took[int(len(took) * 0.50)] * 1e3
    ratio, echo_ratio = p99_ms(took) / p99_ms(quiet), echo_ms / echo_quiet_ms
    print(
        f"  {title:40}{len(took):9,}{p50:9.2f}{p99_ms(took):9.2f}{ratio:9.1f}{grown:+11.0f}"
        f"{echo_ms:14.2f}{echo_ratio:9.1f}",
        flush=True,
    )


def bench(folder: Path, seconds: float, kinds: list[str]) -> None:
    """Measure and print everything.

    Raises StartError and LoadError when the service does not start or does not last.
    """
    print(
        f"  {'beside a peer that':40}{'commands':>9}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>9}{'memory MiB':>11}"
        f"{'echo: p99 ms':>14}{'ratio':>9}"
    )
    with running(folder) as service, reference("echo", folder) as (echo, _):

        def echoed() -> float:
            return p99_ms(polite(echo, seconds, service.pid, is_echo=True)[0])

        fill(service)
        start = memory_mib(service.pid)
        quiet, _ = polite(service.endpoint, seconds, service.pid)
        echo_quiet = echoed()
        show("(nobody)", quiet, quiet, 0.0, echo_quiet, echo_quiet)
        for bad in kinds:
            with beside(bad, service.endpoint):
                try:
                    took, most = polite(service.endpoint, seconds, service.pid)
                except LoadError as failure:
                    raise LoadError(f"{bad}: {failure}; {last_words(folder / 'service.log')}") from failure
            with beside(bad, echo):
                echo_ms = echoed()
            show(bad, took, quiet, most - start, echo_ms, echo_quiet)
            time.sleep(SETTLE_S)
        after, _ = polite(service.endpoint, seconds, service.pid)
        show("(nobody, afterwards)", after, quiet, memory_mib(service.pid) - start, echoed(), echo_quiet)


def main() -> None:
    """Exit code 0 whatever the figures, 1 when the service does not last."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.hostile", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=5.0, metavar="N", help="length of each row (default 5)")
    parser.add_argument("--only", metavar="TEXT", default="", help="only the bad peers whose name has it")
    parser.add_argument("--folder", type=Path, default=CHECKOUT, metavar="DIR", help="where the state is made")
    parser.add_argument("--bad", choices=BAD, help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.bad:
        with contextlib.suppress(KeyboardInterrupt, OSError):
            BAD[chosen.bad](chosen.endpoint)
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with tempfile.TemporaryDirectory(prefix=".bench-", dir=chosen.folder) as folder:
            bench(Path(folder).resolve(), chosen.seconds, [bad for bad in BAD if chosen.only in bad])
    except (StartError, LoadError) as failure:
        sys.exit(f"bench: {failure}")


if __name__ == "__main__":
    main()
