"""The door to the processes that write manifests: a bounded number of them for each mount point.

They are started when there is something to do and stay for the next order. One that hangs in the kernel keeps only
its own mount point's manifests waiting. It is all callbacks on the loop's thread, and blocks nowhere but in fork.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import msgspec
import structlog

from storage_service.doors.manifest_worker import Asked, Told
from storage_service.mount_tables import Mount
from storage_service.rules.work import CANCELLED, Failed, ManifestDone, WriteManifest

TURN_BYTES = 64 * 1024
PATIENCE_S = 2.0  # what `close` waits for a process that was killed; one that hangs in the kernel is left

_log = structlog.get_logger("storage_service")
_decode = msgspec.json.Decoder(Told).decode


class ManifestProcesses:
    """Writes manifests. Each `write` is answered by one `on_result("manifest <storage_id>", result)`, later, from
    the loop; after `close` by none."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mounts: Mapping[str, Mount],
        most: int,
        on_result: Callable[[str, ManifestDone | Failed], None],
    ) -> None:
        self._loop = loop
        self._mounts = mounts
        self._most = most
        self._on_result = on_result
        self._waiting: dict[str, deque[WriteManifest]] = {}
        self._workers: dict[str, list[_Worker]] = {}
        self._left: list[subprocess.Popen[bytes]] = []  # killed, and not reaped yet
        self._closing = False

    def carry_out(self, orders: Iterable[WriteManifest], cancels: Iterable[str]) -> None:
        """Give up the manifests of the acquisitions to cancel, then take the new orders."""
        for acq_id in cancels:
            self.cancel(acq_id)
        for order in orders:
            self.write(order)

    def write(self, order: WriteManifest) -> None:
        """Write a manifest as soon as a process of its mount point is free."""
        if order.mp not in self._mounts:
            message = f"The mount point {order.mp!r} is not configured any more; nothing can be listed there."
            self._tell(order, Failed("unavailable", message, {"reason": "mount point not configured"}))
            return
        self._waiting.setdefault(order.mp, deque()).append(order)
        self._go_on(order.mp)

    def cancel(self, acq_id: str) -> None:
        """Nothing more of this acquisition is listed; its order has failed. Unknown ones are passed over."""
        cancelled = Failed("unavailable", "It was opened again or removed.", {"reason": CANCELLED})
        for waiting in self._waiting.values():
            for order in [each for each in waiting if each.acq_id == acq_id]:
                waiting.remove(order)
                self._tell(order, cancelled)
        for workers in self._workers.values():
            for worker in list(workers):
                if worker.order is not None and worker.order.acq_id == acq_id:
                    worker.end(cancelled)

    def progress(self) -> dict[str, int]:
        """What is under way, for `get_status`."""
        at_work = [each for workers in self._workers.values() for each in workers if each.order is not None]
        return {"manifests_writing": len(at_work), "manifest_bytes": sum(each.bytes for each in at_work)}

    def pids(self) -> list[int]:
        """The processes that there are."""
        return [each.process.pid for workers in self._workers.values() for each in workers]

    def close(self) -> None:
        """End all processes, and wait until they are gone. What was not written is left to the next start."""
        self._closing = True
        for workers in list(self._workers.values()):
            for worker in list(workers):
                worker.end(Failed("unavailable", "The service is stopping."))
        for process in self._left:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)

    def _go_on(self, mp: str) -> None:
        waiting, workers = self._waiting[mp], self._workers.setdefault(mp, [])
        while waiting and not self._closing:
            idle = next((each for each in workers if each.order is None), None)
            if idle is None:
                if len(workers) >= self._most:
                    return
                try:
                    idle = _Worker(self._loop, self._over)
                except OSError as error:
                    order = waiting.popleft()
                    message = f"No process can be started to list files: {error.strerror or error}."
                    self._tell(order, Failed("unavailable", message, {"reason": str(error)}))
                    continue
                workers.append(idle)
            order = waiting.popleft()
            idle.give(self._mounts[mp], order)

    def _over(self, worker: _Worker, order: WriteManifest | None, result: ManifestDone | Failed) -> None:
        """An order is over, or the process is: then it is not among the workers any more."""
        if worker.ended:
            for workers in self._workers.values():
                if worker in workers:
                    workers.remove(worker)
            self._left = [each for each in (*self._left, worker.process) if each.poll() is None]
        if order is not None:
            self._tell(order, result)
            if not self._closing:
                self._loop.call_soon(self._go_on, order.mp)

    def _tell(self, order: WriteManifest, result: ManifestDone | Failed) -> None:
        if not self._closing:
            self._loop.call_soon(self._on_result, f"manifest {order.storage_id}", result)


class _Worker:
    """One process; `order` is what it is at, `bytes` how much of it is read."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_over: Callable[[_Worker, WriteManifest | None, ManifestDone | Failed], None],
    ) -> None:
        self.order: WriteManifest | None = None
        self.bytes = 0
        self.ended = False
        self._loop = loop
        self._on_over = on_over
        self._line = b""
        # From the loop's thread: the process is killed when the thread that started it ends.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "storage_service.doors.manifest_worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        if self._stdin is None or self._stdout is None:
            raise OSError("a process without its pipes")
        os.set_blocking(self._stdout.fileno(), False)
        loop.add_reader(self._stdout.fileno(), self._read)

    def give(self, mount: Mount, order: WriteManifest) -> None:
        """Let it carry out an order; it must have none."""
        self.order, self.bytes = order, 0
        try:
            if self._stdin is not None:
                self._stdin.write(msgspec.json.encode(Asked(mount, order), enc_hook=str) + b"\n")
                self._stdin.flush()
        except OSError:
            self._loop.call_soon(self._is_gone)

    def end(self, why: Failed) -> None:
        """Kill it, with what it is at. What it left behind is a temporary file that the next try replaces."""
        if self.ended:
            return
        self.ended = True
        self.process.kill()
        if self._stdout is not None:
            self._loop.remove_reader(self._stdout.fileno())
            self._stdout.close()
        if self._stdin is not None:
            with suppress(OSError):
                self._stdin.close()
        order, self.order = self.order, None
        self._on_over(self, order, why)

    def _read(self) -> None:
        try:
            data = os.read(self._stdout.fileno(), TURN_BYTES) if self._stdout is not None else b""
        except BlockingIOError:
            return
        if not data:
            self._is_gone()
            return
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            told = _decode(line)
            self.bytes = told.bytes
            if told.result is not None:
                order, self.order = self.order, None
                self._on_over(self, order, told.result)

    def _is_gone(self) -> None:
        if self.ended:
            return
        _log.error("a process that lists files has ended by itself", pid=self.process.pid)
        message = "The process that listed the files has ended by itself."
        self.end(Failed("unavailable", message, {"reason": "its process ended"}))
