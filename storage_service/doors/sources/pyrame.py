"""A client of Pyrame's modules: one request and one answer at a time on a TCP connection.

What is asked is kept to what real modules were seen to bear (version 2.1.3): XML without white space between the
tags, CDATA and no entities, since they lose the text before one, at most REQUEST_BYTES, and nothing that is run as
code there. What they answer is not trusted. An answer is this, and ends with the first `]]></res>` and a newline:

    <res retcode="1"><![CDATA[42]]></res>\\n

Text that was put into CDATA properly cannot hold that end: each `]]>` in it is split over two sections.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address

from msgspec import Struct

from storage_protocol.errors import TOO_LARGE, UNAVAILABLE, shown

from ...rules.work import Fault
from .errand import Errands, StillHanging

REQUEST_BYTES = 1024
AGAIN_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Pauses after which a module that says "woken up, ask again" is asked again, before it is given up."""

FAILED, DONE, WOKEN = 0, 1, 2

_HEAD = re.compile(rb'<res retcode="(-?[0-9]{1,9})">(?:<!\[CDATA\[|</res>\n)')
_HEAD_BYTES = 64  # no head is longer
_BEGIN, _EMPTY_END, _END = b'<res retcode="', b"</res>\n", b"]]></res>\n"
_JOINT = b"]]><![CDATA["


class Unsayable(Exception):
    """A command that cannot be put into a request; the text says why, to stand behind "it"."""


class Answer(Struct, frozen=True):
    """What a module answered: whether it did what was asked, and the text, which says why where it did not."""

    done: bool
    text: bytes


def request(command: str, *params: str) -> bytes:
    """The line that asks for a command. Raises Unsayable."""
    said = "".join(f"<param>{_said(each)}</param>" for each in params)
    try:
        data = f'<cmd name="{command}">{said}</cmd>\n'.encode()
    except UnicodeEncodeError as error:
        raise Unsayable("is not Unicode text") from error
    if len(data) > REQUEST_BYTES:
        raise Unsayable(f"makes a request of {len(data)} bytes, and Pyrame takes {REQUEST_BYTES}")
    return data


