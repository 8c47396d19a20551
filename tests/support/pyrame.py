"""A stand-in for modules of Pyrame, which bears what real ones were seen to bear (version 2.1.3), and no more.

It is one varmod and one cmod, on a thread for each connection. What a real one does not survive is the end of it,
too, and `died` says of what.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from xml.parsers import expat

REQUEST_BYTES = 1024


@dataclass(frozen=True)
class Raw:
    """An answer as bytes, whatever they are, `piece` of them at a time; with `cut` the connection ends behind."""

    data: bytes
    cut: bool = False
    piece: int = 1 << 30


@dataclass(frozen=True)
class Silence:
    """No answer, ever, behind these bytes."""

    data: bytes = b""


@dataclass(frozen=True)
class Flood:
    """An answer without an end, begun with these bytes."""

    data: bytes = b""


class _Died(Exception):
    pass


def answer(retcode: int, text: bytes) -> bytes:
    """As a module writes it, `]]>` in the text split over two sections."""
    split = text.replace(b"]]>", b"]]]]><![CDATA[>")
    return b'<res retcode="%d"><![CDATA[%s]]></res>\n' % (retcode, split)


class PyrameModule:
    """Listens at `address`. `say` is what is answered next, before anything that is asked for is looked at.

    requests    every line that came
    peers       connections that are there, `most_peers` the most there ever were at once, `all_peers` all
    died        why it is not there any more
    flooded     bytes of answers without an end that were taken
    """

    def __init__(self, dialect: int = 2) -> None:
        self.variables: dict[tuple[str, ...], bytes] = {}
        self.document = b""
        self.say: deque[Raw | Silence | Flood] = deque()
        self.requests: list[bytes] = []
        self.peers = self.most_peers = self.all_peers = 0
        self.died = ""
        self.flooded = 0
        self._words = {2: 2, 3: 3}[dialect]
        self._mutex = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Not there any more; every connection is cut."""
        with self._mutex:
            sockets = [self._listener, *self._sockets]
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # or a thread that waits on it would not notice
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with self._mutex:
                self._sockets.add(peer)
                self.peers += 1
                self.all_peers += 1
                self.most_peers = max(self.peers, self.most_peers)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._threads.append(threading.Thread(target=self._serve, args=(peer,), daemon=True))
            self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            while line := _read_line(peer):
                self.requests.append(line)
                self._reply(peer, line)
        except _Died as death:
            self.died = str(death)
            for each in (self._listener, *self._sockets):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        with self._mutex:
            self.peers -= 1
            self._sockets.discard(peer)
            peer.close()

    def _reply(self, peer: socket.socket, line: bytes) -> None:
        match self.say.popleft() if self.say else None:
            case Raw(data, cut, piece):
                for at in range(0, len(data), piece):
                    peer.sendall(data[at : at + piece])
                if cut:
                    raise ConnectionResetError
            case Silence(data):
                peer.sendall(data)
                while peer.recv(4096):
                    pass
                raise ConnectionResetError
            case Flood(data):
                while True:
                    peer.sendall(data)
                    self.flooded += len(data)
                    data = b"x" * 65536
            case None:
                peer.sendall(self._carried_out(*understood(line)))

    def _carried_out(self, command: str, params: list[str]) -> bytes:
        if command == "gener_config_cmod" and not params:
            return answer(1, self.document)
        if command == "getvar_varmod" and len(params) == self._words:
            value = self.variables.get(tuple(params))
            return answer(0, b"no such variable") if value is None else answer(1, value)
        return answer(0, b"unknown function or wrong number of parameters")


def _read_line(peer: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        data = peer.recv(4096)
        if not data:
            return b""
        line += data
        if len(line) > REQUEST_BYTES:
            raise _Died("a request was too long")
        if b"\n" in line[:-1]:
            raise _Died("two requests at once")
    return line


def understood(line: bytes) -> tuple[str, list[str]]:
    """The command and its parameters as a real module takes them. What kills one raises an exception.

    Of a parameter's text it keeps what its parser told last: an entity, or a second section of CDATA, loses what
    stands before it.
    """
    parser = expat.ParserCreate("UTF-8")
    command, params, inside = "", [], ""

    def on_start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal command, inside
        inside = tag
        if tag == "cmd":
            command = attributes["name"]
        else:
            params.append("")

    def on_end(tag: str) -> None:
        nonlocal inside
        inside = "cmd" if tag == "param" else ""

    def on_text(text: str) -> None:
        if inside != "param":
            raise _Died("there was text between the tags")
        params[-1] = text

    parser.StartElementHandler = on_start
    parser.EndElementHandler = on_end
    parser.CharacterDataHandler = on_text
    try:
        parser.Parse(line, True)
    except expat.ExpatError as error:
        raise _Died(f"a request was no XML: {error}") from error
    for text in params:
        if '"' in text or text.endswith("\\"):
            raise _Died("a parameter was run as code")
    return command, params
