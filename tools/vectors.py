"""The golden bytes of protocol/vectors: each of the examples as a frame, with what it decodes to.

A test demands that nothing is missing, and decodes them with a msgpack codec that knows nothing of this project.
"""

from __future__ import annotations

from typing import Any

import msgspec

from storage_protocol import codec, errors, events, limits
from storage_protocol.commands import Command
from tools.examples import COMMANDS_ASKED, EVENTS_TOLD, KEY, LATE, RESULTS
from tools.refused import REFUSALS, REJECTED


def documents() -> dict[str, dict[str, Any]]:
    """File name in protocol/vectors to its content: what it is, and its vectors with their bytes in hex."""
    return {
        "commands.json": {
            "about": "A command frame of every command. Arguments at their default are left out.",
            "vectors": [_command(number, each) for number, each in enumerate(COMMANDS_ASKED, 1)],
        },
        "replies.json": {
            "about": "Reply frames: results, and a refusal of every code that this version sends.",
            "vectors": [_result(*each) for each in RESULTS.items()] + [_refusal(each) for each in REFUSALS],
        },
        "events.json": {
            "about": "An event message of every type: its topic is the first frame, its body the second.",
            "vectors": [_event(type_, *told) for type_, told in EVENTS_TOLD.items()],
        },
        "rejected.json": {
            "about": "Command frames that are refused, with the id that is echoed and the code.",
            "vectors": [_rejected(name, frame) for name, frame in REJECTED],
        },
    }


def shown(value: Any) -> Any:
    """A value as JSON has it: a bin is a map with its bytes in hex under `bin`."""
    if isinstance(value, bytes):
        return {"bin": value.hex()}
    if isinstance(value, dict):
        return {key: shown(each) for key, each in value.items()}
    return [shown(each) for each in value] if isinstance(value, list) else value


def _command(id: int, command: Command) -> dict[str, Any]:
    frame = codec.encode_command(id, command, KEY if command.MUTATING else None)
    return {"name": command.CMD, "hex": frame.hex(), "message": shown(msgspec.msgpack.decode(frame))}


def _result(name: str, result: Any) -> dict[str, Any]:
    frame = codec.encode_ok("a-1", result)
    return {"name": f"result of {name}", "hex": frame.hex(), "message": shown(msgspec.msgpack.decode(frame))}


def _refusal(refusal: errors.Refusal) -> dict[str, Any]:
    frame = codec.encode_refusal(7, refusal)
    return {"name": refusal.code, "hex": frame.hex(), "message": shown(msgspec.msgpack.decode(frame))}


def _event(type_: str, storage_id: str | None, subject: str | None, data: Any) -> dict[str, Any]:
    numbered = type_ in events.EVENTS
    body = codec.encode_value(
        {
            "v": 1,
            "seq": 42 if numbered else None,
            "time": LATE,
            "type": type_,
            "storage_id": storage_id,
            "prev_seq": 17 if numbered else None,
            "subject": subject,
            "data": data,
        }
    )
    topic = events.topic(type_, subject if type_ == "variable" else storage_id)
    return {"name": type_, "topic": topic, "hex": body.hex(), "message": msgspec.msgpack.decode(body)}


def _rejected(name: str, frame: bytes) -> dict[str, Any]:
    read = codec.decode_command(frame, limits.Limits())
    if not isinstance(read, codec.Rejected):
        raise TypeError(f"{name} is a command after all")
    return {"name": name, "hex": frame.hex(), "id": read.id, "code": read.refusal.code}
