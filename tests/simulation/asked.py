"""What clients asked and what they were answered, held against the journal (SPEC 2, 4, 5)."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from storage_protocol import commands as c
from storage_protocol.commands import COMMANDS, Command
from storage_protocol.errors import CODES, Refusal

from . import barrier
from .broken import must
from .journal import Journal
from .measured import digest
from .records import Map

Code = str
KINDS = {
    "init_storage": "storage", "config_storage": "storage", "inval_storage": "storage",
    "register_producer_storage": "storage", "unregister_producer_storage": "storage", "get_storage": "storage",
    "new_run_storage": "run", "get_run": "run",
    "new_acq_storage": "acq", "close_acq_storage": "acq", "abort_acq_storage": "acq", "get_acq": "acq",
    "retry_conversion": "conversion", "cancel_conversion": "conversion", "get_conversion": "conversion",
    "new_group": "group",
}  # fmt: skip
ID_OF = {
    "storage": "storage_id", "run": "run_id", "acq": "acq_id", "conversion": "conversion_id", "group": "id",
}  # fmt: skip
MAY_BE_LATER = ("overloaded", "key_expired")
"""How a repeat may be answered whose first reply was ok: all others are the same reply."""


class Ask:
    """One command with its key, sent once or often.

    forgotten   its key was
    runs_again  and may be taken for new: it does not tell its age, or somebody has set the clock,
                perhaps back to the key's own day (SPEC 7.25)
    """

    def __init__(self, command: Command, key: str | None, tag: str) -> None:
        self.command, self.key, self.tag = command, key, tag
        self.mutating = COMMANDS[command.CMD].mutating
        self.result: Any = None
        self.since = 0
        self.acknowledged = self.forgotten = self.runs_again = False
        self.refused: Counter[Code] = Counter()
        self.delivered: list[Attempt] = []

    def __repr__(self) -> str:
        return f"{self.tag} {self.command} key={self.key}"


class Attempt:
    """A command in a message. `floor`: the newest seq that was durable when it arrived; `ceiling`: when its reply
    left."""

    __slots__ = ("answered", "ask", "ceiling", "floor", "id", "lane", "number")

    def __init__(self, ask: Ask, id: int) -> None:
        self.ask, self.id = ask, id
        self.floor = self.ceiling = self.number = 0
        self.lane: tuple[bytes, str] = (b"", "")
        self.answered = False


class Asked:
    """
    asks       everything that was asked, by the client's word for it
    openings   what was asked to open an acquisition, by storage, run and name
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.asks: dict[str, Ask] = {}
        self.openings: dict[tuple[str, str, str], list[c.NewAcq]] = defaultdict(list)
        self.by_key: dict[str, list[Ask]] = defaultdict(list)
        self.numbers: dict[tuple[str, str, str], dict[int, str]] = defaultdict(dict)
        self.acknowledged = 0
        self._lanes: dict[tuple[bytes, str], list[Attempt]] = defaultdict(list)
        self._peers: dict[bytes, list[Attempt]] = defaultdict(list)
        self._seen = 0
        journal.on_opened = self._opened

    def new(self, command: Command, key: str | None, tag: str) -> Ask:
        """A new one; the same command with the same key is the one that there was."""
        for before in self.by_key.get(key, ()) if key is not None else ():
            if before.command == command:
                return before
        ask = self.asks[tag] = Ask(command, key, tag)
        if key is not None:
            self.by_key[key].append(ask)
        if isinstance(command, c.SetConfig) and command.document == tag.encode():
            self.journal.words[digest(command.document)] = tag
        if isinstance(command, c.NewAcq):
            self.openings[command.storage_id, command.run_name, command.acq_name].append(command)
        return ask

    def delivered(self, attempt: Attempt, peer: bytes) -> None:
        """It arrived at the service."""
        self._seen += 1
        attempt.number, attempt.floor = self._seen, self.journal.last_seq
        attempt.lane = (peer, getattr(attempt.ask.command, "storage_id", ""))
        attempt.ask.delivered.append(attempt)
        if attempt.lane[1]:
            self._lanes[attempt.lane].append(attempt)
        self._peers[peer].append(attempt)

    # Each reply, when it leaves the service

    def replied(self, attempt: Attempt, result: Any, error: Refusal | None) -> None:
        must(not attempt.answered, "doubled", "answered twice", attempt.ask, result, error)
        attempt.answered, attempt.ceiling = True, self.journal.last_seq
        ask = attempt.ask
        if error is not None:
            self._refused(attempt, error)
        elif not ask.mutating:
            self._read(attempt, result)
        elif ask.acknowledged and ask.key is not None and (not ask.runs_again or result == ask.result):
            must(result == ask.result, "doubled", "a repeat has another reply", ask, ask.result, result)
        else:
            others = [each for each in self.by_key.get(ask.key or "", ()) if each is not ask and each.acknowledged]
            must(
                not others or any(each.runs_again for each in others),
                "doubled",
                "one key ran two commands",
                ask,
                others,
            )
            ask.acknowledged, ask.result, ask.since = True, result, self._seen
            self.acknowledged += 1
            self._effect(attempt, result)

    def _refused(self, attempt: Attempt, error: Refusal) -> None:
        ask = attempt.ask
        must(error.code in CODES and error.code != "internal", "wrong", "refused as", error, ask)
        must(error.message.endswith("."), "wrong", "a message is one sentence", error)
        # What arrived before may have been refused before, in a message that waited for its other commands.
        if ask.acknowledged and ask.key is not None and not ask.runs_again and attempt.number > ask.since:
            # That a key is forgotten may be told together with what is rolled back then.
            may_be = (*MAY_BE_LATER, "unavailable") if ask.forgotten else MAY_BE_LATER
            must(error.code in may_be, "lost", "refused after it was acknowledged", error, ask)
        if error.code == "conflict":
            must(len(self.by_key[ask.key or ""]) > 1, "wrong", "in conflict with itself", ask)
        if error.code == "not_found" and not ask.mutating:
            kind = KINDS.get(ask.command.CMD, "storage")
            id = getattr(ask.command, ID_OF[kind])
            gone = self.journal.version(kind, id, None, attempt.floor)
            must(gone, "lost", "not found, and it is there", ask, error)
        ask.refused[error.code] += 1

    def _read(self, attempt: Attempt, result: Any) -> None:
        command, journal = attempt.ask.command, self.journal
        if isinstance(command, c.ListStorages):
            must(result["last_seq"] >= attempt.floor, "lost", "a snapshot from before it was asked for", result)
            for each in result["storages"]:
                known = journal.version("storage", each["storage_id"], each, result["last_seq"])
                must(known, "wrong", "a snapshot of what never was", each)
        elif command.CMD in KINDS:
            self._is_a_version(attempt, result)

    def _is_a_version(self, attempt: Attempt, result: Map) -> None:
        """The record that is told was so, and is not older than what was known when the command came."""
        kind = KINDS[attempt.ask.command.CMD]
        id = result[ID_OF[kind]]
        if kind == "group":
            must(id in self.journal.groups, "lost", "acknowledged and not durable", attempt.ask, result)
            return
        # The reply of an earlier attempt may have been lost: it is the one that is told.
        fits = self.journal.version(kind, id, result, attempt.ask.delivered[0].floor)
        must(fits, "lost", "it tells of what is not durable, or of what is long past", attempt.ask, result,
             self.journal.versions[kind, id][-3:])  # fmt: skip

    def _effect(self, attempt: Attempt, result: Any) -> None:
        """The first ok: what it tells is durable by now."""
        ask, command = attempt.ask, attempt.ask.command
        if command.CMD in KINDS:
            self._is_a_version(attempt, result)
        match command:
            case c.SetParamAcq() | c.SetParamRun():
                self._happened(ask, result["stored"])
            case c.MarkAsFinished():
                self._happened(ask, result["counted"])
                self._arrow_of_mark(attempt, result)
            case c.AnnotateNode():
                self._happened(ask, True)
            case c.SetConfig():
                own = command.document == ask.tag.encode()
                expected = None if command.document is None else digest(command.document)
                must(result["blake3"] == expected, "wrong", "another document was handed in", ask, result)
                if own:
                    self._happened(ask, True)
            case c.NewAcq() if command.params:
                self._happened(ask, True)
            case c.NewRun():
                if command.params:
                    self._happened(ask, True)
                if "{n" in command.run_name:
                    self._numbered(ask, command, result)
            case c.CloseAcq():
                must(result["state"] == "finished", "wrong", "closed, and not finished", ask, result)
                self._happened(ask, result["reason"] == ask.tag)
            case c.AbortAcq():
                must(result["state"] == "aborted", "wrong", "aborted, and it is not", ask, result)
                self._happened(ask, result["reason"] == ask.tag)
            case c.RegisterProducer() if command.producer is not None:
                must(
                    command.producer in result["producers"], "lost", "registered, and it is not there", ask, result
                )
            case c.UnregisterProducer():
                must(command.producer not in result["producers"], "lost", "it is still there", ask, result)
            case c.ConfigStorage():
                must(result["state"] != "ready", "lost", "configured, and it is not", ask, result)
            case c.InvalStorage():
                must(result["state"] == "ready", "lost", "invalidated, and it is not", ask, result)
        self._arrow_without_event(attempt, result)

    def _happened(self, ask: Ask, changed: bool) -> None:
        if ask.runs_again:
            return
        count = len(self.journal.tags.get(ask.tag, ()))
        what = "lost" if count < changed else "doubled"
        must(count == int(changed), what, f"acknowledged with {int(changed)} effects, {count} are durable", ask)

    def _numbered(self, ask: Ask, command: c.NewRun, result: Map) -> None:
        before, _, after = command.run_name.partition("{")
        after = after.partition("}")[2]
        group = result["run_id"].removesuffix("/" + result["run_name"])
        number = int(result["run_name"].removeprefix(before).removesuffix(after or "\0"))
        taken = self.numbers[group, before, after]
        must(number not in taken, "doubled", f"the number {number} was given twice", ask, taken.get(number))
        taken[number] = ask.tag

    # What an acquisition is opened with

    def _opened(self, acq: Map, storage: Map) -> None:
        """Somebody asked for it so; the barrier's names and number follow from that and from the storage."""
        asks = self.openings[acq["storage_id"], acq["run_name"], acq["acq_name"]]
        had = storage["producers"], storage["producers_unnamed"], storage["producers_count"]
        told = ([*acq["missing"]], acq["expected"], acq["convert_script"])
        found = any((*barrier.expected(*had, each), each.convert_script) == told for each in asks)
        must(found, "wrong", "opened as nobody asked for", told, had, asks)

    # Arrows of the tables that no event tells of

    def _arrow_of_mark(self, attempt: Attempt, result: Map) -> None:
        if not result["counted"]:
            guard = "misfit" if result["state"] == "open" else ""
            self.journal.arrows["acquisition", result["state"], "mark_as_finished_storage", guard] += 1

    def _arrow_without_event(self, attempt: Attempt, result: Any) -> None:
        """A command that changed nothing: its record was the same when the command came, and is so still."""
        command, journal = attempt.ask.command, self.journal
        if len(attempt.ask.delivered) > 1:
            return
        if isinstance(command, c.DeinitStorage):
            if journal.versions["storage", command.storage_id][-1][0] <= attempt.floor:
                journal.arrows["storage", "absent", command.CMD, ""] += 1
            return
        kind = KINDS.get(command.CMD)
        if kind is None or kind in ("run", "group"):
            return
        seq, record = journal.versions[kind, result[ID_OF[kind]]][-1]
        if seq <= attempt.floor and record == result and self._changes_nothing(command, result):
            what = {"acq": "acquisition"}.get(kind, kind)
            guard = {"init_storage": "same args", "new_acq_storage": "append"}.get(command.CMD, "")
            journal.arrows[what, result["state"], command.CMD, guard] += 1

    def _changes_nothing(self, command: Command, result: Map) -> bool:
        return not isinstance(command, c.RegisterProducer | c.UnregisterProducer | c.RetryConversion)

    # At the end

    def ended(self) -> None:
        """All is answered: no word has come true twice, no refused one at all, and all in the order sent."""
        for tag, seqs in self.journal.tags.items():
            ask = self.asks.get(tag)
            must(ask is not None and ask.delivered, "wrong", "an effect of what nobody sent", tag)
            if ask is None:
                continue
            must(len(seqs) == 1 or ask.runs_again, "doubled", f"{len(seqs)} effects, at {seqs}", ask)
            asked_for = (getattr(ask.command, "uid", None), getattr(ask.command, "segment", None))
            pairs = zip(asked_for, self.journal.segments.get(tag, asked_for), strict=True)
            fits = all(given in (None, told) for given, told in pairs)
            must(fits, "wrong", "it came true for another one", ask, self.journal.segments.get(tag))
            # What a door was given is carried out, also when who waited was told that it could not be done yet.
            goes_on = isinstance(ask.command, c.NewRun | c.NewAcq) and ask.refused["unavailable"]
            if not ask.acknowledged and not goes_on and all(each.answered for each in ask.delivered):
                must(False, "wrong", "refused, and it has an effect", ask, ask.refused, seqs)
        for attempts in self._lanes.values():
            self._in_order(attempts)
        for attempts in self._peers.values():
            self._own_is_seen(attempts)

    def _in_order(self, attempts: list[Attempt]) -> None:
        """Of one connection and one storage: effects come in the order sent. Only of what was sent once."""
        newest, last = 0, None
        for attempt in attempts:
            ask = attempt.ask
            seqs = self.journal.tags.get(ask.tag, ())
            if len(ask.delivered) == 1 and len(seqs) == 1 and ask.acknowledged:
                must(seqs[0] > newest, "wrong", "a later command came true first", last, ask)
                newest, last = seqs[0], ask

    def _own_is_seen(self, attempts: list[Attempt]) -> None:
        """A query tells of all that its own connection did before: that was durable when its reply left."""
        newest: dict[str, int] = {}
        for attempt in attempts:
            ask, storage = attempt.ask, attempt.lane[1]
            seqs = self.journal.tags.get(ask.tag, ())
            later = isinstance(ask.command, c.CancelConversion)  # a running one ends when it ends
            if ask.mutating and ask.acknowledged and len(ask.delivered) == len(seqs) == 1 and not later:
                newest[storage] = max(newest.get(storage, 0), seqs[0])
            elif attempt.answered and ask.command.CMD in KINDS and not ask.mutating:
                before = newest.get(storage, 0) if storage else max(newest.values(), default=0)
                must(before <= attempt.ceiling, "lost", f"it does not tell of {before}, which came before", ask)
