"""Variables of a Pyrame varmod, over TCP: the dialect of Pyrame 2, and that of Pyrame 3, which has name spaces.

Its values are text. Statistics, which other modules tell it, reach it up to one second late: who reads at an end
waits that long before.
"""

from __future__ import annotations

import math
import re

from storage_protocol.errors import TOO_LARGE, UNAVAILABLE, shown
from storage_protocol.limits import Limits
from storage_protocol.names import INT64_MAX, INT64_MIN, Value

from ...rules.readings import Reading
from ...rules.work import Fault
from .pyrame import Module, Unsayable, request

CONNECTIONS = 4
VALUE_BYTES = Limits().value_bytes

_INT = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][+-]?[0-9]{1,4})?")
_FLOAT_LENGTH = 64  # what is longer says more than a float can hold


def parse_value(text: str) -> Value:
    """The number that a text is exactly, else the text: `007`, `1_000`, `nan` and ` 1` stay what they are."""
    if _INT.fullmatch(text) and INT64_MIN <= int(text) <= INT64_MAX:
        return int(text)
    if len(text) <= _FLOAT_LENGTH and _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


class Varmod:
    """Variables of the varmod at `address` (`host:port`); see `Variables` for what its methods do and raise.

    `module` is the `vid` (dialect 2) or `varmod_id` (dialect 3) of its requests, `ns` the name space of dialect 3.
    """

    def __init__(self, address: str, dialect: int, module: str = "0", ns: str = "") -> None:
        """Raises ValueError, with a sentence, for an address or a dialect that is none."""
        if dialect not in (2, 3):
            raise ValueError(f"{dialect!r} is no dialect of varmod; it must be 2 or 3.")
        self._before_name = (module, ns) if dialect == 3 else (module,)
        self._module = Module("varmod", address, VALUE_BYTES, CONNECTIONS)

    async def read(self, name: str) -> Reading:
        try:
            line = request("getvar_varmod", *self._before_name, name)
        except Unsayable as error:
            return Reading(missing=f"{shown(name)} cannot be asked of {self._module.what}: it {error}.")
        try:
            answer = await self._module.ask(line)
            text = answer.text.decode()
        except UnicodeDecodeError as error:
            message = f"{self._module.what} answers what is not UTF-8: {shown(answer.text, 60)}."
            raise Fault(UNAVAILABLE, message, reason="not UTF-8") from error
        except Fault as fault:
            if fault.code != TOO_LARGE:
                raise
            return Reading(missing=f"The value of {shown(name)} is over {VALUE_BYTES} bytes.")
        if not answer.done:
            return Reading(missing=f"{self._module.what} does not give {shown(name)}: {shown(text)}.")
        return Reading(value=parse_value(text))

    async def close(self) -> None:
        await self._module.close()
