"""What was acknowledged, held against the journal and the tallies of the conversions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from tests.torture.asked import Asked
from tests.torture.fold import Fold

PARAMS = {"set_param_acq_storage", "set_param_run_storage"}


def effects(book: Mapping[int, Asked], proxied: set[int], fold: Fold) -> list[str]:
    """Each acknowledged command has its effect, each command at most one."""
    wrong = []
    for asked in book.values():
        told = len(fold.told.get(asked.id, ()))
        if asked.cmd in PARAMS:
            wrong += _times(asked, told, 1 if asked.answered and asked.result["stored"] else 0, proxied)
        elif asked.cmd == "mark_as_finished_storage":
            wrong += _times(asked, told, 1 if asked.answered and asked.result["counted"] else 0, proxied)
        elif asked.cmd == "new_run_storage":
            wrong += _times(asked, told, 1 if asked.answered else 0, proxied)
            if asked.answered:
                uid, name = asked.result["uid"], asked.result["run_name"]
                if fold.run_names.get(uid) != name:
                    wrong.append(f"lost: the journal knows no run {uid} {name}: {asked}, {asked.result}")
        elif asked.cmd == "new_acq_storage" and asked.answered:
            if (asked.result["uid"], asked.result["segment"]) not in fold.started:
                wrong.append(f"lost: the journal knows no such acquisition: {asked}, {asked.result}")
            if told > 1:
                wrong.append(f"doubled: {asked}: {fold.told[asked.id]}")
    if strangers := fold.told.keys() - book.keys():
        wrong.append(f"wrong: events that nobody asked for: {sorted(strangers)[:5]}")
    return wrong + _numbers(book, fold) + _unnamed(book, fold)


def _times(asked: Asked, told: int, expected: int, proxied: set[int]) -> list[str]:
    if told > 1:
        return [f"doubled: {asked} took effect {told} times"]
    if told < expected:
        return [f"lost: {asked} was acknowledged: {asked.result}"]
    if told > expected and (asked.answered or (asked.copies == 1 and asked.id not in proxied)):
        # A second copy of what was refused may be decided anew, later.
        return [f"wrong: {asked} took effect, but was answered {asked.code or asked.result}"]
    return []


def _numbers(book: Mapping[int, Asked], fold: Fold) -> list[str]:
    """Each numbered run belongs to one command."""
    owners: dict[str, list[Asked]] = defaultdict(list)
    for asked in book.values():
        if asked.cmd == "new_run_storage" and asked.answered and "{n" in asked.args["run_name"]:
            owners[asked.result["uid"]].append(asked)
    return [
        f"doubled: run {uid} was given to {[str(each) for each in several]}"
        for uid, several in owners.items()
        if len(several) > 1
    ]


def _unnamed(book: Mapping[int, Asked], fold: Fold) -> list[str]:
    """Producers without a name are only counted: as many as commands were acknowledged."""
    least: Counter[str] = Counter()
    unsure: Counter[str] = Counter()  # refused, but a second copy may have come later
    for asked in book.values():
        if asked.cmd == "register_producer_storage" and "producer" not in asked.args:
            storage = asked.args["storage_id"]
            least[storage] += bool(asked.answered)
            unsure[storage] += not asked.answered
    wrong = []
    for storage, told in fold.counts["unnamed"].items():
        if told > least[storage] + unsure[storage]:
            wrong.append(f"doubled: {told} unnamed producers of {storage}, {least[storage]} were acknowledged")
    for storage, count in least.items():
        if fold.counts["unnamed"][storage] < count:
            wrong.append(f"lost: {fold.counts['unnamed'][storage]} unnamed producers of {storage}, not {count}")
    return wrong


def ends(book: Mapping[int, Asked], fold: Fold) -> list[str]:
    """What was acknowledged to be closed or aborted has ended so, and each finished segment has its conversion."""
    wrong = []
    ways = {"close_acq_storage": "finished", "abort_acq_storage": "aborted"}
    for asked in book.values():
        if asked.cmd in ways and asked.answered:
            told = fold.ended.get((asked.result["uid"], asked.result["segment"]))
            if told != ways[asked.cmd]:
                wrong.append(f"lost: {asked} was acknowledged, the journal says it is {told}: {asked.result}")
    if forgotten := fold.owed - fold.counts["conversion"].keys():
        wrong.append(f"lost: finished, to be converted, and never queued: {sorted(forgotten)[:5]}")
    if strange := fold.counts["conversion"].keys() - fold.owed:
        wrong.append(f"wrong: conversions that nobody asked for: {sorted(strange)[:5]}")
    return wrong


def order(book: Mapping[int, Asked], proxied: set[int], fold: Fold) -> list[str]:
    """What was acknowledged before another was asked comes before it in the journal; so does, for one storage,
    what was sent before it on the same connection."""
    wrong = []
    placed = [
        (asked, fold.told[asked.id][0]) for asked in book.values() if fold.told.get(asked.id) and asked.answered
    ]
    by_end = sorted(placed, key=lambda pair: pair[0].answered)
    newest, newest_of, position = 0, None, 0
    for asked, seq in sorted(placed, key=lambda pair: pair[0].first_sent):
        while position < len(by_end) and by_end[position][0].answered < asked.first_sent:
            if by_end[position][1] > newest:
                newest, newest_of = by_end[position][1], by_end[position][0]
            position += 1
        if seq < newest:
            wrong.append(
                f"wrong: {asked} is seq {seq}, before {newest_of} (seq {newest}) that was acknowledged earlier"
            )
    last: dict[tuple[int, str], tuple[int, Asked]] = {}
    for asked, seq in sorted(placed, key=lambda pair: pair[0].first_sent):
        if asked.copies > 1 or asked.id in proxied:
            continue
        lane = (asked.line, asked.args["storage_id"])
        if lane in last and last[lane][0] > seq:
            wrong.append(f"wrong: {asked} (seq {seq}) overtook {last[lane][1]} (seq {last[lane][0]})")
        last[lane] = (seq, asked)
    return wrong


def conversions(fold: Fold, tally: Path) -> list[str]:
    """The scripts' own account: one at a time, each attempt once, and what succeeded came to its end."""
    wrong = []
    known = {(each["uid"], each["segment"]): each for each in fold.conversions.values()}
    for path in tally.iterdir():
        if path.suffix in (".lock", ".failed"):
            continue
        uid, _, segment = path.name.rpartition(".")
        conversion = known.pop((uid, int(segment)), None)
        lines = [(word, int(number)) for word, number in (line.split() for line in path.read_text().splitlines())]
        starts = [number for word, number in lines if word == "start"]
        ends = [number for word, number in lines if word == "end"]
        if any(word == "overlap" for word, _ in lines):
            wrong.append(f"doubled: conversions overlap in {path.name}: {lines}; {conversion}")
        if starts != sorted(set(starts)) or len(ends) != len(set(ends)):
            wrong.append(f"doubled: an attempt ran twice in {path.name}: {lines}; {conversion}")
        running = 0
        for word, number in lines:
            running = number if word == "start" else running
            if word == "end" and number != running:
                wrong.append(f"doubled: attempt {number} ended after {running} had begun, {path.name}: {lines}")
        if conversion is None:
            wrong.append(f"wrong: a conversion that the journal does not know: {path.name}")
        elif conversion["state"] == "succeeded" and conversion["attempt"] not in ends:
            wrong.append(f"lost: attempt {conversion['attempt']} succeeded, but never came to its end: {lines}")
        elif starts and starts[-1] > conversion["attempt"]:
            wrong.append(f"wrong: attempt {starts[-1]} ran, the journal knows {conversion}")
    for conversion in known.values():
        if conversion["state"] == "succeeded":
            wrong.append(f"lost: it succeeded and never ran: {conversion}")
    return wrong
