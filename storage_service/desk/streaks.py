"""Parameters of one acquisition, set by one peer in a row: by far the most commands, and nearly all alike.

What is the same for all of a streak is looked at once: where the acquisition is, whose it is, whether it is open,
whether somebody is at work on it. Nothing of that changes between them. What is each command's own, its key and
whether there is room for its parameter, is looked at for each. The first command that needs more than that ends
the streak, and goes the way of all others (`deciding.py`), which a streak only shortens.
"""

from __future__ import annotations

from itertools import islice
from operator import attrgetter

from storage_protocol.codec import encode_value
from storage_protocol.commands import SetParamAcq
from storage_protocol.names import NUMBER_BYTES, Value

from ..rules import parameters
from ..rules.decision import Moment
from ..rules.state import Acq
from .keyring import fingerprint
from .ledger import Ledger
from .messages import Ticket

STORED = encode_value(parameters.STORED.value)
"""The result of every command of a streak."""

_command = attrgetter("request.command")
_target = attrgetter("storage_id", "acq_id", "uid", "segment")


class Streaks:
    """`_full`: the acquisition that had no room for a parameter, until its peer's next commands are taken."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._full: Acq | None = None

    def decide(self, tickets: list[Ticket], at: int, moment: Moment) -> int:
        """Decide the streak that begins at this ticket; how many commands it had. 0: it is none."""
        first, ledger = tickets[at].request, self._ledger
        if at == 0:
            self._full = None
        if type(first.command) is not SetParamAcq or ledger.scopes.held:
            return 0
        acq = self._acq_of(first.command, first.key)
        if acq is None or acq is self._full:
            return 0
        streak = self._of_this_target(tickets, at, first.command)
        given: list[tuple[str, Value]] = [(each.param, each.value) for each in map(_command, streak)]
        # A frame has all the text that counts; a number may be shorter there than what it counts.
        most_bytes = sum([each.size for each in streak]) + NUMBER_BYTES * len(streak)
        fit = parameters.how_many_fit(acq, given, most_bytes, ledger.limits)
        if not fit:
            # Those behind it are likely to be refused as well: not each of them looks at all that follow.
            self._full = acq
        new = self._with_new_keys(streak[:fit])
        if new:
            ledger.batch.set_params(acq, given[:new], moment.time)
            ledger.replies.all_when_durable(streak[:new], STORED)
        return new

    def _acq_of(self, first: SetParamAcq, key: str | None) -> Acq | None:
        """The acquisition, if the first command needs no more than a streak looks at."""
        if key is not None and not self._ledger.keyring.is_new(key):
            return None
        try:
            acq = parameters.settable_acq(self._ledger.state, first)
        except Exception:  # noqa: BLE001
            # A KeyError: a record that is not in memory is looked up where commands go one by one. There a defect
            # in a rule is met again, and told.
            return None
        return acq if isinstance(acq, Acq) else None

    def _of_this_target(self, tickets: list[Ticket], at: int, first: SetParamAcq) -> list[Ticket]:
        """The tickets from there on that set a parameter of the same, with room for the reply."""
        target, streak = _target(first), []
        for ticket in islice(tickets, at, None):
            command, message = ticket.request.command, ticket.message
            if type(command) is not SetParamAcq or _target(command) != target:
                break
            if message.room <= len(STORED) * len(message.sizes) or message.order:
                break
            streak.append(ticket)
        return streak

    def _with_new_keys(self, streak: list[Ticket]) -> int:
        """Put the keys into the batch, until one may have come before. How many commands may go on."""
        keyring, batch, new = self._ledger.keyring, self._ledger.batch, 0
        for ticket in streak:
            key = ticket.request.key
            if key is not None:
                ticket.fingerprint = fingerprint(ticket.request.command)
                if not keyring.start_if_new(key, ticket.fingerprint):
                    break
                batch.keys.append((key, ticket.fingerprint, STORED))
            new += 1
        return new
