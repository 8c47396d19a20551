"""An acquisition as a block: opened at its begin, marked as finished at its end, whatever that end is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Generic

from storage_protocol.codec import MAX_SUMMARY
from storage_protocol.commands import NewAcq
from storage_protocol.names import Value
from storage_protocol.records import Acquisition, Marked

from .alive import keep_alive
from .calls import S, read
from .commands import Commands
from .errors import BadRequestError, StorageError, TooLargeError

_ERROR_CHARACTERS = 1000


class AcquisitionBlock(Generic[S]):
    """`async with client.acquisition(...) as block:` between the opening and the mark.

    summary  what goes with the mark: at most 32 values, such as `events` and `bytes`
    marked   the answer to the mark, once the block has ended; a Spooled while it waits in the client's spool

    The opening needs the service, also of a client with a spool: it says which uid and segment the mark is for.

    Where the storage has a `producer_timeout_s`, the block says again and again that its producer is alive. It can
    do so only while the event loop runs: what blocks it for that long looks like a dead producer.

    An exception that ends the block, a cancellation included, marks `ok: false` with its text as `error` in the
    summary, and goes on. The mark of a cancelled block is waited for; a second cancellation gives it up.
    """

    def __init__(self, client: Commands[S], opening: NewAcq, producer: str | None) -> None:
        self._client = client
        self._opening = opening
        self._producer = producer
        self._acq: Acquisition | None = None
        self._alive: asyncio.Task[None] | None = None
        self.summary: dict[str, Value] = {}
        self.marked: Marked | S | None = None

    @property
    def acq(self) -> Acquisition:
        """The acquisition as it was opened. Raises RuntimeError before the block has begun."""
        if self._acq is None:
            raise RuntimeError("the acquisition is opened by `async with`")
        return self._acq

    @property
    def path(self) -> Path | None:
        """Its folder, where this machine shares the service's file system; None when it is not in one."""
        local_path = self.acq.location.local_path
        return None if local_path is None else Path(local_path)

    async def set_param(self, param: str, value: Value) -> bool | S:
        """Set a parameter of the acquisition. False when the storage stores none."""
        acq = self.acq
        return await self._client.set_param_acq(
            acq.storage_id, acq.acq_id, param, value, uid=acq.uid, segment=acq.segment
        )

    async def __aenter__(self) -> AcquisitionBlock[S]:
        self._acq = read(await self._client.call(self._opening, wait=True), Acquisition, NewAcq.CMD)
        if self._producer is not None:
            self._alive = asyncio.ensure_future(keep_alive(self._client, self._acq.storage_id, self._producer))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        summary = self.summary if error is None else _with_error(self.summary, error)
        marking = asyncio.ensure_future(self._mark(error is None, summary))
        if self._alive is not None:
            # Until the mark is there, which may take long while the service is away.
            marking.add_done_callback(partial(_end, self._alive))
        try:
            await _shielded(marking)
        except StorageError as failure:
            if error is None:
                raise
            # The error of the block is the one to be told; that its mark failed comes with it.
            error.add_note(f"The acquisition {self.acq.acq_id} could not be marked: {failure}")

    async def _mark(self, ok: bool, summary: dict[str, Value]) -> None:
        try:
            self.marked = await self._send_mark(ok, summary)
        except (BadRequestError, TooLargeError) as refusal:
            # The verdict must not get lost with a summary that cannot be sent.
            error = summary.get("error", f"the summary was refused: {refusal.message}")
            self.marked = await self._send_mark(ok, {"error": error})
            if ok:
                raise

    async def _send_mark(self, ok: bool, summary: dict[str, Value]) -> Marked | S:
        acq = self.acq
        return await self._client.mark_as_finished(
            acq.storage_id,
            acq.acq_id,
            producer=self._producer,
            ok=ok,
            summary=summary,
            uid=acq.uid,
            segment=acq.segment,
        )


def _end(alive: asyncio.Task[None], _: asyncio.Future[None]) -> None:
    alive.cancel()


async def _shielded(marking: asyncio.Future[None]) -> None:
    """Wait for the mark also when cancelled meanwhile, and let that cancellation go on afterwards."""
    try:
        await asyncio.shield(marking)
    except asyncio.CancelledError:
        # A second cancellation, here, cancels the mark as well.
        with suppress(StorageError):
            await marking
        raise


def _with_error(summary: dict[str, Value], error: BaseException) -> dict[str, Value]:
    """The summary with the error's text in it, within the limits of a mark."""
    text = f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS]
    kept = dict([item for item in summary.items() if item[0] != "error"][: MAX_SUMMARY - 1])
    # A file name that is not UTF-8 may be part of the text.
    return kept | {"error": text.encode("utf-8", "replace").decode()}
