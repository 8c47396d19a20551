"""The client of the storage service, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from types import EllipsisType, TracebackType
from typing import Any

import zmq

from storage_protocol import commands as c
from storage_protocol.names import Value

from .acquisition import AcquisitionBlock
from .asked import Encode, encoder, raw_encoder
from .commands import Commands, Mode, read
from .connection import Connection
from .errors import ClientClosedError
from .events import EventStream
from .replies import Description
from .subscription import Subscription, reachable

COMMANDS_ENDPOINT = "tcp://127.0.0.1:5570"


class StorageClient(Commands):
    """One service, spoken to from one event loop.

        async with StorageClient("tcp://127.0.0.1:5570") as client:
            await client.init_storage("daq", "test_beam")

    endpoint         the service's commands endpoint
    events_endpoint  its events endpoint; None: as the service describes it
    timeout_s        for how long an answer is waited for before the command is asked again, with the same key
    deadline_s       for how long in all, until ReplyTimeoutError or ServiceUnreachableError; None: for ever

    Nothing is connected until the first command. A service that was not there, or went away, is connected to as
    soon as it is back. Commands that are asked in the same turn of the event loop travel together, in their order;
    one after whose answer another is asked is certain to come first.
    """

    def __init__(
        self,
        endpoint: str = COMMANDS_ENDPOINT,
        *,
        events_endpoint: str | None = None,
        timeout_s: float = 5.0,
        deadline_s: float | None = 30.0,
    ) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.deadline_s = deadline_s
        self._events_endpoint = events_endpoint
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._connection: Connection | None = None
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    async def __aenter__(self) -> StorageClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every socket; what still waits for an answer or an event gets ClientClosedError."""
        self._closed = True
        for subscription in tuple(self._subscriptions):
            subscription.close()
        if self._connection is not None:
            self._connection.close()
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
    ) -> Any:
        """Ask any command; its result as it came.

        key         the idempotency key of a mutating command, to repeat one of before; None: a fresh one
        timeout_s   instead of the client's
        deadline_s  instead of the client's; None: for ever

        Raises a class of `errors.REFUSALS`, ReplyTimeoutError, ServiceUnreachableError or ClientClosedError.
        """
        return await self.submit(command, key=key, timeout_s=timeout_s, deadline_s=deadline_s)

    def submit(
        self,
        command: c.Command,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        deadline_s: float | EllipsisType | None = ...,
    ) -> asyncio.Future[Any]:
        """As `call`, but asked at once: the future of its result, to be awaited later."""
        return self._submit(encoder(command), command.MUTATING, key, timeout_s, deadline_s)

    async def call_named(
        self,
        cmd: str,
        args: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        deadline_s: float | EllipsisType | None = ...,
    ) -> Any:
        """As `call`, for a command by its name on the wire, sent as it is, whether this client knows it or not."""
        spec = c.COMMANDS.get(cmd)
        # Services ignore the key of a command that does not mutate: one that is not known gets it.
        keyed = spec is None or spec.mutating
        return await self._submit(raw_encoder(cmd, dict(args or {})), keyed, key, timeout_s, deadline_s)

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
    ) -> AcquisitionBlock:
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

    def events(self, *topics: str, after_seq: int | None = None) -> EventStream:
        """The journal's events from now on, or after a seq, without holes or repeats and in their order.

        topics     prefixes of topics, such as `acquisition.finished/`; none: every event of the journal
        after_seq  begin with the events after this one, history first; None: with those after this call

        To be called where the event loop runs. See `EventStream`.
        """
        return EventStream(partial(self.submit, deadline_s=None), self._subscribe, topics, after_seq)

    async def _subscribe(self, topics: tuple[str, ...]) -> Subscription:
        endpoint = self._events_endpoint
        if endpoint is None:
            described = read(await self.submit(c.Describe(), deadline_s=None), Description, c.Describe.CMD)
            endpoint = reachable(described.events_endpoint, self.endpoint)
        if self._closed:
            raise ClientClosedError("This client is closed.")
        return Subscription(self._open_context(), endpoint, topics, self._subscriptions)

    def _submit(
        self,
        encode: Encode,
        keyed: bool,
        key: str | None,
        timeout_s: float | None,
        deadline_s: float | EllipsisType | None,
    ) -> asyncio.Future[Any]:
        if self._closed:
            raise ClientClosedError("This client is closed.")
        if self._connection is None:
            self._connection = Connection(self._open_context(), self.endpoint)
        return self._connection.ask(
            encode,
            keyed=keyed,
            key=key,
            timeout_s=self.timeout_s if timeout_s is None else timeout_s,
            deadline_s=self.deadline_s if isinstance(deadline_s, EllipsisType) else deadline_s,
        )

    def _open_context(self) -> zmq.Context[zmq.Socket[bytes]]:
        if self._context is None:
            self._context = zmq.Context()
        return self._context
