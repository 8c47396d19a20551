"""What the service tells and what lies in its folders, beside what follows from the journal."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.support.wire import Refused, Wire
from tests.torture.fold import Fold, Map

AT_ONCE = 200
SAMPLE = 40
WARNINGS = 32


def follow(wire: Wire, fold: Fold) -> None:
    """Read the journal on from where the fold is."""
    while True:
        page = wire.call("replay_events", after_seq=len(fold.rows), limit=5000)
        for event in page["events"]:
            fold.take(event)
        if not page["more"]:
            if page["last_seq"] != len(fold.rows):
                fold.wrong.append(
                    f"lost: the journal ends at {len(fold.rows)}, its last_seq is {page['last_seq']}"
                )
            return


def pending(wire: Wire) -> list[str]:
    """What is still at work: seals and conversions, and acquisitions that are to end by themselves."""
    left = [
        f"{state} {each['conversion_id']} {each}"
        for state in ("queued", "running")
        for page in wire.pages("list_conversions", "conversions", state=state, limit=1000)
        for each in page
    ]
    for state in ("finished", "aborted"):
        for page in wire.pages("list_acqs", "acqs", state=state, limit=1000):
            left += [f"not sealed: {acq}" for acq in page if not acq["sealed"]]
    impatient = {
        storage["storage_id"]
        for storage in wire.call("list_storages")["storages"]
        if storage["finish_timeout_s"] is not None
    }
    for page in wire.pages("list_acqs", "acqs", state="open", limit=1000):
        left += [f"has a mark: {acq}" for acq in page if acq["finished"] and acq["storage_id"] in impatient]
    return left


class Told:
    """Everything that the service tells when it is asked."""

    def __init__(self, wire: Wire, runs: Iterable[str]) -> None:
        self.storages = {each["storage_id"]: each for each in wire.call("list_storages")["storages"]}
        self.acqs = _by("acq_id", wire.pages("list_acqs", "acqs", limit=1000))
        self.conversions = _by("conversion_id", wire.pages("list_conversions", "conversions", limit=1000))
        self.nodes = _by("id", wire.pages("find_nodes", "nodes", limit=1000))
        self.runs = {run_id: run for run_id, run in _runs(wire, list(runs)).items() if run is not None}


def _by(name: str, pages: list[list[Map]]) -> dict[str, Map]:
    return {each[name]: each for page in pages for each in page}


def _runs(wire: Wire, ids: list[str]) -> dict[str, Map | None]:
    found: dict[str, Map | None] = {}
    for begin in range(0, len(ids), AT_ONCE):
        posted = {run_id: wire.post("get_run", run_id=run_id) for run_id in ids[begin : begin + AT_ONCE]}
        for run_id, number in posted.items():
            try:
                found[run_id] = wire.collect(number)
            except Refused:
                found[run_id] = None
    return found


def differences(fold: Fold, told: Told) -> list[str]:
    """Where the service tells something else than its journal."""
    wrong = []
    for what in ("acqs", "runs", "conversions"):
        wrong += _compare(what, getattr(fold, what), getattr(told, what), {"progress"})
    wrong += _compare("storages", fold.storages, told.storages, {"state", "warnings", "open_acqs"})
    for storage in told.storages.values():
        expected = sorted(acq["acq_id"] for acq in fold.acqs.values() if _open_in(acq, storage["storage_id"]))
        if sorted(storage["open_acqs"]) != expected:
            wrong.append(f"wrong: open in {storage['storage_id']}: {storage['open_acqs']}, journal: {expected}")
        mine = fold.storages.get(storage["storage_id"], {"state": None, "warnings": []})
        if storage["state"] != ("acquiring" if expected else mine["state"]):
            told_of = f"the journal says {mine['state']}, open are {expected}"
            wrong.append(f"wrong: {storage['storage_id']} is {storage['state']}, {told_of}")
        if storage["warnings"] != mine["warnings"][-WARNINGS:]:
            wrong.append(f"lost: warnings of {storage['storage_id']}: {storage['warnings']}, {mine['warnings']}")
    nodes = {**fold.runs, **fold.acqs, **fold.groups}
    if nodes.keys() != told.nodes.keys():
        wrong.append(f"lost: nodes differ: {sorted(nodes.keys() ^ told.nodes.keys())[:6]}")
    for id_, node in told.nodes.items():
        known = nodes.get(id_)
        if known is not None and any(node[name] != known[name] for name in ("uid", "params")):
            wrong.append(f"lost: node {node}, journal {known}")
    return wrong


def _open_in(acq: Map, storage_id: str) -> bool:
    return bool(acq["state"] == "open" and acq["storage_id"] == storage_id)


def _compare(what: str, mine: dict[str, Map], theirs: dict[str, Map], without: set[str]) -> list[str]:
    wrong = [f"lost: {what} {id_} is not told, journal: {mine[id_]}" for id_ in mine.keys() - theirs.keys()]
    wrong += [f"wrong: {what} {id_} is told, not in the journal" for id_ in theirs.keys() - mine.keys()]
    for id_ in mine.keys() & theirs.keys():
        expected, there = mine[id_], theirs[id_]
        names = [name for name in expected if name not in without and expected[name] != there.get(name)]
        if names:
            values = {name: (expected[name], there.get(name)) for name in names}
            wrong.append(f"lost: {what} {id_} differs from the journal in {values}")
    return wrong


def in_detail(wire: Wire, fold: Fold, told: Told, chance: random.Random) -> list[str]:
    """Some of it asked for one by one, and searched for by its parameters: the same is told."""
    wrong = []
    asked = []
    for cmd, name, all_of_it in (
        ("get_acq", "acq_id", told.acqs),
        ("get_run", "run_id", told.runs),
        ("get_conversion", "conversion_id", told.conversions),
        ("get_node", "node_id", told.nodes),
    ):
        for id_ in chance.sample(sorted(all_of_it), min(SAMPLE, len(all_of_it))):
            asked.append((cmd, id_, all_of_it[id_], wire.post(cmd, **{name: id_})))
    for cmd, id_, listed, number in asked:
        if (one := wire.collect(number)) != listed:
            wrong.append(f"wrong: {cmd} {id_} tells {one}, the list tells {listed}")
    own = {id_: each["params"] for id_, each in [*fold.runs.items(), *fold.acqs.items()]}
    values = [(name, value) for params in own.values() for name, value in params.items()]
    for name, value in chance.sample(values, min(SAMPLE, len(values))):
        pages = wire.pages("find_nodes", "nodes", where={name: value}, limit=1000)
        found = {each["id"] for page in pages for each in page}
        # What an acquisition lacks is looked up in its run.
        expected = {id_ for id_, params in own.items() if params.get(name) == value}
        expected |= {
            id_
            for id_, acq in fold.acqs.items()
            if name not in acq["params"] and own[acq["run_id"]].get(name) == value
        }
        if found != expected:
            wrong.append(f"lost: find_nodes {name}={value} differs in {sorted(found ^ expected)[:6]}")
    return wrong


def on_disk(told: Told, mount: Path, written: Mapping[str, str]) -> list[str]:
    """Where the folders differ from what is told. All is sealed, and nobody is at work."""
    wrong = []
    for acq in told.acqs.values():
        marker = _read(Path(acq["location"]["local_path"]) / "acquisition.json")
        if acq["state"] == "open":
            wrong += _marker("acquisition.json", acq, marker, ["acq_id", "uid", "run_id", "acq_name"])
            continue
        # A conversion goes on after the seal; a take-over changes the storage without one.
        names = [name for name in acq if name not in ("conversion", "storage_id", "warnings")]
        wrong += _marker("acquisition.json", acq, marker, names)
    for run in told.runs.values():
        marker = _read(Path(run["location"]["local_path"]) / "run.json")
        wrong += _marker("run.json", run, marker, [name for name in run if name != "storage_id"])
    for conversion in told.conversions.values():
        of = told.acqs.get(conversion["acq_id"])
        here = of is not None and of["uid"] == conversion["uid"]
        if here and conversion["state"] == "succeeded" and not Path(conversion["log"]["local_path"]).is_file():
            wrong.append(f"lost: the log of {conversion}")
    there = {path.name: path for path in mount.rglob("*.raw")}
    if gone := written.keys() - there.keys():
        wrong.append(f"lost: {len(gone)} files of data, {sorted(gone)[:5]}")
    wrong += [
        f"lost: {there[name]} does not hold what was written, {text}"
        for name, text in written.items()
        if name in there and there[name].read_text() != text
    ]
    return wrong


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        return {"error": repr(error)}


def _marker(what: str, told: Map, marker: Map, names: list[str]) -> list[str]:
    if differing := {name: (told[name], marker.get(name)) for name in names if told[name] != marker.get(name)}:
        return [
            f"lost: {what} of {told.get('acq_id') or told['run_id']} differs (told, file): {differing} {marker}"
        ]
    return []
