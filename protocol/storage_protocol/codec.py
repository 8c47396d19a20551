"""Bytes to commands and back (SPEC 2), with every limit: what comes from the net is hostile until it left here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

import msgpack
import msgspec
from msgspec import Struct

from . import PROTOCOL_VERSION, errors, names, plain, where
from .commands import COMMANDS, Command
from .errors import Refusal, bad_request, shown
from .limits import Limits
from .plain import MAX_ID, MAX_KEY, Request
from .specs import Argument, CommandSpec
from .unread import is_id, read_id, salvaged_id

MAX_SUMMARY = 32
# msgpack sets room aside as an array's header asks, before it sees an item, and gives up 1,024 arrays deep: 64 kB
# of nested headers cost 67 MB without a limit of our own, and less than 4 MB with this one.
_MAX_ARRAY = 400

_encode = msgspec.msgpack.Encoder().encode
_OVER = re.compile(r"(\d+) exceeds max_map_len")
_FIELD = re.compile(r"at `\$\.(\w+)")


class Rejected(Struct, frozen=True):
    """A command frame that was not understood, with the `id` that could be read from it."""

    id: str | int | None
    refusal: Refusal


class _MalformedError(ValueError):
    pass


class _TooDeepError(Exception):
    pass


class _TooManyError(Exception):
    """A map with more entries than a run may have parameters: no command has a larger one."""


def decode_command(frame: bytes, limits: Limits) -> Request | Rejected:
    """A command frame, checked against all of SPEC 2 and 3. Never raises, whatever the bytes."""
    if len(frame) <= limits.frame_bytes and (read := plain.read(frame, limits)) is not None:
        return read
    return decode_carefully(frame, limits)


def decode_carefully(frame: bytes, limits: Limits) -> Request | Rejected:
    """The same, without the short way: what that takes, this takes, and says of everything else what is wrong."""
    if len(frame) > limits.frame_bytes:
        message = f"The command frame has {len(frame)} bytes; {limits.frame_bytes} are the most."
        return Rejected(salvaged_id(frame), errors.too_large("frame_bytes", limits.frame_bytes, message))
    try:
        envelope = _unpack(frame, limits.params)
    except _TooDeepError:
        return Rejected(salvaged_id(frame), _too_deep(limits))
    except _TooManyError:
        message = f"The command frame holds a map of more than {limits.params} entries."
        return Rejected(salvaged_id(frame), errors.too_large("params", limits.params, message))
    except _MalformedError as error:
        return Rejected(salvaged_id(frame), bad_request(f"The command frame is {error}."))
    if type(envelope) is not dict:
        message = f"The command frame holds {shown(envelope)}; it must be one map with string keys."
        return Rejected(None, bad_request(message))
    id = envelope.get("id")
    if id is not None and not is_id(id):
        message = f"id is {shown(id)}; it must be an int or a str of at most {MAX_ID} characters."
        return Rejected(None, bad_request(message, "id"))
    try:
        _check_depth(envelope, limits.depth)
    except _TooDeepError:
        return Rejected(id, _too_deep(limits))
    except _MalformedError as error:
        return Rejected(id, bad_request(f"The command frame has {error}."))
    read = _read_envelope(envelope, limits)
    if type(read) is Refusal:
        return Rejected(id, read)
    command, key, mutating = read  # type: ignore[misc]
    return Request(id, command, key, mutating)


def encode_ok(id: str | int | None, result: Any) -> bytes:
    """The reply frame of a command that succeeded."""
    return encode_ok_raw(id, _encode(result))


def encode_ok_raw(id: str | int | None, result: bytes) -> bytes:
    """The same, for a result that is msgpack already."""
    # A map of 4: "v": 1, "id": ..., "ok": true, "result": ...
    return b"\x84\xa1v\x01\xa2id" + _encode(id) + b"\xa2ok\xc3\xa6result" + result


def encode_refusal(id: str | int | None, refusal: Refusal) -> bytes:
    """The reply frame of a command that was refused."""
    return b"\x84\xa1v\x01\xa2id" + _encode(id) + b"\xa2ok\xc2\xa5error" + _encode(refusal)


def encode_refusals(frames: Iterable[bytes], refusal: Refusal) -> list[bytes]:
    """The reply frames of commands that are all refused alike, whatever they say."""
    said = b"\xa2ok\xc2\xa5error" + _encode(refusal)
    return [b"\x84\xa1v\x01\xa2id" + _encode(read_id(frame)) + said for frame in frames]


def encode_value(value: Any) -> bytes:
    """Any value of the protocol as msgpack."""
    return _encode(value)


def encode_command(id: str | int | None, command: Command, key: str | None = None) -> bytes:
    """A client's command frame. Arguments at their default are left out."""
    spec = COMMANDS[command.CMD]
    args = {
        name: value
        for name, arg in spec.args.items()
        if (value := getattr(command, name)) != arg.default or arg.required
    }
    envelope: dict[str, Any] = {"v": PROTOCOL_VERSION, "id": id, "cmd": command.CMD, "args": args}
    if key is not None:
        envelope["key"] = key
    return _encode(envelope)


