"""The references: what the wire alone costs, what the wire and a synced commit cost, and what a loop adds to that.

`python -m bench.reference echo ENDPOINT` answers each command frame and does nothing else. `store ENDPOINT DBFILE`
also decodes it and writes a journal, a parameter and a key row, one synced commit for all that it took from the
socket at once, before it answers. `loop ENDPOINT DBFILE` does the same in an asyncio loop and has a thread write,
as a service must that still answers while a disk is slow. None decides anything: the distance is what the
service's rules cost.
The endpoint bound is its one line of output, when it is ready; ENDPOINT may be a wildcard (`tcp://127.0.0.1:*`).
"""

import asyncio
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Thread

import apsw
import msgpack
import zmq

DRAIN = 512  # messages taken from the socket before they are written and answered
Taken = list[tuple[list[bytes], list[bytes]]]  # messages: identity and delimiter; command frames
TABLES = """
CREATE TABLE journal (seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, type TEXT NOT NULL,
    storage_id TEXT NOT NULL, subject TEXT NOT NULL, data BLOB NOT NULL) STRICT;
CREATE TABLE parameter (acq_id TEXT, param TEXT, value BLOB, PRIMARY KEY (acq_id, param)) STRICT, WITHOUT ROWID;
CREATE TABLE key (key TEXT PRIMARY KEY, reply BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""
JOURNAL = (
    "INSERT INTO journal (time, type, storage_id, subject, data) VALUES (?, 'acquisition.param_set', ?, ?, ?)"
)
PARAMETER = "INSERT INTO parameter VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
KEY = "INSERT INTO key VALUES (?, ?)"


def reply(frame: bytes) -> bytes:
    """What the service answers. The load's frames begin `{"v": 1, "id": <32 bits>`: the id is bytes 7 to 11."""
    return b"\x84\xa1v\x01\xa2id" + frame[7:12] + b"\xa2ok\xc3\xa6result\x81\xa6stored\xc3"


class Store:
    """A database that is given the rows of many commands in one synced commit."""

    def __init__(self, path: str) -> None:
        self.database = apsw.Connection(path)
        self.database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" + TABLES).fetchall()

    def write(self, frames: list[bytes]) -> None:
        now = datetime.now(UTC).isoformat()
        journal, parameters, keys = [], [], []
        for frame in frames:
            command = msgpack.unpackb(frame)
            args, param, value = command["args"], command["args"]["param"], command["args"]["value"]
            data = msgpack.packb({"param": param, "value": value})
            journal.append((now, args["storage_id"], args["acq_id"], data))
            parameters.append((args["acq_id"], param, msgpack.packb(value)))
            keys.append((command["key"], reply(frame)))
        self.database.execute("BEGIN IMMEDIATE")
        self.database.executemany(JOURNAL, journal)
        self.database.executemany(PARAMETER, parameters)
        self.database.executemany(KEY, keys)
        self.database.execute("COMMIT")


def take(socket: zmq.Socket[bytes]) -> Taken:
    """What is in the socket."""
    messages: Taken = []
    with suppress(zmq.Again):
        while len(messages) < DRAIN:
            parts = socket.recv_multipart(zmq.NOBLOCK)
            head = 2 if parts[1] == b"" else 1
            messages.append((parts[:head], parts[head:]))
    return messages


def answer(socket: zmq.Socket[bytes], messages: Taken) -> None:
    """Reply to every command."""
    for address, frames in messages:
        socket.send_multipart(address + [reply(frame) for frame in frames])


def serve(socket: zmq.Socket[bytes], store: Store | None) -> None:
    """Take what is there, write it, answer it; for ever."""
    while socket.poll():
        messages = take(socket)
        if store:
            store.write([frame for _, frames in messages for frame in frames])
        answer(socket, messages)


async def serve_in_loop(socket: zmq.Socket[bytes], store: Store) -> None:
    """The same in the running loop, which writes in a thread: what comes meanwhile is in its next commit."""
    loop = asyncio.get_running_loop()
    given: SimpleQueue[Taken] = SimpleQueue()
    is_out = False

    def write() -> None:
        try:
            while True:
                messages = given.get()
                store.write([frame for _, frames in messages for frame in frames])
                loop.call_soon_threadsafe(written, messages)
        except apsw.Error as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)

    def written(messages: Taken) -> None:
        nonlocal is_out
        is_out = False
        answer(socket, messages)
        turn()

    def turn() -> None:
        nonlocal is_out
        # Its descriptor tells of what comes only when EVENTS was looked at after the last call on the socket.
        if socket.getsockopt(zmq.EVENTS) & zmq.POLLIN and not is_out:
            is_out = True
            given.put(take(socket))

    Thread(target=write, daemon=True).start()
    loop.add_reader(socket.getsockopt(zmq.FD), turn)
    turn()
    await asyncio.Event().wait()


def main(kind: str, endpoint: str, *database: str) -> None:
    """Be the reference of this kind."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(endpoint)
        store = Store(*database) if kind != "echo" else None
        print(socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
        if kind == "loop" and store:
            asyncio.run(serve_in_loop(socket, store))
        else:
            serve(socket, store)


if __name__ == "__main__":
    main(*sys.argv[1:])
