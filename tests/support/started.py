"""A desk as a start of the service makes it, on what a store has."""

from __future__ import annotations

from collections.abc import Callable

from storage_protocol import codec
from storage_protocol.limits import Limits
from storage_service.desk.batch import Journal
from storage_service.desk.desk import Desk
from storage_service.desk.keyring import Keyring
from storage_service.rules.conversions import Policy
from storage_service.rules.state import Places

from .memory_store import MemoryStore
from .sqlite_store import SqliteStore

PLACES = Places({"file:///": "/data"})
KEYS_KEEP_S = 7 * 86_400.0


def desk_on(
    store: MemoryStore | SqliteStore,
    *,
    policy: Policy,
    max_parallel: int,
    limits: Limits,
    fresh: Callable[[], str],
    defect: Callable[[str, Exception], None],
    manifest_kind: Callable[[str], str],
    fetches: Callable[[str], bool],
    entries_of: Callable[[str], str] = lambda storage_id: "off",
) -> Desk:
    """A desk as a start of the service makes it, on what the store has."""
    return Desk(
        places=PLACES,
        limits=limits,
        policy=policy,
        max_parallel=max_parallel,
        keys_keep_s=KEYS_KEEP_S,
        key_clock=store.key_clock,
        keyring=Keyring(store.newest_key_ms, store.forgotten_ms, store.keys_ahead),
        journal=Journal(store.last_seq, store.topics()),
        describe=codec.encode_value({"service": "steps"}),
        fresh=fresh,
        defect=defect,
        manifest_kind=manifest_kind,
        fetches=fetches,
        entries_of=entries_of,
    )
