"""Records to rows and back: what stands in a column, and what in the record's msgpack."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from storage_protocol.codec import params_bytes
from storage_protocol.names import Value

from ..desk.batch import StoredIntent
from ..rules import facts
from ..rules.logbook_records import Book, Owed, Page
from ..rules.state import Acq, Chain, Conversion, Due, Group, Node, Run, Storage

encode = msgspec.msgpack.Encoder().encode

decode_storage = msgspec.msgpack.Decoder(Storage).decode
decode_conversion = msgspec.msgpack.Decoder(Conversion).decode
decode_chain = msgspec.msgpack.Decoder(Chain).decode
decode_due = msgspec.msgpack.Decoder(Due).decode
decode_book = msgspec.msgpack.Decoder(Book).decode
decode_owed = msgspec.msgpack.Decoder(Owed).decode
decode_page = msgspec.msgpack.Decoder(Page).decode
decode_intent = msgspec.msgpack.Decoder(StoredIntent).decode
decode_fact = msgspec.msgpack.Decoder(facts.AnyFact).decode
_decode_node = msgspec.msgpack.Decoder(Node).decode


def encode_node(node: Node) -> bytes:
    """A node without its parameters, which have rows of their own."""
    return encode(node if isinstance(node, Group) else replace(node, params={}, params_bytes=0))


def decode_node(record: bytes, params: dict[str, Value]) -> Node:
    """The node, with its parameters put back, and what they count against their limit."""
    node = decode_shown_node(record, params)
    return node if isinstance(node, Group) or not params else replace(node, params_bytes=params_bytes(params))


def decode_shown_node(record: bytes, params: dict[str, Value]) -> Node:
    """The node, with its parameters put back: to be shown, and not to be decided on."""
    node: Group | Run | Acq = _decode_node(record)
    return node if isinstance(node, Group) or not params else replace(node, params=params)


def value_row(value: Value) -> tuple[str, Any]:
    """The class of a value, by which it compares, and what SQLite keeps."""
    if value is None:
        return "0", None
    if isinstance(value, bool):
        return "b", int(value)
    return ("t", value) if isinstance(value, str) else ("n", value)


def value_of(class_: str, value: Any) -> Value:
    return bool(value) if class_ == "b" else value
