"""The bare loop that conversions are held against: it starts scripts with the service's isolation, and no more.

`python -m bench.spawner FOLDER SCRIPT COUNT PARALLEL` runs SCRIPT so often, so many at a time, each in a folder of
its own below FOLDER, and prints one line of JSON: the seconds, and the CPU of this process without its children's.

The same: a runner and a keeper for each attempt, a session of their own, the lock that all below inherits, the
lifeline on which the end is told, the pipe of the output and its log file. Not there: a queue in a database, the
commits and events of an attempt's start and end, the sync of its log, time-outs, and the look at its folder.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from storage_service.doors.conversion_lock import Locks
from storage_service.doors.conversion_start import Settings, Started, spawn
from storage_service.rules.work import RunScript


def order(number: int, folder: Path, script: Path) -> RunScript:
    """An attempt, with as much in its environment as the service gives."""
    told = {f"ACQ_{name}": str(folder) for name in ("ID", "UID", "NAME", "DIR", "URL", "METADATA", "VERDICT")}
    return RunScript(
        conversion_id=f"bare-{number}",
        attempt=1,
        script=script.name,
        mp="file:///",
        path=(folder.name,),
        log_name="conversion-1-1.log",
        argv=(str(folder), f"root/bare/{number}"),
        env=told,
    )


async def ended(started: Started, log: int) -> bytes:
    """Wait until runner and keeper are gone, the output going to the log; what was said on the lifeline."""
    loop = asyncio.get_running_loop()
    said = bytearray()

    def read(take: Callable[[], bytes], found: Callable[[bytes], object], fd: int, end: asyncio.Event) -> None:
        with suppress(BlockingIOError):
            while data := take():
                found(data)
            loop.remove_reader(fd)
            end.set()

    lifeline, pipe, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
    words, output = started.lifeline, started.pipe
    loop.add_reader(words, read, lambda: words.recv(4096), said.extend, words.fileno(), lifeline)
    loop.add_reader(output, read, lambda: os.read(output, 65536), lambda data: os.write(log, data), output, pipe)
    loop.add_reader(started.pidfd, gone.set)
    for each in (lifeline, pipe, gone):
        await each.wait()
    loop.remove_reader(started.pidfd)
    os.waitpid(started.pid, 0)  # noqa: ASYNC222  it is gone already
    words.close()
    for fd in (output, started.pidfd):
        os.close(fd)
    return bytes(said)


async def run(folder: Path, script: Path, count: int, parallel: int) -> float:
    """The seconds that all of them took. Raises OSError, and RuntimeError when a script did not end with 0."""
    locks = Locks(folder / "locks")
    settings = Settings(timeout_s=3600, grace_s=5, log_bytes=1 << 24, locks=folder / "locks")
    waiting = iter(range(count))

    async def one_after_the_other() -> None:
        for number in waiting:
            place = folder / str(number)
            attempt = order(number, place, script)
            log = os.open(place / attempt.log_name, os.O_WRONLY | os.O_CREAT)
            lock = locks.take(attempt.conversion_id)
            started = spawn(attempt, script, place, settings, lock)
            os.close(lock)
            said = await ended(started, log)
            os.close(log)
            if not locks.is_free(attempt.conversion_id) or b"over 0 0" not in said or b"clear" not in said:
                raise RuntimeError(f"a script did not end as it should: {said!r}")

    for number in range(count):
        (folder / str(number)).mkdir(parents=True)
    start = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(parallel)))
    return time.perf_counter() - start


def main(folder: str, script: str, count: str, parallel: str) -> None:
    """Run and tell."""
    took_s = asyncio.run(run(Path(folder), Path(script), int(count), int(parallel)))
    print(json.dumps({"took_s": took_s, "cpu_s": time.process_time()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
