"""Conversions: queued, started, ended, tried again (SPEC 4.5)."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from storage_protocol import commands, errors
from storage_protocol.errors import Refusal

from . import facts
from .decision import Accepted, Answer, CancelIntent, Decision, Intended, Moment
from .facts import Event
from .lifecycle import allowed, transition
from .state import Acq, Conversion, State
from .work import Ended


class Policy(Struct, frozen=True):
    """How often a conversion is tried.

    max_attempts       attempts that may fail before the conversion has failed
    backoff_s          seconds before the second attempt; doubled for each further one, to 300 at most
    max_interruptions  attempts in a row that the service's own end may interrupt
    """

    max_attempts: int = 1
    backoff_s: float = 2.0
    max_interruptions: int = 20


MAX_BACKOFF_S = 300.0
# How long a conversion waits for its mount point before it looks again.
AWAY_S = 10.0


def queue_for(acq: Acq, script: str, now: Moment) -> Conversion:
    """The conversion of a segment that finishes now."""
    return Conversion(
        conversion_id=now.fresh(),
        acq_id=acq.node_id,
        uid=acq.uid,
        segment=acq.segment,
        script=script,
        storage_id=acq.storage_id,
        mp=acq.mp,
        path=acq.path,
        queued_at=now.time,
    )


def _told(fact: facts.AnyFact, conversion: Conversion) -> Event:
    return Event(fact, conversion.storage_id, conversion.acq_id)


def cancel_queued(state: State, acq_id: str, reason: str, now: Moment) -> tuple[Event, ...]:
    """The queued conversions of an acquisition, cancelled; a running one is not touched."""
    return tuple(
        _told(facts.ConversionCancelled(_cancelled(each, reason, now)), each)
        for each in state.active_conversions(acq_id)
        if each.state == "queued"
    )


def _cancelled(conversion: Conversion, reason: str, now: Moment) -> Conversion:
    return replace(conversion, state="cancelled", reason=reason, ended_at=now.time)


def _the_conversion(state: State, id: str) -> Conversion | Refusal:
    found = state.conversion(id)
    return found if found is not None else errors.not_found("conversion", id)


def retry_conversion(state: State, command: commands.RetryConversion, now: Moment) -> Decision:
    found = _the_conversion(state, command.conversion_id)
    if isinstance(found, Refusal):
        return found
    id = found.conversion_id
    if transition("conversion", found.state, command.CMD) is None:
        message = f"The conversion {id} is {found.state}; only an ended one is tried again."
        return errors.wrong_state("conversion", id, found.state, allowed("conversion", found.state), message)
    acq = state.acq(found.acq_id)
    here = acq.state if acq is not None and acq.uid == found.uid else "removed"
    if transition("acquisition", here, command.CMD) is None:
        message = f"The acquisition {found.acq_id} of the conversion {id} is {here}; it must be finished."
        return errors.wrong_state("acquisition", found.acq_id, here, allowed("acquisition", here), message)
    queued = replace(
        found,
        state="queued",
        storage_id=acq.storage_id if acq is not None else found.storage_id,
        exit_code=None,
        progress=None,
        queued_at=now.time,
        started_at=None,
        ended_at=None,
        reason="",
        tries=0,
        interruptions=0,
        not_before=0.0,
    )
    return Accepted((_told(facts.ConversionQueued(queued), queued),), Answer("conversion", id))


def cancel_conversion(state: State, command: commands.CancelConversion, now: Moment) -> Decision:
    found = _the_conversion(state, command.conversion_id)
    if isinstance(found, Refusal):
        return found
    answer = Answer("conversion", found.conversion_id)
    if found.state == "running":
        return Intended(CancelIntent(found.conversion_id, command.reason))
    row = transition("conversion", found.state, command.CMD)
    if row is None or not row.tells:
        return Accepted((), answer)
    event = _told(facts.ConversionCancelled(_cancelled(found, command.reason, now)), found)
    return Accepted((event,), answer)


def start(conversion: Conversion, now: Moment) -> Event:
    """The claim of an attempt: only after it is committed is the script started."""
    running = replace(
        conversion,
        state="running",
        attempt=conversion.attempt + 1,
        exit_code=None,
        progress=None,
        started_at=now.time,
        ended_at=None,
        reason="",
    )
    return _told(facts.ConversionStarted(running), running)


def ended(
    state: State, result: Ended, cancel_reason: str | None, policy: Policy, now: Moment
) -> tuple[Event, ...]:
    """What came of an attempt; nothing for one that is not the running one (its result was accepted before).

    `cancel_reason` is None unless a client asked for it to be cancelled.
    """
    # A running one is always in memory: what is not there has ended.
    found = state.records.get(("conversion", result.conversion_id))
    if not isinstance(found, Conversion) or found.state != "running" or found.attempt != result.attempt:
        return ()
    told = replace(found, exit_code=result.exit_code, progress=result.progress, reason=result.reason)
    over = replace(told, state="failed", ended_at=now.time)
    if result.how == "exited" and result.exit_code == 0:
        return (_told(facts.ConversionSucceeded(replace(over, state="succeeded", interruptions=0)), found),)
    if cancel_reason is not None:
        return (_told(facts.ConversionCancelled(_cancelled(told, cancel_reason, now)), found),)
    acq = state.acq(found.acq_id)
    may_run = acq is not None and acq.uid == found.uid and acq.state == "finished"
    if result.how in ("interrupted", "away"):
        # Neither is a fault of the script. What waits for its mount point waits for as long as that takes.
        away = result.how == "away"
        interruptions = found.interruptions + (not away)
        if interruptions >= policy.max_interruptions:
            return (_told(facts.ConversionFailed(replace(over, reason="interrupted")), found),)
        if not may_run:
            # Its acquisition was opened again meanwhile: nothing of it is to run then, so nothing of it waits.
            return (_told(facts.ConversionCancelled(_cancelled(told, "opened again", now)), found),)
        again = _again(told, now, result.reason if away else "interrupted", AWAY_S if away else 0.0)
        return (_told(facts.ConversionQueued(replace(again, interruptions=interruptions)), found),)
    tries = found.tries + 1
    reason = result.reason or _exit_reason(result)
    if tries < policy.max_attempts and may_run:
        wait = min(policy.backoff_s * 2 ** (tries - 1), MAX_BACKOFF_S)
        why = f"attempt {found.attempt}: {reason}; the next one in {wait:g} s"
        again = replace(_again(told, now, why, wait), tries=tries, interruptions=0)
        return (_told(facts.ConversionQueued(again), found),)
    return (_told(facts.ConversionFailed(replace(over, reason=reason, tries=tries)), found),)


def _again(conversion: Conversion, now: Moment, reason: str, wait: float) -> Conversion:
    return replace(
        conversion,
        state="queued",
        queued_at=now.time,
        ended_at=now.time,
        reason=reason,
        not_before=now.wall + wait,
    )


def _exit_reason(result: Ended) -> str:
    if result.exit_code is None:
        return result.how
    if result.exit_code < 0:
        return f"ended by signal {-result.exit_code}"
    return f"exit code {result.exit_code}"
