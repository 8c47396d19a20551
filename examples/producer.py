"""A producer: plain ZeroMQ and msgpack. python producer.py [ENDPOINT]"""

import pathlib
import sys

import msgpack
import zmq

socket = zmq.Context().socket(zmq.REQ)
socket.LINGER, socket.RCVTIMEO = 0, 10_000  # milliseconds: a service that is not there is an error, not a wait
socket.connect(sys.argv[1] if sys.argv[1:] else "tcp://127.0.0.1:5570")


def ask(cmd, **args):
    socket.send(msgpack.packb({"cmd": cmd, "args": {"storage_id": "example", **args}}))
    reply = msgpack.unpackb(socket.recv())
    return reply["result"] if reply["ok"] else sys.exit(reply["error"]["message"])


ask("init_storage", brg_name="examples", brg_path="examples")
ask("config_storage")
run = ask("new_run_storage", run_name="run_{n}", params={"voltage": 200})
acq = ask("new_acq_storage", run_name=run["run_name"], acq_name="first")
size = pathlib.Path(acq["location"]["local_path"], "data.bin").write_bytes(bytes(range(256)))
print(ask("mark_as_finished_storage", acq_id=acq["acq_id"], summary={"bytes": size}))
