"""The RunDB made anew from the marker files below a mount point (SPEC 4.8).

1. What the RunDB knows stays as it is: only what it does not know comes back, and no file is touched.
2. The files are read a page at a time; each page is decided on the state as it is then, and committed together
   with the place where the next one begins.
3. Nothing is held meanwhile. A page was read before it is decided: what somebody else's outside work is under way
   with is left out, and so is an acquisition whose run is another one by now than the one that was seen above it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from storage_protocol import commands, errors, names
from storage_protocol.errors import Refusal
from storage_protocol.limits import Limits
from storage_protocol.records import Skipped

from . import facts
from .decision import Accepted, Decision, Intended, Moment, RebuildIntent, plain
from .facts import Event
from .marker_files import acq_record, fault_of_acq, fault_of_run, is_time, number_of, run_record
from .rebuild_work import FindMarkers, Found, FoundAcq, FoundRun, Proof, RunFile
from .state import Acq, Chain, Group, Key, Link, Node, Run, State, counter_id, groups_of
from .work import ACQ_MARKER, RUN_MARKER, Failed, Result

MOST_SKIPS = 100
"""How many of the folders that are skipped a reply names."""

MOST_PATH = 1024
MOST_TAILS = 1000
MOST_GUESSED = 10_000
LOST = "It was open when the database was lost; its acquisition.json brought it back."
"""The reason of an acquisition that comes back as aborted."""


def rebuild_rundb(state: State, command: commands.RebuildRundb) -> Decision:
    if command.mp not in state.places.roots:
        return errors.not_found("mount", command.mp)
    path = tuple(command.path.split("/")) if command.path else ()
    return Intended(RebuildIntent(FindMarkers(command.mp, path)))


def needs(state: State, result: Any) -> list[Key]:
    """The records that must be in memory before `settle_rebuild`. Asked again when they are, it may name more."""
    if not isinstance(result, Found):
        return []
    keys: dict[Key, None] = {}
    for run in result.runs:
        keys["node", run.told.run_id] = None
        if state.records.get(("node", run.told.run_id), run) is None:  # known to be absent
            keys |= dict.fromkeys(("node", id) for id in groups_of(run.told.run_id))
            if (counter := _counter(run.told)) is not None:
                keys["counter", counter[0]] = None
    for acq in result.acqs:
        id = acq.told.acq_id
        keys["node", id] = None
        if state.records.get(("node", id), acq) is None:
            keys |= {("node", acq.told.run_id): None, ("nested", id): None}
    return list(keys)


def settle_rebuild(
    state: State, intent: RebuildIntent, result: Result, now: Moment, limits: Limits
) -> Intended | Accepted | Refusal:
    """A page of marker files is read, or cannot be: what of it comes back, and what is read next."""
    if isinstance(result, Failed):
        return Refusal(result.code, result.message, result.details)
    if not isinstance(result, Found):
        raise TypeError(f"markers were looked for, and a {type(result).__name__} was found")
    page = _Page(state, intent, result, now, limits)
    # A run comes before what is in it, and what is older before what is younger, as the first time.
    for run in sorted(result.runs, key=lambda each: each.told.created_at):
        page.run(run)
    for acq in sorted(result.acqs, key=lambda each: each.told.created_at or each.told.started_at):
        page.acq(acq)
    intent = page.intent
    if result.after is not None:
        return Intended(replace(intent, order=replace(intent.order, after=result.after)), tuple(page.events))
    return Accepted(tuple(page.events), plain(_told(intent)))


def _told(intent: RebuildIntent) -> dict[str, Any]:
    return {
        "mp": intent.order.mp,
        "path": "/".join(intent.order.path),
        "groups": intent.groups,
        "runs": intent.runs,
        "acqs": intent.acqs,
        "known": intent.known,
        "folders": intent.folders,
        "skipped": msgspec.to_builtins(intent.skips),
        "skipped_count": intent.skipped,
    }


def _counter(told: RunFile) -> tuple[str, int] | None:
    """The counter that a numbered run had its number from, and that number."""
    found = number_of(told)
    if found is None:
        return None
    before, after, number = found
    return counter_id(told.run_id.rpartition("/")[0], before, after), number


class _Page:
    """One page on its way: the events of what comes back, and the intent as it is after it."""

    def __init__(self, state: State, intent: RebuildIntent, result: Found, now: Moment, limits: Limits) -> None:
        self._state = state
        self._mp = intent.order.mp
        self._busy = result.busy
        self._now = now
        self._limits = limits
        self._made: dict[str, Node] = {}
        self._chains: dict[str, Chain] = {}
        self._guessed = dict.fromkeys(intent.guessed)
        self._tails = {tail.storage_id: tail for tail in intent.tails}
        self._skips = list(intent.skips)
        self._skipped = intent.skipped
        self._counts = {"group": intent.groups, "run": intent.runs, "acq": intent.acqs, "known": intent.known}
        self._before = replace(intent, folders=intent.folders + result.folders)
        self.events: list[Event] = []
        for skipped in result.skipped:
            self._skip(skipped.path, skipped.reason)

    @property
    def intent(self) -> RebuildIntent:
        return replace(
            self._before,
            groups=self._counts["group"],
            runs=self._counts["run"],
            acqs=self._counts["acq"],
            known=self._counts["known"],
            skipped=self._skipped,
            skips=tuple(self._skips),
            guessed=tuple(self._guessed),
            tails=tuple(self._tails.values()),
        )

    def _skip(self, path: str, reason: str) -> None:
        self._skipped += 1
        if len(self._skips) < MOST_SKIPS:
            self._skips.append(Skipped(path[:MOST_PATH], reason))

    def _node(self, id: str) -> Node | None:
        return self._made.get(id) or self._state.node(id)

    def run(self, found: FoundRun) -> None:
        """Bring a run back, or say why not."""
        told = found.told
        reason = self._elsewhere(found, RUN_MARKER)
        if reason is None and (wrong := fault_of_run(told, self._limits)):
            reason = f"Its {RUN_MARKER} has a {wrong} that cannot be."
        if reason is None and self._is_known(told.run_id, told.uid, Run):
            return
        reason = reason or self._taken(told.run_id)
        place = found.path.rpartition("/")[0]
        visible = told.rundb
        reason = reason or self._wrong_groups(told, place)
        if reason is not None:
            self._skip(found.path, reason)
            return
        group = self._groups(told, place, visible)
        run = run_record(self._state, told, group, self._mp, found.path, visible)
        counter, number = _counter(told) or (None, 0)
        self._made[run.node_id] = run
        self._counts["run"] += 1
        self.events.append(Event(facts.RunRestored(run, counter, number), run.storage_id, run.node_id))

    def acq(self, found: FoundAcq) -> None:
        """Bring an acquisition back, or say why not."""
        told = found.told
        reason = self._elsewhere(found, ACQ_MARKER)
        if reason is None and (wrong := fault_of_acq(told, self._limits)):
            reason = f"Its {ACQ_MARKER} has a {wrong} that cannot be."
        if reason is None and self._is_known(told.acq_id, told.uid, Acq):
            return
        reason = reason or self._taken(told.acq_id)
        run = self._node(told.run_id) if reason is None else None
        if reason is None and type(run) is not Run:
            reason = f"Its run {told.run_id} is not known."
        if type(run) is not Run or reason is not None:
            self._skip(found.path, reason or "")
            return
        if run.uid != found.run_uid or (run.mp, f"{run.path}/{told.acq_name}") != (self._mp, found.path):
            self._skip(found.path, f"Its run {told.run_id} is another one, or lies elsewhere.")
            return
        if (inside := self._state.nested[told.acq_id]) is not None:
            self._skip(found.path, f"It lies inside the acquisition {inside}, or around it.")
            return
        if told.state == "open":
            told = replace(told, state="aborted", sealed=True, finished_at=self._now.time, reason=LOST)
        acq = acq_record(told, run, found.listing)
        self._made[acq.node_id] = acq
        self._counts["acq"] += 1
        fact = facts.AcqRestored(acq, self._searched(found, acq), self._newest(found.proofs))
        self.events.append(Event(fact, acq.storage_id, acq.node_id))

    def _elsewhere(self, found: FoundRun | FoundAcq, marker: str) -> str | None:
        where = found.told.location
        if (where.mp, where.path) == (self._mp, found.path):
            return None
        return f"Its {marker} says that it lies in {errors.shown(where.path)} below {errors.shown(where.mp)}."

    def _is_known(self, id: str, uid: str, kind: type[Run | Acq]) -> bool:
        node = self._node(id)
        known = isinstance(node, kind) and node.uid == uid
        self._counts["known"] += known
        return known

    def _taken(self, id: str) -> str | None:
        node = self._node(id)
        if node is not None:
            return f"The id {id} is that of another node, with uid {node.uid}."
        return f"Something is under way with {id}." if id in self._busy else None

    # Groups: their ids are in the run's, the place of the base run group is the folder above the run's

    def _wrong_groups(self, told: RunFile, place: str) -> str | None:
        """Why the run cannot be in the groups that its id names."""
        *above, base = groups_of(told.run_id)
        for id in (*above, base):
            node = self._node(id)
            if node is not None and type(node) is not Group:
                return f"{id} is no group."
        group = self._node(base)
        if group is None or (group.mp, group.path) == (self._mp, place) or base in self._guessed:
            return "The folder of its base run group lies too deep." if names.path(place) else None
        return f"Its base run group {base} lies in {errors.shown(group.path)} below {errors.shown(group.mp)}."

    def _groups(self, told: RunFile, place: str, visible: bool) -> Group:
        """The run's base run group; what is missing of it and above it is made."""
        *above, base = groups_of(told.run_id)
        for id in above if visible else ():  # one that is not in the RunDB needs no parents there
            self._group(id, told, None, visible)
        return self._group(base, told, place, visible)

    def _group(self, id: str, told: RunFile, place: str | None, visible: bool) -> Group:
        """A group, with the place that is told of it: by the run, or as that of a base run group. Else it is
        guessed, until a run is found that tells it."""
        found, said = self._node(id), next((each for each in told.groups if each.id == id), None)
        if type(found) is Group:
            group = replace(found, visible=found.visible or visible)
        else:
            parent_id, _, name = id.rpartition("/")
            group = Group(id, self._now.fresh(), name, parent_id, self._mp, "", visible, told.created_at)
            self._counts["group"] += 1
            if len(self._guessed) < MOST_GUESSED:
                self._guessed[id] = None
        if found is None or id in self._guessed:
            if said is not None:
                group = replace(group, uid=said.uid, mp=said.mp, path=said.path, created_at=said.created_at)
            elif place is not None:
                group = replace(group, mp=self._mp, path=place)
            if said is not None or place is not None:
                self._guessed.pop(id, None)
        if group != found:
            self._made[id] = group
            self.events.append(Event(facts.GroupCreated(group), None, id))
        return group

    # Manifests

    @staticmethod
    def _searched(found: FoundAcq, acq: Acq) -> tuple[Link, ...]:
        by_name = {proof.link.name: proof.link for proof in found.proofs}
        return tuple(by_name[name] for name in acq.manifests if name in by_name)

    def _newest(self, proofs: tuple[Proof, ...]) -> tuple[Chain, ...]:
        """The chains that go on from one of these manifests: they were not known, and it is the newest so far."""
        chains: dict[str, Chain] = {}
        for proof in proofs:
            id = proof.storage_id
            if names.token(id) or not is_time(proof.time):
                continue
            chain, ours = self._chains.get(id) or self._state.chain(id), self._tails.get(id)
            if ours is None:
                goes_on = chain is None and len(self._tails) < MOST_TAILS
            else:
                # A manifest may have been written since: then the chain is not ours any more.
                goes_on = chain is not None and chain.tail == ours.link and proof.time > ours.time
            if goes_on:
                self._tails[id] = proof
                self._chains[id] = chains[id] = Chain(id, proof.link)
        return tuple(chains.values())
