"""A small world for the rules: a real `State`, driven by `decide`, `settle` and `evolve` alone.

    World().init("s").config("s").run("s", "r").acq("s", "r", "a")

No desk, no store, no clock: every command is decided on complete knowledge, its outside work is answered at once
(with `Done`, unless a test says otherwise), and its events are applied. Times and ids are counted, never drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from storage_protocol import commands
from storage_protocol.commands import Command
from storage_protocol.errors import Refusal
from storage_protocol.limits import Limits
from storage_protocol.times import to_wire
from storage_service.rules import conversions, decide, facts, render
from storage_service.rules.conversions import Policy
from storage_service.rules.decision import Accepted, Decision, Intended, Intent, Moment, Waits
from storage_service.rules.evolve import evolve
from storage_service.rules.facts import Event
from storage_service.rules.state import Acq, Conversion, Key, Places, Record, Run, State, Storage
from storage_service.rules.work import Done, Ended, Result

START = 1_700_000_000.0
GROUP = "root/g"


class Outcome(Struct, frozen=True):
    """What came of a command: its events' types in order, its reply (a record, or a `Refusal`), its intents."""

    types: list[str]
    reply: Any
    intents: list[Any]
    events: list[Event]

    @property
    def code(self) -> str:
        """The refusal's code; "" when it was not refused."""
        return self.reply.code if isinstance(self.reply, Refusal) else "waits" if self.reply is Waits else ""