class Reply(Struct, frozen=True):
    """A reply frame as a client reads it: `error` is None when `ok`."""

    id: str | int | None = None
    ok: bool = False
    result: Any = None
    error: Refusal | None = None
    v: int = 1


_reply_decoder = msgspec.msgpack.Decoder(Reply)


def decode_reply(frame: bytes) -> Reply:
    """A reply frame. Raises ValueError when it is none."""
    try:
        return _reply_decoder.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a reply frame: {error}") from None


def _pairs(items: list[tuple[Any, Any]]) -> dict[str, Any]:
    pairs = dict(items)
    if len(pairs) != len(items):
        names_ = [key for key, _ in items]
        twice = next(key for key in pairs if names_.count(key) > 1)
        raise _MalformedError(f"a map that has the key {shown(twice)} twice")
    for key in pairs:
        if type(key) is not str:
            raise _MalformedError(f"a map with the key {shown(key)}, which is no str")
    return pairs


def _no_ext(code: int, data: bytes) -> None:
    raise _MalformedError(f"a map with an extension type ({code})")


def _unpack(frame: bytes, most_params: int) -> Any:
    """The frame's value. Raises _MalformedError, _TooDeepError or _TooManyError.

    A key that comes twice, or is no str, would be lost or hidden in a dict. A frame that is as long as its value
    encoded anew holds neither, if no byte of it can be a bin (a key that is no str) or a float of 32 bits (which
    grows when encoded, and would hide what is lost). Nearly all are so; the others are read again, by pairs.
    """
    if not (b"\xc4" in frame or b"\xc5" in frame or b"\xc6" in frame or b"\xca" in frame):
        value = _unpack_with(frame, most_params, None)
        try:
            if len(_encode(value)) == len(frame):
                return value
        except RecursionError:
            raise _TooDeepError from None
    return _unpack_with(frame, most_params, _pairs)


def _unpack_with(
    frame: bytes, most_params: int, pairs: Callable[[list[tuple[Any, Any]]], dict[str, Any]] | None
) -> Any:
    try:
        return msgpack.unpackb(
            frame,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=pairs,
            ext_hook=_no_ext,
            max_str_len=len(frame),
            max_bin_len=len(frame),
            max_array_len=_MAX_ARRAY,
            # One more than a run may have: that one is refused with the limit's name.
            max_map_len=most_params + 1,
            max_ext_len=0,
        )
    except (msgpack.StackError, RecursionError):
        raise _TooDeepError from None
    except _MalformedError:
        raise
    except UnicodeDecodeError:
        raise _MalformedError("not valid: a text in it is not UTF-8") from None
    except msgpack.ExtraData:
        if frame.startswith(b"{"):  # to msgpack it is the number 123 and something behind it
            raise _MalformedError("JSON; it must be one msgpack map with string keys") from None
        raise _MalformedError("followed by bytes that do not belong to it") from None
    except msgpack.FormatError:
        raise _MalformedError("not msgpack: it has the byte 0xc1, which means nothing") from None
    # Hostile keys raise TypeError, and timestamps OverflowError.
    except (ValueError, TypeError, OverflowError, KeyError, MemoryError) as error:
        over = _OVER.match(str(error))
        # A header that promises more than the frame can hold is no large map, but a broken one.
        if over and 2 * int(over[1]) <= len(frame):
            raise _TooManyError from None
        raise _MalformedError(f"not a msgpack map with string keys ({shown(str(error), 120)})") from None


def _check_depth(node: dict[str, Any] | list[Any], room: int) -> None:
    if room == 0:
        raise _TooDeepError
    items: Iterable[Any] = node.values() if type(node) is dict else node
    for item in items:
        kind = type(item)
        if kind is float:
            if not isfinite(item):
                raise _MalformedError(f"the number {item}; floats must be finite")
        elif kind is dict or kind is list:
            _check_depth(item, room - 1)


def _too_deep(limits: Limits) -> Refusal:
    message = f"The command frame nests deeper than {limits.depth} levels, its envelope included."
    return errors.too_large("depth", limits.depth, message)


def _read_envelope(envelope: dict[str, Any], limits: Limits) -> tuple[Command, str | None, bool] | Refusal:
    version = envelope.get("v")
    if (version is not None and version != PROTOCOL_VERSION) or version is True:
        if type(version) is not int:
            return bad_request(f"v is {shown(version)}; it must be the int {PROTOCOL_VERSION}.", "v")
        return errors.unsupported_version(version, PROTOCOL_VERSION)
    if type(version) is float:
        return bad_request(f"v is {shown(version)}; it must be the int {PROTOCOL_VERSION}.", "v")
    name = envelope.get("cmd")
    if type(name) is not str:
        what = "is missing" if name is None else f"is {shown(name)}"
        return bad_request(f"cmd {what}; it must be the name of a command, a str.", "cmd")
    spec = COMMANDS.get(name)
    if spec is None:
        return errors.unknown_command(name, COMMANDS)
    given = envelope.get("args")
    if given is None:
        given = {}
    elif type(given) is not dict:
        return bad_request(f"args is {shown(given)}; it must be a map of arguments by name.", "args")
    key = envelope.get("key") if spec.mutating else None
    if key is not None and (type(key) is not str or not 1 <= len(key) <= MAX_KEY):
        return bad_request(f"key is {shown(key)}; it must be a str of 1 to {MAX_KEY} characters.", "key")
    command = _read_arguments(name, spec, given, limits)
    return command if type(command) is Refusal else (command, key, spec.mutating)  # type: ignore[return-value]


