"""The client of the storage service, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, Never, overload

import zmq

from storage_protocol import commands as c
from storage_protocol.names import Value

from .acquisition import AcquisitionBlock
from .asked import Encode, encoder, raw_encoder
from .calls import S, read
from .commands import Commands, Mode
from .connection import Connection
from .cursor import Cursor, CursorFile
from .errors import ClientClosedError
from .events import EventStream
from .outbox import Drained, Outbox
from .replies import Description, StorageList
from .spool import Refused, Spool, Spooled
from .subscription import Subscription, reachable

COMMANDS_ENDPOINT = "tcp://127.0.0.1:5570"


class StorageClient(Commands[S]):
    """One service, spoken to from one event loop.

        async with StorageClient("tcp://127.0.0.1:5570") as client:
            await client.init_storage("daq", "test_beam")

    endpoint         the service's commands endpoint
    events_endpoint  its events endpoint; None: as the service describes it
    timeout_s        for how long an answer is waited for before the command is asked again, with the same key
    deadline_s       for how long in all, until ReplyTimeoutError or ServiceUnreachableError; None: for ever
    spool            a file of this client's own, in which what changes something waits while the service is away

    Nothing is connected until the first command. A service that was not there, or went away, is connected to as
    soon as it is back. Commands that are asked in the same turn of the event loop travel together, in their order;
    one after whose answer another is asked is certain to come first.

    With a spool, a command that changes something returns its answer, or after `timeout_s` a Spooled: it is on
    this machine's disk, in its order, and is asked until the service has answered it, also by the next client with
    this spool. `waiting`, and `wait=True`, insist on the answer. Such a client begins with `async with`.
    """

    @overload
    def __init__(
        self: StorageClient[Never],
        endpoint: str = ...,
        *,
        events_endpoint: str | None = ...,
        timeout_s: float = ...,
        deadline_s: float | None = ...,
        spool: None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: StorageClient[Spooled],
        endpoint: str = ...,
        *,
        events_endpoint: str | None = ...,
        timeout_s: float = ...,
        deadline_s: float | None = ...,
        spool: Path,
    ) -> None: ...

    def __init__(
        self,
        endpoint: str = COMMANDS_ENDPOINT,
        *,
        events_endpoint: str | None = None,
        timeout_s: float = 5.0,
        deadline_s: float | None = 30.0,
        spool: Path | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.deadline_s = deadline_s
        self._events_endpoint = events_endpoint
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._connection: Connection | None = None
        self._subscriptions: set[Subscription] = set()
        self._spool = None if spool is None else Spool(spool)
        self._outbox: Outbox | None = None
        self._closed = False

    async def __aenter__(self) -> StorageClient[S]:
        """Begin. Raises SpoolInUseError or SpoolError."""
        if self._spool is not None and self._outbox is None:
            waiting = await self._spool.open()
            self._outbox = Outbox(self._spool, self._open_connection(), waiting, self.timeout_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every socket and the spool; what still waits for an answer or an event gets ClientClosedError.

        What may wait in the spool is there when this returns, and its callers have their Spooled.
        """
        self._closed = True
        if self._outbox is not None:
            outbox, self._outbox = self._outbox, None
            await outbox.close()
        for subscription in tuple(self._subscriptions):
            subscription.close()
        if self._connection is not None:
            # What is in a spool need not get out now.
            self._connection.close(linger=self._spool is None)
        context, self._context = self._context, None
        if context is not None:
            # It waits until what was sent is out, for as long as the sockets linger.
            await asyncio.to_thread(context.term)

    async def call(
        self,
        command: c.Command,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        deadline_s: float | EllipsisType | None = ...,
        wait: bool = False,
    ) -> Any:
        """Ask any command; its result as it came.

        key         the idempotency key of a mutating command, to repeat one of before; None: a fresh one
        timeout_s   instead of the client's
        deadline_s  instead of the client's; None: for ever
        wait        insist on the service's answer, which comes after that to all that waits in the spool

        Raises a class of `errors.REFUSALS`, ReplyTimeoutError, ServiceUnreachableError, ClientClosedError, or
        SpoolError when what has no answer could not be put into the spool.
        """
        return await self.submit(command, key=key, timeout_s=timeout_s, deadline_s=deadline_s, wait=wait)

    def submit(
        self,
        command: c.Command,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        deadline_s: float | EllipsisType | None = ...,
        wait: bool = False,
    ) -> asyncio.Future[Any]:
        """As `call`, but asked at once: the future of its result, to be awaited later."""
        wait = wait or not command.MUTATING
        return self._submit(encoder(command), command.MUTATING, key, timeout_s, deadline_s, wait)

    async def call_named(
        self,
        cmd: str,
        args: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        deadline_s: float | EllipsisType | None = ...,
        wait: bool = False,
    ) -> Any:
        """As `call`, for a command by its name on the wire, sent as it is, whether this client knows it or not."""
        spec = c.COMMANDS.get(cmd)
        # Services ignore the key of a command that does not mutate: one that is not known gets it.
        keyed = spec is None or spec.mutating
        # What cannot be judged here is not put into the spool.
        wait = wait or spec is None or not spec.mutating
        return await self._submit(raw_encoder(cmd, dict(args or {})), keyed, key, timeout_s, deadline_s, wait)

    @property
    def waiting(self) -> Commands[Never]:
        """The same commands, each insisting on the service's answer."""
        return _Insisting(self)

    async def spooled(self) -> list[Spooled]:
        """What waits in the spool, in its order."""
        return await self._open_outbox().waiting()

    async def refused(self) -> list[Refused]:
        """What waited in the spool and was then refused, until it is forgotten."""
        return await self._open_spool().refused()

    async def forget_refused(self, id: int) -> bool:
        """Forget something that was refused. False when there is none of this id."""
        return await self._open_spool().forget_refused(id)

    async def drained(self) -> None:
        """Return when all that waits in the spool now is answered, and at once when nothing does."""
        await self._open_outbox().drained()

    def answers(self) -> AsyncIterator[Drained | Refused]:
        """What becomes of each command that waits in the spool, from now on."""
        return self._open_outbox().answers()

    def acquisition(
        self,
        storage_id: str,
        *,
        acq_name: str,
        run_name: str,
        producer: str | None = None,
        mode: Mode = "append",
        convert_script: str | None = None,
        params: Mapping[str, Value] | None = None,
        producers: Iterable[str] | None = None,
        producers_count: int | None = None,
    ) -> AcquisitionBlock[S]:
        """`async with` the acquisition: opened at its begin, marked as finished at its end.

        The mark is of `producer` (None: without a name), says `ok` unless an exception ended the block, and
        carries the block's `summary`. Producers that open the same acquisition with the same arguments share it.
        """
        opening = c.NewAcq(
            storage_id=storage_id,
            acq_name=acq_name,
            run_name=run_name,
            mode=mode,
            convert_script=convert_script,
            params=dict(params or {}),
            producers_count=producers_count,
            producers=None if producers is None else tuple(producers),
        )
        return AcquisitionBlock(self, opening, producer)

    def events(
        self,
        *topics: str,
        after: Cursor | None = None,
        after_seq: int | None = None,
        cursor_file: Path | None = None,
    ) -> EventStream:
        """The journal's events from now on, or from a place in it, without holes or repeats and in their order.

        topics       prefixes of topics, such as `acquisition.finished/`; none: every event of the journal
        after        begin with the events after this cursor, and insist on having all of them
        after_seq    the same by a seq alone, whatever journal there is; 0: all that is kept
        cursor_file  go on after what this file says was consumed, and keep it so. While there is no such file, the
                     stream begins as without it

        To be called where the event loop runs. See `EventStream`. Raises ValueError when both `after` and
        `after_seq` are given, and CursorFileError when there is a file and it holds no cursor.
        """
        if after is not None and after_seq is not None:
            raise ValueError("after and after_seq say the same thing twice: give one of them")
        file = None if cursor_file is None else CursorFile(cursor_file)
        begin = (None if file is None else file.read()) or (after_seq if after is None else after)
        return EventStream(partial(self.submit, deadline_s=None), self._subscribe, topics, begin, file)

    async def snapshot_and_events(self, *topics: str) -> tuple[StorageList, EventStream]:
        """All storages, and the stream of what changes after that: nothing is missing between, nothing twice."""
        snapshot = await self.list_storages()
        return snapshot, self.events(*topics, after=snapshot.cursor)

    async def _subscribe(self, topics: tuple[str, ...]) -> Subscription:
        endpoint = self._events_endpoint
        if endpoint is None:
            described = read(await self.submit(c.Describe(), deadline_s=None), Description, c.Describe.CMD)
            endpoint = reachable(described.events_endpoint, self.endpoint)
        self._check_open()
        return Subscription(self._open_context(), endpoint, topics, self._subscriptions)

    def _submit(
        self,
        encode: Encode,
        keyed: bool,
        key: str | None,
        timeout_s: float | None,
        deadline_s: float | EllipsisType | None,
        wait: bool,
    ) -> asyncio.Future[Any]:
        connection = self._open_connection()
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        deadline_s = self.deadline_s if isinstance(deadline_s, EllipsisType) else deadline_s
        if not keyed or self._spool is None:
            return connection.ask(encode, keyed=keyed, key=key, timeout_s=timeout_s, deadline_s=deadline_s)
        outbox = self._open_outbox()
        if wait:
            return outbox.insist(encode, keyed=keyed, key=key, timeout_s=timeout_s, deadline_s=deadline_s)
        return outbox.submit(encode, key=key, timeout_s=timeout_s, deadline_s=deadline_s)

    def _open_connection(self) -> Connection:
        self._check_open()
        if self._connection is None:
            self._connection = Connection(self._open_context(), self.endpoint)
        return self._connection

    def _open_outbox(self) -> Outbox:
        self._open_spool()
        if self._outbox is None:
            raise RuntimeError("a client with a spool begins with `async with`")
        return self._outbox

    def _open_spool(self) -> Spool:
        self._check_open()
        if self._spool is None:
            raise RuntimeError("this client has no spool")
        return self._spool

    def _open_context(self) -> zmq.Context[zmq.Socket[bytes]]:
        if self._context is None:
            self._context = zmq.Context()
        return self._context

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError("This client is closed.")


class _Insisting(Commands[Never]):
    """The commands of a client, each insisting on the service's answer."""

    def __init__(self, client: StorageClient[Any]) -> None:
        self._client = client

    async def call(self, command: c.Command, *, wait: bool = True) -> Any:
        return await self._client.call(command, wait=True)
