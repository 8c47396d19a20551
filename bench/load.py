"""The load generator: keeps a window of commands outstanding on each connection and counts the good answers.

A process of its own (`python -m bench.load`, a `Load` as JSON on standard input, a `Measured` as JSON on standard
output), so that its CPU is told apart from the server's. Everything that it sends is encoded before the clock
starts, and replies are not decoded: a good one holds the bytes of `"ok": true`, and its id stands behind those
of `"id"`. Commands carry neither `uid` nor `segment`.
"""

import dataclasses
import gc
import json
import os
import subprocess
import sys
import time

import msgpack
import zmq

from bench.measured import LoadError, Measured, Tally, cpu_s
from bench.process import CHECKOUT, end_with_parent

PARAMS = 50  # different names an acquisition: well below the service's limit of 1,024
FIRST_ID = 1 << 16  # from here on msgpack writes an id as 0xce and four bytes
ID = b"\xa2id\xce"
OK = b"\xa2ok\xc3"

WARM_UP_S = 0.3
WARM_UP_COMMANDS = 20_000  # at most
MARGIN = 1.6  # so many times what the warm-up's rate would use up is encoded
POOL_COMMANDS = 600_000  # encoded at most; a run that has used them up ends early
SILENCE_S = 30  # without any reply: the server is taken for dead


@dataclasses.dataclass(frozen=True)
class Load:
    """What one run sends, and to whom."""

    endpoint: str
    server_pid: int
    places: list[tuple[str, str]]  # (storage_id, acq_id); one connection for each
    window: int  # messages outstanding on each connection
    frames: int  # commands a message
    seconds: float  # how long new messages are sent


def measure(load: Load, *generator: str) -> Measured:
    """Run a load in a process of its own: of this module, or of the one that is named with its words.

    Raises LoadError when that process fails, with its last words.
    """
    done = subprocess.run(
        [sys.executable, "-m", *(generator or ("bench.load",))],
        input=json.dumps(dataclasses.asdict(load)),
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        preexec_fn=end_with_parent,
        check=False,
    )
    if done.returncode != 0:
        raise LoadError((done.stderr.strip().splitlines() or ["the load generator failed without a word"])[-1])
    return Measured(**json.loads(done.stdout))


def uuid7s(count: int) -> list[str]:
    """Fresh UUIDv7 keys, in the order of their times to a millisecond."""
    keys = []
    random = os.urandom(count * 10).hex()
    for at in range(0, count * 20, 20):
        ms = f"{time.time_ns() // 1_000_000:012x}"
        r = random[at : at + 20]
        keys.append(f"{ms[:8]}-{ms[8:]}-7{r[:3]}-{'89ab'[int(r[3], 16) & 3]}{r[4:7]}-{r[7:19]}")
    return keys