def _said(text: str) -> str:
    if not text.isprintable():
        raise Unsayable("holds control characters")
    if '"' in text or text.endswith("\\"):
        raise Unsayable('holds a " or ends with a \\, which Pyrame would run as code')
    if "]]>" in text:  # to split it would lose what stands before, as with an entity
        raise Unsayable("holds ]]>, of which Pyrame would lose a part")
    return f"<![CDATA[{text}]]>" if set(text) & set("<>&") else text


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[IPv6]:port`. Raises ValueError with a sentence."""
    host, colon, port = address.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (
        colon and host and host.isprintable() and port.isascii() and port.isdecimal() and 0 < int(port) < 65536
    ):
        raise ValueError(f"{shown(address)} is no address; it must be host:port.")
    return host, int(port)


class Module:
    """A Pyrame module, called `name` in messages; asked on at most `connections` connections side by side.

    A connection lasts while questions are waiting for one, and no longer: an idle one may be dead without a sign,
    and modules come and go.
    """

    def __init__(self, name: str, address: str, most_bytes: int, connections: int = 1) -> None:
        """`most_bytes` of text are taken of an answer. Raises ValueError, see `parse_address`."""
        self._host, self._port = parse_address(address)
        self.what = f"{name} at {address}"
        self._most_bytes = most_bytes
        self._free = asyncio.Semaphore(connections)
        self._asking = 0
        self._idle: list[_Line] = []
        self._lines: set[_Line] = set()
        self._look_ups = Errands("host name")

    async def ask(self, data: bytes) -> Answer:
        """The answer to a request. When this is cancelled its connection is dropped, never half read.

        Raises Fault `unavailable` when the module cannot be reached, hangs up, answers what is no answer or never
        gets awake, and `too_large` when its answer is. Each with one sentence that has the address.
        """
        self._asking += 1
        try:
            async with self._free:
                code, text = await self._ask_once(data)
                for pause_s in AGAIN_S:
                    if code != WOKEN:
                        break
                    await asyncio.sleep(pause_s)
                    code, text = await self._ask_once(data)
        finally:
            self._asking -= 1
            if not self._asking:
                self._hang_up(self._idle)
        if code == WOKEN:
            raise self._fault("says again and again that it woke up and is to be asked again")
        if code not in (FAILED, DONE):
            raise self._fault(f"answered with the retcode {code}, which nobody knows")
        return Answer(code == DONE, text)

    async def close(self) -> None:
        """Drop all connections, and wait until they are gone."""
        lines = list(self._lines)
        self._hang_up(lines)
        for line in lines:
            await line.gone.wait()

    async def _ask_once(self, data: bytes) -> tuple[int, bytes]:
        while self._idle:
            line = self._idle.pop()
            with suppress(_HungUp):  # it was, between two questions: the module may close what it has answered
                return await self._ask_on(line, data)
        try:
            return await self._ask_on(await self._connect(), data)
        except _HungUp as error:
            raise self._fault("hung up without an answer") from error

    async def _ask_on(self, line: _Line, data: bytes) -> tuple[int, bytes]:
        try:
            answer = await line.ask(data)
        except _Nonsense as error:
            line.drop()
            raise self._fault(str(error)) from error
        except _TooLong as error:
            line.drop()
            message = f"{self.what} answers with more than {self._most_bytes} bytes."
            raise Fault(TOO_LARGE, message, limit=self._most_bytes) from error
        except BaseException:
            line.drop()
            raise
        self._idle.append(line)
        return answer

    async def _connect(self) -> _Line:
        failed = OSError("it has no address")
        for host in await self._look_up():
            try:
                return await self._connect_to(host)
            except OSError as error:
                failed = error
        # The loop puts an address where the reason should stand.
        why = os.strerror(failed.errno) if failed.errno else str(failed)
        raise self._fault(f"cannot be reached: {why}") from failed

    async def _connect_to(self, host: str) -> _Line:
        line = _Line(self._most_bytes, self._lines.discard)
        await asyncio.get_running_loop().create_connection(lambda: line, host, self._port)
        if not line.gone.is_set():
            self._lines.add(line)
        return line

    async def _look_up(self) -> list[str]:
        """The host's numbers: to look for them may hang, and the loop's own way holds up the process's end."""
        with suppress(ValueError):
            return [str(ip_address(self._host))]
        try:
            found = await self._look_ups.run(
                lambda: socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            )
        except StillHanging as error:
            raise self._fault("cannot be reached: an earlier look-up of its name still hangs") from error
        except (OSError, UnicodeError) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            raise self._fault(f"cannot be reached: {why}") from error
        return [str(each[4][0]) for each in found]

    def _hang_up(self, lines: list[_Line]) -> None:
        for line in lines:
            line.drop()
        self._idle.clear()

    def _fault(self, what: str) -> Fault:
        return Fault(UNAVAILABLE, f"{self.what} {what}.", reason=what)


class _HungUp(Exception):
    """Before it said anything to this question."""


class _Nonsense(Exception):
    """What was heard is no answer, or ends before one does; the text is a sentence without its subject."""


class _TooLong(Exception):
    """The answer is over the limit."""


class _Line(asyncio.Protocol):
    """One connection, with at most one question that is not answered."""

    def __init__(self, most_bytes: int, on_gone: Callable[[_Line], None]) -> None:
        self.gone = asyncio.Event()
        self._most = most_bytes
        self._on_gone = on_gone
        self._transport: asyncio.Transport | None = None
        self._heard = bytearray()
        self._looked = 0  # how far the end was looked for
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        """Raises _HungUp, _Nonsense and _TooLong. After any of them, and a cancel, the line must be dropped."""
        if self._transport is None or self._transport.is_closing():
            raise _HungUp
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._answer

    def drop(self) -> None:
        """Cut it, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():  # nothing was asked: what is told here is no answer to it
            self.drop()
            return
        self._heard += data
        try:
            answer = self._look()
        except (_Nonsense, _TooLong) as error:
            self.drop()
            self._answer.set_exception(error)
        else:
            if answer is not None:
                self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self._on_gone(self)
        if self._answer is None or self._answer.done():
            return
        if self._heard:
            heard = shown(bytes(self._heard[:100]), 60)
            self._answer.set_exception(_Nonsense(f"hung up in the middle of its answer {heard}"))
        else:
            self._answer.set_exception(_HungUp())

    def _look(self) -> tuple[int, bytes] | None:
        """The retcode and the text once the answer is there, and then it is forgotten."""
        heard = self._heard
        head = _HEAD.match(heard)
        if head is None:
            begun = heard.startswith(_BEGIN[: len(heard)])
            if not begun or len(heard) >= _HEAD_BYTES or b"\n" in heard:
                raise _Nonsense(f"answers what is no answer of Pyrame's: {shown(bytes(heard[:100]), 60)}")
            return None
        if head[0].endswith(_EMPTY_END):
            end, text = head.end(), b""
        else:
            found = heard.find(_END, max(head.end(), self._looked - len(_END)))
            self._looked = len(heard)
            # Where `]]>` is split the wire has more than the text: some room is left for that.
            if len(heard) > self._most + self._most // 8 + 2 * _HEAD_BYTES:
                raise _TooLong
            if found < 0:
                return None
            end, text = found + len(_END), _unwrapped(bytes(heard[head.end() : found]))
        if len(text) > self._most:
            raise _TooLong
        if len(heard) > end:
            raise _Nonsense(f"goes on after its answer: {shown(bytes(heard[end : end + 100]), 60)}")
        self._heard, self._looked = bytearray(), 0
        return int(head[1]), text


def _unwrapped(inner: bytes) -> bytes:
    """The text of one or more CDATA sections, given without their first begin and last end.

    Where an end has no begin behind it the module has put its text there as it was, and so it is taken.
    """
    if inner.count(b"]]>") == inner.count(_JOINT):
        return inner.replace(_JOINT, b"")
    return inner
