"""Stores of released versions, kept in tests/fixtures/stores: `NNNN.db.gz`, and `NNNN.json`: what was told of it.

    python -m tests.support.released_store      writes both for the present version; done once, at a release

The number is that of the schema. A real service has lived a life on it: what clients can make is in there.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import apsw

from storage_protocol.keys import uuid7
from tests.support.polling import eventually
from tests.support.service import Service, Settings
from tests.support.wire import Storage, Wire

STORES = Path(__file__).parents[1] / "fixtures" / "stores"
# The journal keeps the place of each folder as it was told, so it must be nobody's.
FOLDER = Path("/tmp/storage-of-a-release")
MOUNT = "<mount>"
# The keys in a store get old; they are to be remembered all the same.
SETTINGS: Settings = {"journal": {"keys_keep_days": 3650}}
KEYED: list[tuple[str, str, dict[str, Any]]] = [
    ("a key", "register_producer_storage", {"storage_id": "kept", "producer": "late"}),
    (
        uuid7(1_795_000_000_000, bytes(10)),
        "new_run_storage",
        {"storage_id": "kept", "run_name": "n{n:03}", "params": {"numbered": True}},
    ),
]
VALUES = {"text": "µ", "int": -(2**63), "float": 0.1, "true": True, "false": False, "nil": None, "empty": ""}
RUN, CLOSED = "root/top/kept/first", "root/top/kept/first/closed"

QUERIES: list[tuple[str, dict[str, Any]]] = [
    ("list_storages", {}),
    ("get_storage", {"storage_id": "kept"}),
    ("get_run", {"run_id": RUN}),
    ("get_run", {"run_id": "root/top/kept/n001"}),
    *(("get_acq", {"acq_id": f"{RUN}/{name}"}) for name in ("closed", "open", "aborted", "twice")),
    ("list_acqs", {}),
    ("list_acqs", {"state": "open"}),
    ("list_conversions", {}),
    ("list_nodes", {"parent_id": "root"}),
    ("list_nodes", {"parent_id": "root/top/kept"}),
    ("find_nodes", {"where": {"text": "µ"}}),
    ("replay_events", {"after_seq": 0, "limit": 10_000}),
]
# Of what came with later schemas, by a name for each: what an older service told lacks it.
LATER: dict[str, tuple[str, dict[str, Any]]] = {
    "variables": ("list_vars", {}),
    "notes of a run": ("list_annotations", {"node_id": RUN}),
    "notes of an acquisition": ("list_annotations", {"node_id": CLOSED}),
    "found by a note": ("find_nodes", {"where": {"@quality": "good"}}),
    "found by an inherited note": ("find_nodes", {"where": {"@comment": "µ"}, "kind": "acq"}),
}


def live(service: Service, wire: Wire) -> None:
    """A life with everything in it that clients can make."""
    service.script("good.sh", "#!/bin/sh\necho '::progress 0.5'\n")
    service.script("bad.sh", "#!/bin/sh\nexit 3\n")
    wire.call("new_group", name="top", parent_id="root")
    kept = Storage(wire, "kept", brg_name="kept", brg_parent_id="root/top", brg_path="some/where").open()
    Storage(wire, "gone", brg_name="gone", brg_path="else").open().run("left")
    wire.call("deinit_storage", storage_id="gone", force=True)
    Storage(wire, "ready", brg_name="ready").call("init_storage", brg_name="ready", stats_names=["a", "b"])
    kept.call("register_producer_storage", producer="one")
    kept.run("first", params=VALUES)
    for name, value in VALUES.items():
        wire.call("set_var", name=name, value=value)
    kept.call("set_param_run_storage", run_name="first", param="later", value=1.5)
    for key, cmd, args in KEYED:
        wire.call(cmd, key=key, **args)
    for name, script in (("closed", "good.sh"), ("twice", "bad.sh"), ("aborted", None), ("open", None)):
        acq = kept.acq(name, "first", convert_script=script, params={"text": "µ", "of": name})
        kept.call("set_param_acq_storage", acq_id=acq["acq_id"], param="set", value=2)
        kept.mark(acq, "one", summary={"events": 7}, ok=name != "twice")
        if name in ("closed", "twice"):
            kept.close(acq, reason="enough")
        elif name == "aborted":
            kept.call("abort_acq_storage", acq_id=acq["acq_id"], reason="no beam")
        quiet(wire)
    for node_id, name, value in ((CLOSED, "quality", "bad"), (CLOSED, "quality", "good"), (RUN, "comment", "µ")):
        wire.call("annotate_node", node_id=node_id, name=name, value=value, author="shift")
    kept.acq("twice", "first")
    kept.close(kept.acq("twice", "first"))
    kept.run("again", params={"old": 1})
    kept.run("again", mode="remove", params={"new": 1})
    quiet(wire)


def quiet(wire: Wire) -> None:
    """Wait until nothing is under way."""

    def is_quiet() -> bool:
        acqs = [acq for page in wire.pages("list_acqs", "acqs") for acq in page]
        sealed = all(acq["sealed"] or acq["state"] == "open" for acq in acqs)
        queues = wire.call("get_status")["queues"]
        return sealed and not any(
            queues[name] for name in queues if name.startswith(("conv", "intents", "seals", "manifests"))
        )

    eventually(is_quiet)


def told(service: Service, wire: Wire) -> dict[str, Any]:
    """What clients are told, without the place of the mount point on this host."""
    answers = [wire.call(cmd, **args) for cmd, args in QUERIES]
    keyed = [wire.call(cmd, key=key, **args) for key, cmd, args in KEYED]
    later = {name: wire.call(cmd, **args) for name, (cmd, args) in LATER.items()}
    everything = {"queries": answers, "keyed": keyed, "later": later}
    text = json.dumps(everything, ensure_ascii=False, indent=1, sort_keys=True)
    found: dict[str, Any] = json.loads(
        text.replace(str(service.mount), MOUNT).replace(str(FOLDER / "data"), MOUNT)
    )
    return found


def main() -> int:
    """Make the fixture of the present version."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    service = Service(FOLDER, settings=SETTINGS)
    try:
        with service.start().connect() as wire:
            live(service, wire)
            answers = told(service, wire)
            service.kill()
    finally:
        service.close()
    database = service.state / "storage.db"
    db = apsw.Connection(str(database))
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    number = f"{db.pragma('user_version'):04}"
    db.close()
    STORES.mkdir(parents=True, exist_ok=True)
    (STORES / f"{number}.db.gz").write_bytes(gzip.compress(database.read_bytes(), mtime=0))
    (STORES / f"{number}.json").write_text(
        json.dumps(answers, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    )
    shutil.rmtree(FOLDER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
