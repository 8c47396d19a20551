"""A subscriber: plain ZeroMQ and msgpack. python subscriber.py [ENDPOINT]"""

import sys

import msgpack
import zmq

socket = zmq.Context().socket(zmq.SUB)
socket.connect(sys.argv[1] if sys.argv[1:] else "tcp://127.0.0.1:5571")
socket.subscribe("acquisition.finished/")
while True:
    topic, body = socket.recv_multipart()
    event = msgpack.unpackb(body)
    print(event["time"], event["subject"], event["data"]["verdict"], flush=True)