class World:
    def __init__(self, limits: Limits | None = None) -> None:
        self.state = State(Places({"file:///": "/data"}))
        self.limits = limits or Limits()
        self.wall = START
        self.told: list[Event] = []
        self._ids = 0

    # Driving

    def moment(self) -> Moment:
        return Moment(wall=self.wall, time=to_wire(self.wall), fresh=self.fresh, mono=self.wall - START)

    def fresh(self) -> str:
        self._ids += 1
        return f"id-{self._ids}"

    def do(self, command: Command, *results: Result) -> Outcome:
        """Decide a command, a second later than the one before; what it asks outside is answered with `results`,
        then with `Done`."""
        self.wall += 1.0
        self._know(lambda: decide.needs(self.state, command))
        decision = decide.decide(self.state, command, self.moment(), self.limits)
        return self._follow(decision, list(results))

    def settle(self, intent: Intent, result: Result) -> Outcome:
        """What an intent comes to that was left open."""
        return self._follow(Intended(intent), [result])

    def _follow(self, decision: Decision, answers: list[Result]) -> Outcome:
        events: list[Event] = []
        intents: list[Any] = []
        while isinstance(decision, Intended):
            intents.append(decision.intent)
            if hasattr(decision.intent, "conversion_id"):  # told at once
                return Outcome([each.fact.TYPE for each in events], None, intents, events)
            intent = decision.intent
            events += self.apply(decision.events)
            result = answers.pop(0) if answers else Done()
            self._know(lambda intent=intent, result=result: decide.needs_to_settle(self.state, intent, result))
            decision = decide.settle(self.state, intent, result, self.moment(), self.limits)
        reply: Any = Waits if isinstance(decision, Waits) else decision
        if isinstance(decision, Accepted):
            events += self.apply(decision.events)
            reply = render.answer(self.state, decision.answer)
        return Outcome([each.fact.TYPE for each in events], reply, intents, events)

    def apply(self, events: Iterable[Event]) -> list[Event]:
        """Make events true."""
        applied = []
        for event in events:
            self.state.records.update(evolve(self.state, event, self.moment().time))
            if isinstance(event.fact, facts.StorageDeinitialized):
                del self.state.records["storage", event.subject]
            applied.append(event)
        self.told += applied
        return applied

    def _know(self, needs: Any) -> None:
        """Everything is in memory here: what is not, does not exist."""
        self.state.complete.clear()
        self.state.nested.clear()
        while missing := [key for key in needs() if not self.state.has(key)]:
            for table, id in missing:
                if table == "acqs_of":
                    self.state.complete.add(id)
                elif table == "nested":
                    self.state.nested[id] = self._nested(id)
                else:
                    self.state.records[table, id] = None

    def _nested(self, acq_id: str) -> str | None:
        for each in self.state.records.values():
            if isinstance(each, Acq):
                inner, outer = sorted((f"{each.node_id}/", f"{acq_id}/"), key=len, reverse=True)
                if inner.startswith(outer):
                    return each.node_id
        return None

    # Building: each step must be accepted

    def must(self, command: Command) -> World:
        outcome = self.do(command)
        assert not outcome.code, outcome.reply
        return self

    def init(self, storage_id: str = "s", **args: Any) -> World:
        return self.must(commands.InitStorage(storage_id=storage_id, **{"brg_name": "g", **args}))

    def config(self, storage_id: str = "s") -> World:
        return self.must(commands.ConfigStorage(storage_id=storage_id))

    def inval(self, storage_id: str = "s", *, force: bool = False) -> World:
        return self.must(commands.InvalStorage(storage_id=storage_id, force=force))

    def deinit(self, storage_id: str = "s") -> World:
        return self.must(commands.DeinitStorage(storage_id=storage_id, force=True))

    def register(self, producer: str | None = None, storage_id: str = "s") -> World:
        return self.must(commands.RegisterProducer(storage_id=storage_id, producer=producer))

    def run(self, storage_id: str = "s", run_name: str = "r", **args: Any) -> World:
        return self.must(commands.NewRun(storage_id=storage_id, run_name=run_name, **args))

    def acq(self, storage_id: str = "s", run_name: str = "r", acq_name: str = "a", **args: Any) -> World:
        return self.must(commands.NewAcq(storage_id=storage_id, run_name=run_name, acq_name=acq_name, **args))

    def mark(self, producer: str | None = None, acq_id: str = "root/g/r/a", **args: Any) -> World:
        storage = self.acquisition(acq_id).storage_id
        return self.must(commands.MarkAsFinished(storage_id=storage, acq_id=acq_id, producer=producer, **args))

    def close(self, acq_id: str = "root/g/r/a") -> World:
        return self.must(commands.CloseAcq(storage_id=self.acquisition(acq_id).storage_id, acq_id=acq_id))

    def abort(self, acq_id: str = "root/g/r/a") -> World:
        return self.must(commands.AbortAcq(storage_id=self.acquisition(acq_id).storage_id, acq_id=acq_id))

    def seal(self, acq_id: str = "root/g/r/a") -> World:
        """What the desk tells when the data are synced."""
        acq = self.acquisition(acq_id)
        self.apply([Event(facts.AcqSealed(acq_id), acq.storage_id, acq_id)])
        return self

    def start(self, conversion_id: str = "") -> World:
        """Claim an attempt; without an id, of the newest conversion."""
        conversion = self.conversion(conversion_id)
        self.apply([conversions.start(conversion, self.moment())])
        return self

    def end(
        self,
        how: str = "exited",
        exit_code: int | None = 0,
        *,
        conversion_id: str = "",
        cancel: str | None = None,
        policy: Policy | None = None,
        reason: str = "",
    ) -> list[str]:
        """An attempt is over; the types of what is told. `cancel` is the reason that a client gave, if one did."""
        self.wall += 1.0
        conversion = self.conversion(conversion_id)
        id, attempt = conversion.conversion_id, conversion.attempt
        result = Ended(id, attempt, how, exit_code, reason=reason)
        events = conversions.ended(self.state, result, cancel, policy or Policy(), self.moment())
        return [each.fact.TYPE for each in self.apply(events)]

    # Looking

    def storage(self, storage_id: str = "s") -> Storage:
        found = self.state.storage(storage_id)
        assert found is not None, storage_id
        return found

    def storage_state(self, storage_id: str = "s") -> str:
        found = self.state.storage(storage_id)
        return found.state if found is not None else "absent"

    def a_run(self, run_id: str = "root/g/r") -> Run:
        found = self.state.run(run_id)
        assert found is not None, run_id
        return found

    def acquisition(self, acq_id: str = "root/g/r/a") -> Acq:
        found = self.state.acq(acq_id)
        assert found is not None, acq_id
        return found

    def acq_state(self, acq_id: str = "root/g/r/a") -> str:
        found = self.state.records.get(("node", acq_id))
        return found.state if isinstance(found, Acq) else "absent"

    def conversions(self) -> list[Conversion]:
        """Oldest first."""
        return [each for each in self.state.records.values() if isinstance(each, Conversion)]

    def conversion(self, conversion_id: str = "") -> Conversion:
        """Without an id: the newest."""
        found = self.conversions()
        return found[-1] if not conversion_id else next(c for c in found if c.conversion_id == conversion_id)

    def conversion_state(self) -> str:
        return self.conversions()[-1].state if self.conversions() else "absent"

    def records(self) -> dict[Key, Record]:
        """Everything that there is, to be compared."""
        return {key: record for key, record in self.state.records.items() if record is not None}