def _read_arguments(name: str, spec: CommandSpec, given: dict[str, Any], limits: Limits) -> Command | Refusal:
    if not given.keys() <= spec.args.keys():
        unknown = next(field for field in given if field not in spec.args)
        hint = ", ".join(spec.args) or "none"
        message = f"{name} has no argument {shown(unknown)}; its arguments are {hint}."
        return bad_request(message, unknown[:128])
    # Pyrame's "undef" and nil mean "not given" in what is optional (SPEC 3).
    if None in given.values() or names.UNDEFINED in given.values():
        given = {
            field: raw
            for field, raw in given.items()
            if field in spec.required or raw not in (None, names.UNDEFINED)
        }
    if not spec.required <= given.keys():
        field = next(field for field in spec.args if field in spec.required and field not in given)
        return bad_request(f"{name} needs the argument {field} ({spec.args[field].type}).", field)
    if not spec.special.isdisjoint(given):
        read = _read_special(spec, given)
        if isinstance(read, Refusal):
            return read
        given = read
    try:
        command: Command = msgspec.convert(given, spec.command)
    except msgspec.ValidationError as error:
        return _mistyped(spec, given, str(error))
    for arg in spec.checked:
        if arg.name in given and (refusal := _check_value(arg, given[arg.name], limits)):
            return refusal
    return command


def _read_special(spec: CommandSpec, given: dict[str, Any]) -> dict[str, Any] | Refusal:
    """Arguments that are understood in several forms."""
    read = dict(given)
    for field in spec.special & given.keys():
        arg, raw = spec.args[field], given[field]
        if arg.read is not None:
            try:
                read[field] = arg.read(raw)
            except ValueError as error:
                return bad_request(f"{field} is {shown(raw)}; {error}.", field)
    return read


def _mistyped(spec: CommandSpec, args: dict[str, Any], error: str) -> Refusal:
    found = _FIELD.search(error)
    field = found[1] if found else next(iter(args), "args")
    type = spec.args[field].type if field in spec.args else "another type"
    return bad_request(f"{field} is {shown(args.get(field))}; it must be {type}.", field)


def _check_value(arg: Argument, value: Any, limits: Limits) -> Refusal | None:
    kind = type(value)
    if arg.integer:
        # msgspec takes 2.0 for 2.
        return bad_request(f"{arg.name} is {value}; it must be {arg.type}.", arg.name) if kind is float else None
    if arg.rule is not None:
        rule = names.RULES[arg.rule]
        for text in (value,) if kind is str else value:
            if wrong := rule(text):
                return errors.invalid_name(arg.name, arg.rule, f"{arg.name} has {shown(text)}; {wrong}.")
    if arg.where:
        conditions = where.parse(value)
        return conditions if isinstance(conditions, Refusal) else None
    if not arg.values:
        return None
    if kind is not dict:
        return _check_one(arg, arg.name, value, limits)
    for name, each in value.items():
        if refusal := _check_one(arg, f"{arg.name}[{shown(name)}]", each, limits):
            return refusal
    return _check_map(arg, value, limits)


def _check_one(arg: Argument, place: str, value: Any, limits: Limits) -> Refusal | None:
    if wrong := names.value(value):
        return bad_request(f"{place} is {shown(value)}; {wrong}.", arg.name)
    if type(value) is str and names.value_bytes(value) > limits.value_bytes:
        message = f"{place} has {names.value_bytes(value)} bytes; {limits.value_bytes} are the most."
        return errors.too_large("value_bytes", limits.value_bytes, message)
    return None


def _check_map(arg: Argument, values: dict[str, Any], limits: Limits) -> Refusal | None:
    if arg.name == "summary":
        if len(values) > MAX_SUMMARY:
            return bad_request(f"summary has {len(values)} values; {MAX_SUMMARY} are the most.", "summary")
        return None
    return params_over(len(values), params_bytes(values), limits)


def params_bytes(params: dict[str, Any]) -> int:
    """What parameters count against `Limits.params_bytes`."""
    return sum(names.value_bytes(name) + names.value_bytes(value) for name, value in params.items())


def params_over(count: int, size: int, limits: Limits) -> Refusal | None:
    """Why so many parameters of so many bytes cannot belong to one run or acquisition."""
    if count > limits.params:
        message = f"There would be {count} parameters; {limits.params} are the most of a run or an acquisition."
        return errors.too_large("params", limits.params, message)
    if size > limits.params_bytes:
        message = f"The parameters would take {size} bytes; {limits.params_bytes} are the most."
        return errors.too_large("params_bytes", limits.params_bytes, message)
    return None
