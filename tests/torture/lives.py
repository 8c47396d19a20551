"""What the clients do: an owner that opens and ends acquisitions of its storage, and producers that take part."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.torture.asked import Asked
from tests.torture.crew import Life

NUMBERED = ("cal_{n}", "scan_{n:06}", "{n}th")
PRODUCERS = ("tracker", "calo")
# Parameters have few names, so that they are set over and over; every value is the id of the command that set it.
NAMES = 12


@dataclass
class Mix:
    """How often things happen; each a probability, once a round of the owner."""

    scripts: tuple[str, ...] = ("quick.sh",)
    convert: float = 0.5
    reopen: float = 0.15
    remove: float = 0.1
    meddle: float = 0.2
    upheaval: float = 0.04
    params: int = 30


@dataclass
class Site:
    """What the clients of one storage share. `written`: the name of each file of data that a client put beside
    an acquisition, and what it holds."""

    storage_id: str
    brg_name: str
    brg_path: str
    chance: random.Random
    mix: Mix
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: list[dict[str, Any]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    finish_timeout_s: float | None = None

    def ask(self, cmd: str, **args: Any) -> Asked:
        """A keyed command on this storage."""
        return Asked(self.chance, cmd, {"storage_id": self.storage_id, **args})

    def query(self, cmd: str, **args: Any) -> Asked:
        """A query."""
        return Asked(self.chance, cmd, args, keyed=False)

    def set_param(self, where: dict[str, Any], cmd: str, name: str) -> Asked:
        """A parameter whose value is the command's own id."""
        asked = self.ask(cmd, **where, param=f"{name}{self.chance.randrange(NAMES)}", value=0)
        asked.args["value"] = asked.id
        return asked

    def with_params(self, cmd: str, **args: Any) -> Asked:
        """A command with parameters of its own, of which the value says whose they are."""
        asked = self.ask(cmd, **args, params={})
        asked.args["params"] = {f"with{self.chance.randrange(3)}": asked.id}
        return asked

    def mark(self, acq: dict[str, Any], producer: str | None) -> Asked:
        """A mark whose summary says which command it was."""
        fits = {"uid": acq["uid"], "segment": acq["segment"]} if self.chance.random() < 0.9 else {}
        asked = self.ask("mark_as_finished_storage", acq_id=acq["acq_id"], producer=producer, **fits)
        asked.args |= {"summary": {"id": asked.id}, "ok": self.chance.random() < 0.95}
        return asked


def owner(site: Site) -> Life:
    """A round: a run, some acquisitions with parameters, then each ended in one way or another."""
    chance, mix = site.chance, site.mix
    yield from _open(site)
    while True:
        if chance.random() < mix.upheaval:
            yield from _upheaval(site)
        if not (run := (yield from _new_run(site))):
            continue
        acqs = yield from _new_acqs(site, run)
        for acq in acqs:
            where = {"acq_id": acq["acq_id"]}
            count = chance.randrange(mix.params)
            params = [site.set_param(where, "set_param_acq_storage", "own") for _ in range(count)]
            params += [_run_param(site, run) for _ in range(chance.randrange(3))]
            if params:
                yield params
        yield chance.random() * 0.05
        for acq in acqs:
            yield from _end(site, acq)
        if site.ended and chance.random() < mix.reopen:
            yield from _reopen(site)
        if site.ended and chance.random() < mix.meddle:
            yield from _meddle(site)


def producer(site: Site, name: str) -> Life:
    """Sets parameters of whatever is open, then marks it, sometimes twice and sometimes without a name."""
    chance = site.chance
    while True:
        if not site.open:
            yield 0.02
            continue
        acq = chance.choice(list(site.open.values()))
        where = {"acq_id": acq["acq_id"], "uid": acq["uid"], "segment": acq["segment"]}
        several = [site.set_param(where, "set_param_acq_storage", name) for _ in range(chance.randrange(12))]
        if chance.random() < 0.4:
            several.append(site.mark(acq, name))
            if chance.random() < 0.3:
                several.append(site.mark(acq, name))
            if chance.random() < 0.2:
                several.append(site.mark(acq, None))
        if several:
            yield several
        yield chance.random() * 0.03


def _open(site: Site) -> Life:
    patience = {} if site.finish_timeout_s is None else {"finish_timeout_s": site.finish_timeout_s}
    several = [site.ask("init_storage", brg_name=site.brg_name, brg_path=site.brg_path, **patience)]
    several.append(site.ask("config_storage"))
    several += [site.ask("register_producer_storage", producer=name) for name in PRODUCERS]
    if site.chance.random() < 0.3:
        several.append(site.ask("register_producer_storage"))
    yield several


