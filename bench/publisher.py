"""The bare PUB that finishes are held against: the same bytes to the same subscribers at the same pace.

`python -m bench.publisher ENDPOINT` prints the endpoint bound and says every HELLO_S that it is there, until a
line names a file: msgpack, [seconds after the start, topic, body] for each message. At the end it prints when it
sent each, in seconds since 1970, as a list of JSON.
"""

import json
import select
import sys
import time
from pathlib import Path

import msgpack
import zmq

from bench.audience import HEARTBEAT

HELLO_S = 0.02


def publish(socket: "zmq.Socket[bytes]", schedule: list[tuple[float, bytes, bytes]]) -> list[float]:
    """Send each message when it is due; when that was, in seconds since 1970."""
    sent, start = [], time.perf_counter()
    for after_s, topic, body in schedule:
        time.sleep(max(start + after_s - time.perf_counter(), 0))
        sent.append(time.time())
        socket.send(topic, zmq.SNDMORE)
        socket.send(body)
    return sent


def main(endpoint: str) -> None:
    """Be there; send what a line names; say when; stay until the end of the input."""
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.sndhwm, socket.linger = 0, 0
        socket.bind(endpoint)
        print(socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
        while not select.select([sys.stdin], [], [], HELLO_S)[0]:
            socket.send_multipart([HEARTBEAT, b""])
        schedule = msgpack.unpackb(Path(sys.stdin.readline().strip()).read_bytes())
        print(json.dumps(publish(socket, schedule)), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