class Connection:
    """One DEALER socket, the messages that it will send and when each was sent."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", load: Load, place: tuple[str, str]) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(load.endpoint)
        self.storage_id, self.acq_id = place
        self.frames = load.frames
        self.messages: list[list[bytes]] = []
        self.sent_at: list[float] = []  # 0.0 once it is answered
        self.value = 0

    def encode(self, keys: list[str]) -> None:
        """Replace its messages by new ones, a command for each key. Every value is another one."""
        pack = msgpack.Packer().pack
        commands = []
        for number, key in enumerate(keys):
            self.value += 1
            args = {
                "storage_id": self.storage_id,
                "acq_id": self.acq_id,
                "param": f"param_{number % PARAMS}",
                "value": self.value,
            }
            command = {"v": 1, "id": FIRST_ID + number, "cmd": "set_param_acq_storage", "args": args, "key": key}
            commands.append(pack(command))
        self.messages = [commands[at : at + self.frames] for at in range(0, len(keys), self.frames)]
        self.sent_at = []

    def send(self, count: int) -> int:
        """Send the next `count` messages, or as many as are left; how many there were."""
        start = len(self.sent_at)
        messages = self.messages[start : start + count]
        send = self.socket.send
        now = time.perf_counter()
        for message in messages:
            for frame in message[:-1]:
                send(frame, zmq.SNDMORE)
            send(message[-1])
            self.sent_at.append(now)
        return len(messages)

    def receive(self) -> list[list[bytes]]:
        """The replies that are there, each with all its frames, or one where all of it was refused."""
        replies: list[list[bytes]] = []
        receive, others = self.socket.recv, range(self.frames - 1)
        try:
            while True:
                frames = [receive(zmq.NOBLOCK)]
                if others and self.socket.getsockopt(
                    zmq.RCVMORE
                ):  # asking before each frame would cost half as much again
                    frames += [receive(zmq.NOBLOCK) for _ in others]
                replies.append(frames)
        except zmq.Again:
            return replies

    def latency_s(self, reply: bytes, now: float) -> float:
        """From the send to now of the message that the reply answers.

        Raises LoadError when it answers none that is waiting.
        """
        at = reply.find(ID) + len(ID)
        number = (int.from_bytes(reply[at : at + 4], "big") - FIRST_ID) // self.frames
        if at < len(ID) or not 0 <= number < len(self.sent_at) or not self.sent_at[number]:
            raise LoadError(f"a reply that answers nothing: {reply[:200]!r}")
        latency = now - self.sent_at[number]
        self.sent_at[number] = 0.0
        return latency


def wait(poller: zmq.Poller, server_pid: int) -> list[zmq.Socket[bytes]]:
    """The sockets that have replies.

    Raises LoadError when the server has ended or no reply comes for SILENCE_S.
    """
    for _ in range(SILENCE_S):
        if ready := poller.poll(1000):
            return [socket for socket, _ in ready]
        cpu_s(server_pid)
    raise LoadError(f"the server (process {server_pid}) has not answered for {SILENCE_S} s")


def drive(connections: list[Connection], load: Load, seconds: float) -> Tally:
    """Keep the load's window outstanding on each connection for a time, then wait for the last replies.

    Raises LoadError when the server has ended or no reply comes for SILENCE_S.
    """
    tally = Tally()
    poller = zmq.Poller()
    for connection in connections:
        poller.register(connection.socket, zmq.POLLIN)
    of_socket = {connection.socket: connection for connection in connections}
    start = time.perf_counter()
    outstanding = sum(connection.send(load.window) for connection in connections)
    while outstanding:
        for socket in wait(poller, load.server_pid):
            connection = of_socket[socket]
            replies = connection.receive()
            now = time.perf_counter()
            for frames in replies:
                tally.latencies_s.append(connection.latency_s(frames[0], now))
                for frame in frames:
                    if OK in frame:
                        tally.commands += 1
                    else:
                        tally.refused(frame)
            outstanding -= len(replies)
            if now - start < seconds:
                outstanding += connection.send(len(replies))
    tally.elapsed_s = time.perf_counter() - start
    return tally


def encode(connections: list[Connection], commands: int) -> None:
    """New messages for all, `commands` in sum, in whole messages, keys rising in step on all connections."""
    frames = connections[0].frames
    each = max(commands // len(connections) // frames, 1) * frames
    keys = uuid7s(each * len(connections))
    for number, connection in enumerate(connections):
        connection.encode(keys[number :: len(connections)])


def run(load: Load) -> Measured:
    """Warm up, encode as much as the rate seen will use up, then measure.

    Raises LoadError when the server stops answering or is gone.
    """
    with zmq.Context() as context:
        connections = [Connection(context, load, place) for place in load.places]
        try:
            encode(connections, WARM_UP_COMMANDS)
            warm = drive(connections, load, WARM_UP_S)
            rate = (warm.commands + warm.refusals.total()) / warm.elapsed_s
            encode(connections, min(int(rate * load.seconds * MARGIN), POOL_COMMANDS))
            gc.disable()
            server, own = cpu_s(load.server_pid), time.process_time()
            tally = drive(connections, load, load.seconds)
            server, own = cpu_s(load.server_pid) - server, time.process_time() - own
        finally:
            for connection in connections:
                connection.socket.close()
    return tally.measured(warm, server, own)


if __name__ == "__main__":
    try:
        print(json.dumps(dataclasses.asdict(run(Load(**json.load(sys.stdin))))))
    except LoadError as failure:
        sys.exit(str(failure))
