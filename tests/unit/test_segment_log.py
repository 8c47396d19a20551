"""The block of a segment in `acquisition.log`: what people read, one line a matter (SPEC 4.3.9)."""

from __future__ import annotations

from typing import Any

import pytest

from storage_protocol.records import Configuration, CountedMark, DiskUse, Reading, Statistic, Warn
from storage_service.rules.segment_log import WIDEST, block, head
from storage_service.rules.state import Acq

START, END = "2026-05-04T07:30:00.000000Z", "2026-05-04T07:31:30.250000Z"
UNPRINTABLE = [
    "\n", "\r\n", "\v", "\f", "\0", "\x1b[31m", "\x1c", "\x7f", "\x85", "\x9b",
    "\u2028", "\u2029", "\u202e", "\ufeff",
    "\ud800",
]  # fmt: skip


def acq(**more: Any) -> Acq:
    place = ("file:///", "r/a", True, START, START)
    uid = more.pop("uid", "u1")
    return Acq("root/g/r/a", uid, "a", "root/g/r", "r", "s", *place, **{"state": "finished", **more})


def reading(value: Any = None, unit: str | None = None, alarm: str | None = None, missing: Any = None) -> Reading:
    return Reading(value, unit, alarm, missing, START)


def mark(producer: str | None = "p", ok: bool = True, **summary: Any) -> CountedMark:
    return CountedMark(producer, ok, summary, END)


WHOLE = acq(
    segment=2,
    verdict="partial",
    finished_at=END,
    reason="finish_timeout_s of 90 s is over.",
    required=("dif1", "dif2"),
    expected=3,
    marks=(mark("dif1", events=120, path="a b"), mark(None, ok=False)),
    convert_script="to_root.sh",
    params={"beam": "e-", "energy": 4.5, "count": 3, "valid": True, "note": None},
    statistics={
        "temperature": Statistic(reading(20.5, "°C"), reading(21, "°C", "MINOR"), 0.5),
        "ca:HV:1": Statistic(reading(missing="There was no answer within 5 s."), reading("on")),
    },
    configurations=(Configuration("config.xml", "start", "af13", 1234, "set_config_storage"),),
    disk=DiskUse(3, 5000, 12288),
    warnings=(Warn("configuration", "cmod:daq1:9001 gave no configuration within 5 s.", END),),
)

BLOCK = """\
== segment 2 of root/g/r/a (uid u1)

storage     s
started     2026-05-04T07:30:00.000000Z
ended       2026-05-04T07:31:30.250000Z  after 90.250000 s
state       finished
verdict     partial
reason      finish_timeout_s of 90 s is over.
marks       2 of 3
missing     dif2
failed      (without a name)
conversion  to_root.sh
disk        3 files, 5000 bytes, 12288 bytes on the disk

marks
    2026-05-04T07:31:30.250000Z  dif1              ok      events=120 path="a b"
    2026-05-04T07:31:30.250000Z  (without a name)  NOT OK

parameters
    beam    "e-"
    energy  4.5
    count   3
    valid   true
    note    null

statistics
                 start    end         difference  unit
    temperature  20.5     21 (MINOR)  0.5         °C
    ca:HV:1      missing  "on"

statistics that could not be read
    ca:HV:1  start  There was no answer within 5 s.

configuration
    config.xml  start  af13  1234 bytes  set_config_storage

warnings
    2026-05-04T07:31:30.250000Z  configuration  cmod:daq1:9001 gave no configuration within 5 s.

"""


def test_a_block_tells_what_happened() -> None:
    assert block(WHOLE) == BLOCK


def test_a_block_of_which_there_is_little_to_tell_is_short() -> None:
    assert block(acq(state="aborted", reason="The beam is gone.", expected=1, finished_at=END)) == (
        "== segment 1 of root/g/r/a (uid u1)\n\n"
        "storage  s\n"
        f"started  {START}\n"
        f"ended    {END}  after 90.250000 s\n"
        "state    aborted\n"
        "reason   The beam is gone.\n"
        "marks    0 of 1\n\n"
    )


def test_a_block_begins_with_its_head_and_ends_with_an_empty_line() -> None:
    for each in (WHOLE, acq()):
        assert block(each).startswith(f"{head(each)}\n")
        assert block(each).endswith("\n\n")
        assert block(each).count(head(each)) == 1


def test_each_segment_has_a_head_of_its_own_and_so_has_an_acquisition_that_was_made_anew() -> None:
    each = [acq(), acq(segment=2), acq(segment=22), acq(uid="u2")]
    assert len({head(one) for one in each}) == len(each)


def lines(of: Acq) -> list[str]:
    """As whoever reads it may split it: at everything that ends a line somewhere."""
    return block(of).splitlines()


@pytest.mark.parametrize("odd", UNPRINTABLE, ids=ascii)
def test_what_would_end_a_line_or_move_the_cursor_stays_on_its_line_and_is_shown(odd: str) -> None:
    text = f"a{odd}== segment 1 of root/g/r/a (uid u1)"
    calm = "a" + "== segment 1 of root/g/r/a (uid u1)"

    def with_text(text: str) -> Acq:
        return acq(
            reason=text,
            convert_script=text,
            params={"x": text},
            marks=(mark(x=text),),
            statistics={text: Statistic(reading(text, text, text), reading(missing=text))},
            configurations=(Configuration("c", "start", "0", 1, text),),
            warnings=(Warn("seal", text, END),),
        )

    told, expected = lines(with_text(text)), lines(with_text(calm))
    assert len(told) == len(expected)
    assert told.count(head(acq())) == 1
    assert block(with_text(text)).replace("\n", "").isprintable()
    block(with_text(text)).encode()


def test_texts_that_look_like_other_values_are_told_from_them() -> None:
    params: dict[str, Any] = {"a": "1", "b": 1, "c": "null", "d": None, "e": 'say "x"', "f": "für"}
    told = block(acq(params=params))
    for shown in ('a  "1"', "b  1", 'c  "null"', "d  null", 'e  "say \\"x\\""', 'f  "für"'):
        assert f"    {shown}\n" in told


def test_one_long_text_does_not_make_every_row_as_long() -> None:
    statistics = {f"n{n}": Statistic(reading(n), reading(n), 0) for n in range(400)}
    statistics["long"] = Statistic(reading("x" * 60_000), reading("y" * 60_000))
    told = block(acq(statistics=statistics))
    assert len(told) < 120_000 + 400 * 4 * WIDEST + 1000
    assert "x" * 60_000 in told
