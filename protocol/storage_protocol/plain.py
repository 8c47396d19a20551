"""The short way of a command frame: nearly every one has plain arguments, each once, and nothing else.

Such a frame is read in two strict passes, straight into its command. What is missing, mistyped, unknown, given
twice or out of a rule, or only said in an uncommon way, is None here, and the codec reads the frame again,
carefully: it alone knows what to refuse, and how to say it. Nothing is taken here that it would not take.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Raw, Struct, inspect

from .commands import COMMANDS, Command
from .limits import Limits
from .names import INT64_MAX, INT64_MIN, RULES, value_bytes
from .specs import CommandSpec

MAX_ID = 128
MAX_KEY = 64

_SCALAR = (
    inspect.StrType,
    inspect.IntType,
    inspect.FloatType,
    inspect.BoolType,
    inspect.NoneType,
    inspect.LiteralType,
)


class _Envelope(Struct, gc=False, forbid_unknown_fields=True):
    """The envelope of SPEC 2 as most clients write it: an `id`, and a key where the command has one."""

    cmd: str
    args: Raw
    id: str | int | None = None
    key: str | None = None
    v: Literal[1] | None = None


class _Plain(NamedTuple):
    """How the arguments of one command are read.

    required  how many there are at least
    optional  the others, with what they are when they are not given
    rules     argument, and its rule of SPEC 3; values: arguments that are a parameter's value
    """

    decode: Callable[[Raw], Command]
    mutating: bool
    required: int
    optional: tuple[tuple[str, Any], ...]
    rules: tuple[tuple[str, Callable[[str], str | None]], ...]
    values: tuple[str, ...]


def _is_scalar(type: inspect.Type) -> bool:
    if isinstance(type, inspect.Metadata):
        return _is_scalar(type.type)
    if isinstance(type, inspect.UnionType):
        return all(map(_is_scalar, type.types))
    return isinstance(type, _SCALAR)


def _plain(spec: CommandSpec) -> _Plain | None:
    """None for a command that has a map or a list among its arguments, or one that comes in several forms."""
    known = inspect.type_info(spec.command)
    fields = known.fields if isinstance(known, inspect.StructType) else ()
    if spec.special or not all(_is_scalar(field.type) for field in fields):
        return None
    return _Plain(
        decode=msgspec.msgpack.Decoder(spec.command).decode,
        mutating=spec.mutating,
        required=len(spec.required),
        optional=tuple((arg.name, arg.default) for arg in spec.args.values() if not arg.required),
        rules=tuple((arg.name, RULES[arg.rule]) for arg in spec.checked if arg.rule is not None),
        values=tuple(arg.name for arg in spec.checked if arg.values),
    )


_PLAIN = {name: plain for name, spec in COMMANDS.items() if (plain := _plain(spec)) is not None}
_decode = msgspec.msgpack.Decoder(_Envelope).decode


def read(frame: bytes, limits: Limits) -> tuple[str | int | None, Command, str | None, bool] | None:
    """The `id`, the command, its key, and whether it mutates; None when the frame has to be read carefully."""
    try:
        envelope = _decode(frame)
        plain = _PLAIN[envelope.cmd]
        command = plain.decode(envelope.args)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return None
    id, key = envelope.id, envelope.key
    # A map with as many entries as were found in it has none of them twice. What was given as it is when it is not
    # given cannot be told from that: such a frame is read carefully, too.
    entries = 2 + (id is not None) + (key is not None) + (envelope.v is not None)
    given = plain.required
    for name, default in plain.optional:
        if (value := getattr(command, name)) is not default:
            given += 1
            if value == default:
                return None
    if frame[0] != 0x80 | entries or memoryview(envelope.args)[0] != 0x80 | given or given > 15:
        return None
    if type(id) is str and len(id) > MAX_ID:
        return None
    if key is not None and not (plain.mutating and 1 <= len(key) <= MAX_KEY):
        return None
    # Pyrame's "undef" stands for nil in some places and is a value in others.
    if b"undef" in frame:
        return None
    for name, rule in plain.rules:
        if (text := getattr(command, name)) is not None and rule(text) is not None:
            return None
    for name in plain.values:
        if not _is_value(getattr(command, name), limits.value_bytes):
            return None
    return id, command, key, plain.mutating


def _is_value(value: Any, most_bytes: int) -> bool:
    """Whether this may be a parameter's value: see `names.value`."""
    if type(value) is int:
        return INT64_MIN <= value <= INT64_MAX
    if type(value) is float:
        return isfinite(value)
    return type(value) is not str or len(value) * 4 <= most_bytes or value_bytes(value) <= most_bytes
