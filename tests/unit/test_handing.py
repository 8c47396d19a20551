"""Work for threads: what comes of it is told in the loop, and a stop waits for nothing that hangs."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from storage_service.handing import Unwaited, Worker


@pytest.mark.parametrize("fails", [False, True])
async def test_what_a_thread_did_is_told_in_the_loop(fails: bool) -> None:
    told, worker = asyncio.Event(), Worker("worker")
    heard: list[Any] = []

    def work() -> str:
        if fails:
            raise ValueError("no")
        return threading.current_thread().name

    def tell(result: Any) -> None:
        heard.append((result, threading.current_thread()))
        told.set()

    worker.hand(work, tell)
    await asyncio.wait_for(told.wait(), 10)
    ((result, where),) = heard
    assert where is threading.current_thread()
    assert isinstance(result, ValueError) if fails else result != where.name
    worker.close()


def test_a_worker_does_all_that_it_was_given_in_order_before_it_ends() -> None:
    worker, done = Worker("worker"), list[int]()
    for number in range(100):
        worker.do(partial(done.append, number))
    worker.close()
    assert done == list(range(100))


async def test_what_is_told_to_a_loop_that_has_ended_ends_no_worker() -> None:
    worker, ends, done = Worker("worker"), threading.Event(), threading.Event()

    async def ask() -> None:
        worker.hand(lambda: ends.wait(30), lambda result: None)

    await asyncio.to_thread(asyncio.run, ask())
    ends.set()
    worker.do(done.set)
    worker.close()
    assert done.is_set()


def test_the_end_of_a_loop_does_not_wait_for_what_hangs() -> None:
    ends = threading.Event()

    async def hang() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(Unwaited(1))
        began = asyncio.Event()

        def work() -> None:
            loop.call_soon_threadsafe(began.set)
            ends.wait(60)

        loop.run_in_executor(None, work).cancel()
        await asyncio.wait_for(began.wait(), 10)

    try:
        asyncio.run(asyncio.wait_for(hang(), 20))
        assert not ends.is_set()
    finally:
        ends.set()
