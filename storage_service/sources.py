"""Readings of acquisitions: variables by the prefix of their source, and configurations, saved beside the data.

One task an acquisition's start, and one its end. What a source does not say in time is missing, with the reason;
all sources are asked side by side, and none in the path of a command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from blake3 import blake3

from storage_protocol import names
from storage_protocol.records import Configuration

from .config import Config, ConfigSource
from .database import LooksUp
from .doors.sources.channel_access import ChannelAccess
from .doors.sources.cmod import Cmod
from .doors.sources.file import ConfigFile
from .doors.sources.interface import Configurations, Variables
from .doors.sources.program import ProgramOutput
from .doors.sources.varmod import Varmod
from .mounts import Mounts
from .rules.readings import END, HANDED_IN, Reading, ReadingsTaken, TakeReadings, Wanted
from .rules.state import Variable, variable_key
from .rules.work import ACQ_MARKER, Failed, Fault, KeepFile, Kept

NAMESPACE = "default"
"""Where the built-in store has the variables that statistics name without a prefix."""
MOST_AT_ONCE = 32
"""Acquisitions that are read at the same time; their time-out begins when their turn has come."""

_log = structlog.get_logger("storage_service")


class Sources:
    """Used by the loop's thread; `tell` is called there with the work's id and what came of it. `stored` does its
    argument in the thread of the look-ups."""

    def __init__(
        self,
        config: Config,
        stored: Callable[[Callable[[LooksUp], Any]], Awaitable[Any]],
        mounts: Mounts,
        tell: Callable[[str, ReadingsTaken], None],
    ) -> None:
        self._config = config
        self._stored = stored
        self._mounts = mounts
        self._tell = tell
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        given = config.sources
        self._variables: dict[str, Variables] = {"ca": ChannelAccess()}
        if given.varmod:
            self._variables["varmod"] = Varmod(
                given.varmod, given.varmod_dialect, given.varmod_id, given.varmod_ns
            )
        self._configurations: dict[ConfigSource, Configurations] = {}

    def take(self, work_id: str, order: TakeReadings) -> None:
        """Read; `tell` hears of it, soon after the time-out at the latest, but for what a mount point takes. After
        `close` it is left to the next start."""
        if self._closed:
            return
        task = asyncio.get_running_loop().create_task(self._taken(work_id, order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Read no more: what is under way is left to the next start."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for variables in self._variables.values():
            await variables.close()
        for configurations in self._configurations.values():
            await configurations.close()

    async def _taken(self, work_id: str, order: TakeReadings) -> None:
        try:
            if order.when == END and any(self._prefix(name) for name in order.names):
                await asyncio.sleep(self._config.sources.settle_s)
            async with self._turns:
                readings, (saved, failures, again) = await asyncio.gather(
                    self._readings(order), self._saved(order)
                )
            result = ReadingsTaken(readings, tuple(saved), tuple(failures), again)
        except Exception as error:  # noqa: BLE001  a defect here must not keep the acquisition from its seal
            _log.error("readings failed", acq_id=order.acq_id, exc_info=error)
            missing = Reading(missing=f"The service failed to read it: {error!r}.")
            result = ReadingsTaken(dict.fromkeys(order.names, missing), failures=(missing.missing,))
        self._tell(work_id, result)

    # Variables

    def _prefix(self, name: str) -> str:
        """The source's prefix; empty for the built-in store."""
        prefix, colon, _ = name.partition(":")
        return prefix if colon and prefix in ("varmod", "ca") else ""

    async def _readings(self, order: TakeReadings) -> dict[str, Reading]:
        timeout_s = self._config.sources.timeout_s
        built_in = [name for name in order.names if not self._prefix(name)]
        tasks = {name: asyncio.ensure_future(self._outside(name)) for name in order.names if self._prefix(name)}
        inside = asyncio.ensure_future(self._built_in(built_in))
        _, late = await _in_time([*tasks.values(), inside], timeout_s)
        nothing = Reading(missing=f"There was no answer within {timeout_s:g} s.")
        found = dict.fromkeys(built_in, nothing) if inside in late else inside.result()
        found |= {name: nothing if task in late else task.result() for name, task in tasks.items()}
        return found

    async def _outside(self, name: str) -> Reading:
        prefix, _, theirs = name.partition(":")
        source = self._variables.get(prefix)
        if source is None:
            return Reading(missing=f"No address is configured for {prefix}: sources.{prefix} must name it.")
        try:
            return await source.read(theirs)
        except Fault as fault:
            return Reading(missing=fault.message)
        except Exception as error:  # noqa: BLE001  a defect of one source must not cost the others their readings
            _log.error("a source failed", name=name, exc_info=error)
            return Reading(missing=f"The source {prefix} failed: {error!r}.")

    async def _built_in(self, asked: list[str]) -> dict[str, Reading]:
        found = {name: _wrong_name(name) for name in asked}
        keys = {variable_key(NAMESPACE, name): name for name, reading in found.items() if not reading.missing}
        if not keys:
            return found
        try:
            stored = await self._stored(lambda lookups: lookups.look_up(keys))
        except Exception as error:  # noqa: BLE001  what the database says is the reason
            _log.error("variables cannot be read", exc_info=error)
            return found | dict.fromkeys(keys.values(), Reading(missing=f"The database cannot be read: {error}."))
        for key, variable in stored:
            nothing = Reading(missing=f"There is no variable {keys[key]} in the namespace {NAMESPACE}.")
            found[keys[key]] = Reading(variable.value) if isinstance(variable, Variable) else nothing
        return found

    # Configurations

    async def _saved(self, order: TakeReadings) -> tuple[list[Configuration], list[str], str]:
        """Those that were saved, sentences about those that were not, and why one is to be tried again."""
        saved, failures, again = list[Configuration](), list[str](), ""
        done = set(order.saved)
        for wanted in order.wanted:
            try:
                source, name, content = await self._content(order, wanted)
            except Fault as fault:
                failures.append(fault.message)
                continue
            except Exception as error:  # noqa: BLE001  a defect of one source must not cost what others say
                _log.error("a configuration cannot be had", acq_id=order.acq_id, exc_info=error)
                failures.append(f"The service failed to get the configuration: {error!r}.")
                continue
            digest = blake3(content).hexdigest()
            if digest in done:
                continue
            result = await self._kept(order, name, content)
            if isinstance(result, Kept):
                done.add(digest)
                saved.append(Configuration(result.name, wanted.when, digest, len(content), source))
            elif isinstance(result, Failed):
                again = f"The configuration is not saved yet: {result.message}"
        return saved, failures, again

    async def _content(self, order: TakeReadings, wanted: Wanted) -> tuple[str, str, bytes]:
        """The source, the name and the content of a configuration. Raises Fault when it cannot be had."""
        if (given := wanted.document) is not None:
            content: bytes | None = await self._stored(lambda lookups: lookups.document(given.blake3))
            if content is None:
                raise Fault(
                    "not_found", f"The configuration {given.name} that was handed in is not there any more."
                )
            return HANDED_IN, given.name, content
        chosen = self._config.files_of(order.storage_id).config
        if chosen is None:
            raise Fault("not_found", "No source of configurations is configured any more for this storage.")
        source = self._configurations.setdefault(chosen, _made(chosen))
        timeout_s = self._config.sources.timeout_s
        fetching = asyncio.ensure_future(source.fetch(order.about))
        _, late = await _in_time([fetching], timeout_s)
        if late:
            raise Fault("unavailable", f"{source.origin} gave no configuration within {timeout_s:g} s.")
        return source.origin, chosen.name, fetching.result()

    def _kept(self, order: TakeReadings, name: str, content: bytes) -> Awaitable[Any]:
        told = asyncio.get_running_loop().create_future()

        def tell(result: Any) -> None:
            if not told.done():
                told.set_result(result)

        keep = KeepFile(order.mp, order.path, ACQ_MARKER, order.acq_id, order.uid, name, content)
        self._mounts.carry_out(keep, tell)
        return told


async def _in_time(
    tasks: Sequence[asyncio.Future[Any]], timeout_s: float
) -> tuple[set[asyncio.Future[Any]], set[asyncio.Future[Any]]]:
    """Those that ended in time, and those that were cancelled and have ended since."""
    try:
        done, late = await asyncio.wait(tasks, timeout=timeout_s)
    except asyncio.CancelledError:
        done, late = set[asyncio.Future[Any]](), set(tasks)
        raise
    finally:
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    return done, late


def _made(chosen: ConfigSource) -> Configurations:
    if chosen.file is not None:
        return ConfigFile(chosen.file)
    if chosen.cmod is not None:
        return Cmod(chosen.cmod)
    return ProgramOutput(chosen.program or ())


def _wrong_name(name: str) -> Reading:
    """Empty, or why no variable has such a name."""
    wrong = names.param(name)
    return Reading(missing=f"No variable can have the name {name[:80]!r}: {wrong}.") if wrong else Reading()
