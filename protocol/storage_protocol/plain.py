"""The short way of a command frame: nearly every one has plain arguments, each once, and nothing else.

Such a frame is read in one strict pass, straight into its command. What is missing, mistyped, unknown, given twice
or out of a rule, or only said in an uncommon way, is None here, and the codec reads the frame again, carefully: it
alone knows what to refuse, and how to say it. Nothing is taken here that it would not take.

That nothing is given twice is seen from the length: what was read is encoded anew, in the shortest form that there
is. Whatever a frame says besides makes it longer than that. Only a float could make up for it, one of 32 bits, or
a whole number where a float is meant: a frame that may hold such a one is read carefully.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from operator import attrgetter
from typing import Any, Literal, Union

import msgspec
from msgspec import Struct, inspect

from .commands import COMMANDS, Command
from .limits import Limits
from .names import INT64_MAX, INT64_MIN, RULES, UNDEFINED, value_bytes
from .specs import CommandSpec

MAX_ID = 128
MAX_KEY = 64
# Arguments that were found to keep their rules are remembered, unless they have more characters than this: clients
# say the same few again and again.
MANY_KNOWN = 2048
SHORT = 128

_SCALAR = (
    inspect.StrType,
    inspect.IntType,
    inspect.FloatType,
    inspect.BoolType,
    inspect.NoneType,
    inspect.LiteralType,
)
_FLOAT32 = b"\xca"
_Gives = Callable[[Any], Any]
_encode = msgspec.msgpack.Encoder().encode


class Request(Struct, frozen=True):
    """A command frame that was understood. `key` is None on commands that do not mutate."""

    id: str | int | None
    command: Command
    key: str | None
    mutating: bool


class _Frame(Struct, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """The envelope of SPEC 2 as most clients write it: an `id`, and a key where the command has one. Each command
    has a frame of its own, told from the others by `cmd`, with its `args`."""

    id: str | int | None = None
    key: str | None = None
    v: Literal[1] | None = None


class _Plain(Struct):
    """How the arguments of one command are looked at.

    optional    gives those that need not be given; defaults: what they are then
    left_out    the bytes of each of these, named, in msgpack; all_left_out: of all of them
    checked     gives those that have to keep a rule of SPEC 3; known: what was found to keep the same rules
    value       gives the one that is a parameter's value, where there is one
    """

    mutating: bool
    optional: _Gives
    defaults: tuple[Any, ...]
    left_out: tuple[int, ...]
    all_left_out: int
    checked: _Gives
    rules: tuple[Callable[[str], str | None], ...]
    known: set[Any]
    value: _Gives | None


def _getter(names: Sequence[str]) -> _Gives:
    """Gives the attributes of these names, as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return (lambda command: (getattr(command, names[0]),)) if names else lambda command: ()


def _is_scalar(type: inspect.Type) -> bool:
    if isinstance(type, inspect.Metadata):
        return _is_scalar(type.type)
    if isinstance(type, inspect.UnionType):
        return all(map(_is_scalar, type.types))
    return isinstance(type, _SCALAR)


def _fields(spec: CommandSpec) -> tuple[inspect.Field, ...]:
    known = inspect.type_info(spec.command)
    return known.fields if isinstance(known, inspect.StructType) else ()


def _is_plain(spec: CommandSpec) -> bool:
    """Not so is a command that has a map, a list or a float among its arguments, or what comes in several forms. A
    float may only stand where any value may."""
    values = {arg.name for arg in spec.checked if arg.values}
    fields = [(each.name, each.type) for each in _fields(spec)]
    has_floats = any(_may_be_float(type) for name, type in fields if name not in values)
    return not (spec.special or has_floats) and all(_is_scalar(type) for _, type in fields)


def _may_be_float(type: inspect.Type) -> bool:
    if isinstance(type, inspect.Metadata):
        return _may_be_float(type.type)
    if isinstance(type, inspect.UnionType):
        return any(map(_may_be_float, type.types))
    return isinstance(type, inspect.FloatType)


def _plain(spec: CommandSpec) -> _Plain:
    optional = [(arg.name, arg.default) for arg in spec.args.values() if not arg.required]
    left_out = tuple(len(_encode(name)) + len(_encode(default)) for name, default in optional)
    ruled = [arg for arg in spec.checked if arg.rule is not None]
    rules = tuple(RULES[arg.rule] for arg in ruled if arg.rule is not None)
    (value,) = [arg.name for arg in spec.checked if arg.values] or (None,)
    return _Plain(
        mutating=spec.mutating,
        optional=_getter([name for name, _ in optional]),
        defaults=tuple(default for _, default in optional),
        left_out=left_out,
        all_left_out=sum(left_out),
        checked=_getter([arg.name for arg in ruled]),
        rules=rules,
        known=_KNOWN.setdefault(rules, set()),
        value=None if value is None else attrgetter(value),
    )


_KNOWN: dict[Any, set[Any]] = {}
_PLAIN = {spec.command: _plain(spec) for spec in COMMANDS.values() if _is_plain(spec)}
_FRAMES = [
    msgspec.defstruct(
        f"_{command.__name__}",
        [("args", command)],
        bases=(_Frame,),
        tag_field="cmd",
        tag=command.CMD,
        kw_only=True,
    )
    for command in _PLAIN
]
_decode = msgspec.msgpack.Decoder(Union[tuple(_FRAMES)]).decode  # noqa: UP007  of types that are made here


def read(frame: bytes, limits: Limits) -> Request | None:
    """What the frame asks; None when it has to be read carefully."""
    try:
        envelope: Any = _decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    id, command, key = envelope.id, envelope.args, envelope.key
    plain = _PLAIN[type(command)]
    given = plain.optional(command)
    if given == plain.defaults:
        left_out = plain.all_left_out
    elif UNDEFINED in given:
        return None
    else:
        of_each = zip(given, plain.defaults, plain.left_out, strict=True)
        left_out = sum(size for value, default, size in of_each if value == default)
    if len(_encode(envelope)) != len(frame) + left_out:
        return None
    if type(id) is str and len(id) > MAX_ID:
        return None
    if key is not None and not (plain.mutating and 1 <= len(key) <= MAX_KEY):
        return None
    checked = plain.checked(command)
    if checked not in plain.known and not _keeps_rules(checked, plain):
        return None
    if plain.value is not None:
        value: Any = plain.value(command)
        if not _is_value(value, limits.value_bytes) or (type(value) is float and _FLOAT32 in frame):
            return None
    return Request(id, command, key, plain.mutating)


def _is_value(value: Any, most_bytes: int) -> bool:
    """Whether this may be a parameter's value: see `names.value`."""
    if type(value) is int:
        return INT64_MIN <= value <= INT64_MAX
    if type(value) is float:
        return isfinite(value)
    return type(value) is not str or len(value) * 4 <= most_bytes or value_bytes(value) <= most_bytes


def _keeps_rules(checked: tuple[Any, ...], plain: _Plain) -> bool:
    """Whether these arguments keep their rules, of which those that are not given have none."""
    characters = 0
    for text, rule in zip(checked, plain.rules, strict=True):
        if text is not None:
            if rule(text) is not None:
                return False
            characters += len(text)
    if characters <= SHORT:
        if len(plain.known) >= MANY_KNOWN:
            plain.known.clear()
        plain.known.add(checked)
    return True
