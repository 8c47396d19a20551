"""Many clients in one loop: each has a socket and a life that asks; what is not answered is asked again."""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterable
from typing import Any

import zmq

from tests.support.wire import read_reply
from tests.torture.asked import Asked, next_id

# What a life asks in one go, or seconds to wait; it is given the commands back when all of them are settled.
Life = Generator["list[Asked] | float", "list[Asked]", None]

REPEAT_S = 1.5
AGAIN_S = 0.1


class Client:
    """One life and its connection."""

    def __init__(self, life: Life, endpoint: str, proxied: bool) -> None:
        self.life = life
        self.endpoint = endpoint
        self.proxied = proxied
        self.socket: zmq.Socket[bytes] | None = None
        self.line = 0
        self.asked: list[Asked] = []
        self.waiting: dict[int, Asked] = {}
        self.begun = False
        self.ended = False
        self.due = 0.0


class Crew:
    """All clients. `book` has every keyed command by its id; `found` what their replies contradict."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.book: dict[int, Asked] = {}
        self.proxied: set[int] = set()
        self.found: list[str] = []
        self.acknowledged = 0
        self.repeated = 0
        self.tick = 0
        self.resting = False
        self._clients: list[Client] = []
        self._of_id: dict[int, Client] = {}
        self._poller = zmq.Poller()
        self._of_socket: dict[zmq.Socket[bytes], Client] = {}
        self._lines = 0
        self._aliases: dict[int, int] = {}

    def hire(self, life: Life, endpoint: str, *, proxied: bool = False) -> None:
        """Give a life a client of its own."""
        self._clients.append(Client(life, endpoint, proxied))

    def close(self) -> None:
        """Close every connection."""
        for socket in self._of_socket:
            socket.close(0)

    @property
    def busy(self) -> bool:
        """Whether any command has no answer yet."""
        return any(client.waiting for client in self._clients)

    def unanswered(self) -> list[Asked]:
        """The commands without an answer."""
        return [asked for client in self._clients for asked in client.waiting.values()]

    def pump(self, seconds: float, enough: int | None = None) -> None:
        """Let everybody live for so long, or until so many more commands are acknowledged."""
        until = time.monotonic() + seconds
        goal = None if enough is None else self.acknowledged + enough
        while (now := time.monotonic()) < until and (goal is None or self.acknowledged < goal):
            for client in self._clients:
                self._go_on(client, now)
            for socket, _ in self._poller.poll(10):
                self._hear(socket)

    def ask_on(self) -> None:
        """Let everybody ask what they have to ask, and hear nobody."""
        for client in self._clients:
            self._go_on(client, time.monotonic())

    def settle(self, patience_s: float) -> bool:
        """Ask nothing new and wait until everything is answered; whether it was."""
        self.resting = True
        deadline = time.monotonic() + patience_s
        while self.busy and time.monotonic() < deadline:
            self.pump(0.05)
        return not self.busy

    def after_a_kill(self) -> None:
        """Some notice at once that the service is gone, the others by their patience."""
        for client in self._clients:
            if client.waiting and self.chance.random() < 0.6:
                client.due = 0.0

    def repeat_answered(self, count: int) -> None:
        """Ask again, over a connection of their own, what was answered already; used while resting.

        Some of them are asked under another id, as by a client that has only kept the key.
        """
        answered = [asked for asked in self._recent() if asked.answered]
        if not answered or not self._clients:
            return
        chosen = self.chance.sample(answered, min(count, len(answered)))
        client = self._clients[0]
        self._reconnect(client)
        for asked in chosen:
            client.waiting[asked.id] = asked
            self._of_id[asked.id] = client
        others = [asked for asked in chosen if self.chance.random() < 0.3]
        self._send(client, [asked for asked in chosen if asked not in others])
        for asked in others:
            self._aliases[alias := next_id()] = asked.id
            asked.copies += 1
            self._post(client, [asked.frame(alias)])
        self.repeated += len(chosen)

    def _recent(self) -> list[Asked]:
        return [asked for asked in self.book.values() if asked.key is not None]

    def _go_on(self, client: Client, now: float) -> None:
        if client.ended or now < client.due:
            return
        if client.waiting:
            self._repeat(client, now)
            return
        if self.resting:
            return
        given = client.asked
        try:
            wish = client.life.send(given) if client.begun else next(client.life)
        except StopIteration:
            client.ended = True
            return
        client.begun = True
        if isinstance(wish, float):
            client.asked, client.due = [], now + wish
            return
        client.asked = wish
        if client.socket is None or self.chance.random() < 0.01:
            self._reconnect(client)
        for asked in wish:
            if asked.key is not None:
                self.book[asked.id] = asked
                if client.proxied:
                    self.proxied.add(asked.id)
            client.waiting[asked.id] = asked
            self._of_id[asked.id] = client
        self._send(client, wish)
        client.due = now + REPEAT_S * (1 + self.chance.random())

    def _repeat(self, client: Client, now: float) -> None:
        """Over a fresh connection, all that has no answer, in the order in which it was asked."""
        self.repeated += len(client.waiting)
        self._reconnect(client)
        self._send(client, client.waiting.values())
        client.due = now + REPEAT_S * (1 + self.chance.random())

    def _reconnect(self, client: Client) -> None:
        if client.socket is not None:
            self._poller.unregister(client.socket)
            del self._of_socket[client.socket]
            client.socket.close(0)
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        for option, value in ((zmq.LINGER, 0), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0), (zmq.RECONNECT_IVL, 20)):
            socket.setsockopt(option, value)
        socket.connect(client.endpoint)
        self._poller.register(socket, zmq.POLLIN)
        self._of_socket[socket] = client
        self._lines += 1
        client.socket, client.line = socket, self._lines

    def _send(self, client: Client, several: Iterable[Asked]) -> None:
        """In one message or in many."""
        together: list[bytes] = []
        bundle = self.chance.random() < 0.5
        for asked in several:
            self.tick += 1
            if not asked.copies:
                asked.first_sent, asked.line = self.tick, client.line
            asked.copies += 1
            together.append(asked.frame())
            if not bundle or len(together) >= 20:
                self._post(client, together)
                together = []
        if together:
            self._post(client, together)

    def _post(self, client: Client, frames: list[bytes]) -> None:
        assert client.socket is not None
        client.socket.send_multipart(frames)

    def _hear(self, socket: zmq.Socket[bytes]) -> None:
        for _ in range(64):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            for frame in frames:
                self._take(read_reply(frame), frame)

    def _take(self, reply: dict[str, Any], frame: bytes) -> None:
        self.tick += 1
        id = self._aliases.get(reply["id"], reply["id"])
        client = self._of_id.get(id)
        if client is None:
            self.found.append(f"a reply to nobody: {reply}")
            return
        asked = self.book.get(id) or client.waiting.get(id)
        if asked is None:
            return  # a second reply to a query
        new = not asked.answered
        if (wrong := asked.take(reply, frame, self.tick)) is not None:
            self.found.append(wrong)
        if new and asked.answered and asked.key is not None:
            self.acknowledged += 1
        if asked.settled:
            client.waiting.pop(asked.id, None)
            if not client.waiting:
                client.due = 0.0
        elif client.waiting:
            # It said "again": soon, and on this connection's successor.
            client.due = min(client.due, time.monotonic() + AGAIN_S * (1 + self.chance.random() * 4))
