"""What was read of a variable at the start or the end of an acquisition: a value, or why there is none."""

from __future__ import annotations

from msgspec import Struct

from storage_protocol.names import Value


class Reading(Struct, frozen=True):
    """One look at a variable.

    value     what it was; nil too where `missing` says why it is not known
    unit      as its source says, nil where it has none
    severity  of its alarm, as its source says (`NO_ALARM`, `MINOR`, ...), nil where it has none
    missing   empty, or one sentence that says why it could not be read
    """

    value: Value = None
    unit: str | None = None
    severity: str | None = None
    missing: str = ""