def _new_run(site: Site) -> Any:
    chance = site.chance
    scratch = f"scratch_{site.storage_id}"
    name, mode = chance.choice(NUMBERED), "append"
    if chance.random() < site.mix.remove:
        name, mode = scratch, "remove"
    elif chance.random() < 0.2:
        name = scratch
    several = [site.with_params("new_run_storage", run_name=name, mode=mode)]
    if "{n" in name and chance.random() < 0.3:
        several += [site.with_params("new_run_storage", run_name=name) for _ in range(chance.randrange(1, 4))]
    answered: list[Asked] = yield several
    run = answered[0].result
    if run is None:
        return None
    site.runs.append(run["run_name"])
    del site.runs[:-8]
    return run


def _run_param(site: Site, run: dict[str, Any]) -> Asked:
    name = site.chance.choice([run["run_name"], *site.runs])
    return site.set_param({"run_name": name}, "set_param_run_storage", "run")


def _new_acqs(site: Site, run: dict[str, Any]) -> Any:
    several = [
        _new_acq(site, run["run_name"], name) for name in ("a", "b", "deep/c")[: site.chance.randrange(1, 4)]
    ]
    answered: list[Asked] = yield several
    return [_opened(site, asked.result) for asked in answered if asked.result is not None]


def _new_acq(site: Site, run_name: str, acq_name: str, mode: str = "append") -> Asked:
    chance = site.chance
    more: dict[str, Any] = {}
    if chance.random() < site.mix.convert:
        more["convert_script"] = chance.choice(site.mix.scripts)
    if chance.random() < 0.3:
        more["producers"] = [PRODUCERS[0]]
    if chance.random() < 0.1:
        more["producers_count"] = 0
    where = {"run_name": run_name, "acq_name": acq_name, "mode": mode}
    return site.with_params("new_acq_storage", **where, **more)


def _opened(site: Site, acq: dict[str, Any]) -> dict[str, Any]:
    site.open[acq["acq_id"]] = acq
    name = f"{acq['uid']}.{acq['segment']}.raw"
    folder = Path(acq["location"]["local_path"])
    # A repeat can tell of a folder that was set aside since.
    if folder.is_dir():
        (folder / name).write_text(acq["acq_id"])
        site.written[name] = acq["acq_id"]
    return acq


def _end(site: Site, acq: dict[str, Any]) -> Life:
    chance, acq_id = site.chance, acq["acq_id"]
    way = chance.choice(("marks", "marks", "marks", "close", "close", "abort", "leave"))
    if way == "marks":
        yield [site.mark(acq, name) for name in PRODUCERS]
    elif way == "close":
        yield [site.ask("close_acq_storage", acq_id=acq_id, reason="enough")]
    elif way == "abort":
        yield [site.ask("abort_acq_storage", acq_id=acq_id, uid=acq["uid"], reason="no beam")]
    else:
        return
    site.open.pop(acq_id, None)
    site.ended.append(acq)
    del site.ended[:-6]


def _reopen(site: Site) -> Life:
    acq = site.chance.choice(site.ended)
    mode = "remove" if site.chance.random() < site.mix.remove else "append"
    answered = yield [_new_acq(site, acq["run_name"], acq["acq_name"], mode)]
    if answered[0].result is not None:
        again = _opened(site, answered[0].result)
        yield [site.set_param({"acq_id": again["acq_id"]}, "set_param_acq_storage", "again")]
        yield from _end(site, again)


def _meddle(site: Site) -> Life:
    """Retry or cancel conversions of something that ended."""
    acq = site.chance.choice(site.ended)
    answered = yield [site.query("list_conversions", acq_id=acq["acq_id"])]
    listed = answered[0].result["conversions"] if answered[0].result else []
    several = []
    for conversion in listed[:2]:
        cmd = site.chance.choice(("retry_conversion", "cancel_conversion"))
        several.append(Asked(site.chance, cmd, {"conversion_id": conversion["conversion_id"]}))
    if several:
        yield several


def _upheaval(site: Site) -> Life:
    """The storage is invalidated or ended with all that is open, and comes again; an old run is taken over."""
    site.open.clear()
    if site.chance.random() < 0.5:
        yield [site.ask("inval_storage", force=True), site.ask("config_storage")]
        return
    yield [site.ask("deinit_storage", force=True)]
    yield from _open(site)
    for name in site.runs[-2:]:
        yield [site.with_params("new_run_storage", run_name=name)]
