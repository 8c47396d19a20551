"""The configuration that is handed in for later acquisitions of a storage (SPEC 4.3)."""

from __future__ import annotations

import re

from blake3 import blake3

from storage_protocol import commands, errors
from storage_protocol.configuration import DOCUMENT_BYTES
from storage_protocol.errors import Refusal
from storage_protocol.records import Document

from . import facts
from .decision import Accepted, Decision, plain
from .facts import Event
from .ownership import the_storage
from .state import State
from .work import ACQ_LOG, ACQ_MARKER, RUN_MARKER

# What the service itself writes beside the data, and what would become it: where a name is taken, a number is
# put behind its stem.
_OWN = re.compile(
    rf"{re.escape(RUN_MARKER)}|{re.escape(ACQ_MARKER)}|{ACQ_LOG.removesuffix('.log')}(-\d+)?\.log"
    r"|manifest(-.*)?\.json|conversion(-.*)?\.log"
)


def is_own(name: str) -> bool:
    """Whether a configuration of this name could be taken for a file of the service's own."""
    return _OWN.fullmatch(name) is not None


def set_config(state: State, command: commands.SetConfig) -> Decision:
    storage = the_storage(state, command.storage_id)
    if isinstance(storage, Refusal):
        return storage
    if is_own(command.name):
        message = f"name is {command.name!r}; the service itself writes a file of that name beside the data."
        return errors.invalid_name("name", "own", message)
    content, document = command.document, None
    if content is not None and len(content) > DOCUMENT_BYTES:
        message = f"document has {len(content)} bytes; {DOCUMENT_BYTES} are the most."
        return errors.too_large("document_bytes", DOCUMENT_BYTES, message)
    if content is not None:
        document = Document(command.name, blake3(content).hexdigest(), len(content))
    answer = plain({"blake3": document.blake3 if document is not None else None})
    if document == storage.config:
        return Accepted((), answer)
    event = Event(facts.ConfigSet(command.name, document), storage.storage_id, storage.storage_id)
    kept = (document.blake3, content) if document is not None and content is not None else None
    return Accepted((event,), answer, document=kept)
