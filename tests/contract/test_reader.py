"""What the reader gives for each read command, from rows that a small writer of these tests put there."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from storage_protocol import commands, times
from storage_protocol.commands import Command
from storage_protocol.errors import Refusal
from storage_protocol.events import topic
from storage_protocol.limits import REPLY_BYTES
from storage_protocol.names import Value
from storage_protocol.records import Location
from storage_service.rules.state import Acq, Conversion, Group, Places, Run, Storage
from storage_service.store import rows
from storage_service.store.migrate import migrate
from storage_service.store.reader import Reader
from storage_service.store.search import Sizes

PLACES = Places({"file:///": "/srv"})


class Shelf:
    """A database and a reader of it. Nodes get their times from `clock`, a microsecond each."""

    def __init__(self, database: Path, sizes: Sizes = Sizes()) -> None:  # noqa: B008
        self.db = apsw.Connection(str(database))
        self.db.pragma("journal_mode", "wal")
        self.db.pragma("synchronous", "off")
        migrate(self.db, "the shelf")
        self.clock = 1_700_000_000_000_000
        self.reader = Reader(database, PLACES, "journal", sizes)
        self._topics: dict[str, int] = {}

    def close(self) -> None:
        self.reader.close()
        self.db.close()

    def now(self) -> str:
        self.clock += 1
        return times.to_wire(self.clock / 1e6)

    def group(self, node_id: str, visible: bool = True) -> None:
        parent_id, _, name = node_id.rpartition("/")
        node = Group(node_id, "uid", name, parent_id, "file:///", name, visible, self.now())
        self._put("group", node, parent_id, node.created_at, None, None, None, None)

    def run(
        self, node_id: str, params: dict[str, Value] | None = None, visible: bool = True, at: str | None = None
    ) -> None:
        parent_id, _, name = node_id.rpartition("/")
        at = at or self.now()
        node = Run(node_id, "uid", name, parent_id, "s", "owner", "file:///", name, visible, at)
        self._put("run", node, parent_id, at, "s", None, None, None)
        self._set(node_id, params or {}, searched=True)

    def acq(
        self,
        node_id: str,
        params: dict[str, Value] | None = None,
        *,
        run_id: str | None = None,
        storage_id: str = "s",
        state: str = "finished",
        sealed: bool | None = None,
        verdict: str | None = None,
        visible: bool = True,
        at: str | None = None,
        reason: str = "",
    ) -> None:
        run_id = run_id or node_id.rpartition("/")[0]
        name, at = node_id[len(run_id) + 1 :], at or self.now()
        sealed = state != "open" if sealed is None else sealed
        node = Acq(
            node_id,
            "uid",
            name,
            run_id,
            run_id.rpartition("/")[2],
            storage_id,
            "file:///",
            f"run/{name}",
            visible,
            started_at=at,
            created_at=at,
            state=state,
            verdict=verdict,
            sealed=sealed,
            reason=reason,
        )
        self._put("acq", node, run_id, at, storage_id, state, verdict, sealed)
        self._set(node_id, params or {}, searched=state != "open")

    def _put(self, kind: str, node: Any, parent_id: str, at: str, *columns: Any) -> None:
        row = (node.node_id, kind, parent_id, node.visible, at, *columns, rows.encode_node(node))
        self.db.execute(
            "INSERT INTO nodes (node_id, kind, parent_id, visible, at, storage_id, state, verdict, sealed, record)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )

    def _set(self, node_id: str, params: dict[str, Value], searched: bool) -> None:
        n = self.db.execute("SELECT n FROM nodes WHERE node_id = ?", (node_id,)).get
        for name, value in params.items():
            class_, stored = rows.value_row(value)
            self.db.execute("INSERT INTO params VALUES (?, ?, ?, ?)", (node_id, name, class_, stored))
            if searched:
                self.db.execute("INSERT INTO search VALUES (?, ?, ?, ?)", (name, class_, stored, n))

    def storage(self, storage_id: str) -> None:
        init = commands.InitStorage(storage_id=storage_id, brg_name="g")
        record = rows.encode(Storage(storage_id, "uid", init, self.now()))
        self.db.execute("INSERT INTO storages (storage_id, record) VALUES (?, ?)", (storage_id, record))

    def conversion(self, conversion_id: str, acq_id: str = "root/g/r/a", **fields: Any) -> None:
        record = Conversion(
            conversion_id, acq_id, "uid", 1, "script", "s", "file:///", "run/a", queued_at=self.now(), **fields
        )
        self.db.execute(
            "INSERT INTO conversions (conversion_id, acq_id, state, record) VALUES (?, ?, ?, ?)",
            (conversion_id, acq_id, record.state, rows.encode(record)),
        )

    def event(self, type: str, subject: str, storage_id: str | None = "s", data: Any = None) -> int:
        where = topic(type, storage_id)
        seq = (self.db.execute("SELECT max(seq) FROM journal").get or 0) + 1
        body = {"v": 1, "seq": seq, "prev_seq": self._topics.get(where, 0), "subject": subject, "data": data}
        self.db.execute("INSERT INTO journal VALUES (?, ?, ?, ?, NULL)", (seq, where, subject, rows.encode(body)))
        self.db.execute("REPLACE INTO topics VALUES (?, ?)", (where, seq))
        self._topics[where] = seq
        return seq

    def ask(self, command: Command) -> Any:
        """The result of a read."""
        answer = self.reader.read(command)
        assert isinstance(answer, bytes), answer
        return msgspec.msgpack.decode(answer)

    def refusal(self, command: Command) -> tuple[str, Any, Any]:
        """The code of a refusal, and its `what` and `id`, or its `field`."""
        answer = self.reader.read(command)
        assert isinstance(answer, Refusal), answer
        details = answer.details
        return answer.code, details.get("what", details.get("field")), details.get("id")

    def pages(self, command: Command, name: str) -> list[list[Any]]:
        pages = []
        while True:
            result = self.ask(command)
            pages.append(result[name])
            if result["cursor"] is None:
                return pages
            command = msgspec.structs.replace(command, cursor=result["cursor"])


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "storage.db")
    yield shelf
    shelf.close()


def ids(found: list[dict[str, Any]], key: str = "acq_id") -> list[str]:
    return [each[key].rpartition("/")[2] for each in found]


# Storages


def test_storages_are_listed_with_the_seq_up_to_which_the_list_is_true(shelf: Shelf) -> None:
    assert shelf.ask(commands.ListStorages()) == {"storages": [], "last_seq": 0, "journal_id": "journal"}
    for storage_id in ("b", "a"):
        shelf.storage(storage_id)
        shelf.event("storage.initialized", storage_id, storage_id)
    told = shelf.ask(commands.ListStorages())
    assert [each["storage_id"] for each in told["storages"]] == ["b", "a"]
    assert told["last_seq"] == 2
    assert told["storages"][1] == shelf.ask(commands.GetStorage(storage_id="a"))


def test_a_storage_that_is_not_there_is_not_found(shelf: Shelf) -> None:
    shelf.storage("s")
    assert shelf.refusal(commands.GetStorage(storage_id="t")) == ("not_found", "storage", "t")


def test_a_command_that_changes_something_is_no_read(shelf: Shelf) -> None:
    with pytest.raises(KeyError):
        shelf.reader.read(commands.DeinitStorage(storage_id="s"))


# Nodes, runs and acquisitions


def test_a_run_and_an_acquisition_have_their_own_parameters(shelf: Shelf) -> None:
    params: dict[str, Value] = {"i": 1, "f": 1.0, "t": "x", "b": True, "nil": None}
    shelf.run("root/g/r", params)
    shelf.acq("root/g/r/sub/a", {"own": 2}, run_id="root/g/r")
    run = shelf.ask(commands.GetRun(run_id="root/g/r"))
    assert run["params"] == params
    assert {name: type(value) for name, value in run["params"].items()} == {
        name: type(value) for name, value in params.items()
    }
    assert run["location"] == msgspec.to_builtins(Location("file:///", "r", "/srv/r", "file:///srv/r"))
    acq = shelf.ask(commands.GetAcq(acq_id="root/g/r/sub/a"))
    assert (acq["acq_name"], acq["run_id"], acq["params"]) == ("sub/a", "root/g/r", {"own": 2})


def test_an_id_of_another_kind_is_not_found(shelf: Shelf) -> None:
    shelf.group("root/g")
    shelf.run("root/g/r")
    shelf.acq("root/g/r/a")
    for id in ("root/g", "root/g/r/a", "root/g/x", "root", ""):
        assert shelf.refusal(commands.GetRun(run_id=id)) == ("not_found", "run", id)
    for id in ("root/g", "root/g/r", "root/g/x", "root", ""):
        assert shelf.refusal(commands.GetAcq(acq_id=id)) == ("not_found", "acquisition", id)


def test_what_is_not_in_the_rundb_is_no_node_and_still_a_run(shelf: Shelf) -> None:
    shelf.group("root/g", visible=False)
    shelf.run("root/g/r", visible=False)
    shelf.acq("root/g/r/a", visible=False)
    for id in ("root/g", "root/g/r", "root/g/r/a"):
        assert shelf.refusal(commands.GetNode(node_id=id)) == ("not_found", "node", id)
        assert shelf.refusal(commands.ListNodes(parent_id=id)) == ("not_found", "node", id)
        assert shelf.refusal(commands.FindNodes(under=id)) == ("not_found", "node", id)
    assert shelf.ask(commands.ListNodes())["nodes"] == []
    assert shelf.ask(commands.GetRun(run_id="root/g/r"))["run_name"] == "r"
    assert shelf.ask(commands.GetAcq(acq_id="root/g/r/a"))["acq_name"] == "a"
    assert ids(shelf.ask(commands.ListAcqs())["acqs"]) == ["a"]


def test_the_root_is_a_group_above_all_others(shelf: Shelf) -> None:
    root = shelf.ask(commands.GetNode(node_id="root"))
    assert (root["id"], root["kind"], root["parent_id"], root["params"]) == ("root", "group", None, {})
    shelf.group("root/g")
    assert set(shelf.ask(commands.GetNode(node_id="root/g"))) == set(root)
    assert ids(shelf.ask(commands.ListNodes())["nodes"], "id") == ["g"]


def test_children_are_listed_oldest_first_with_only_those_of_the_rundb(shelf: Shelf) -> None:
    shelf.group("root/g")
    for name in ("c", "a", "b", "d"):
        shelf.run(f"root/g/{name}", visible=name != "b")
    shelf.run("root/g2/x")
    pages = shelf.pages(commands.ListNodes(parent_id="root/g", limit=2), "nodes")
    assert [ids(page, "id") for page in pages] == [["c", "a"], ["d"]]
    assert pages[0][0] == shelf.ask(commands.GetNode(node_id="root/g/c"))
    assert shelf.ask(commands.ListNodes(parent_id="root/g/c")) == {"nodes": [], "cursor": None}
    assert shelf.refusal(commands.ListNodes(parent_id="root/x")) == ("not_found", "node", "root/x")


def test_acquisitions_are_listed_newest_first_by_any_filter(shelf: Shelf) -> None:
    shelf.acq("root/g/r/a")
    shelf.acq("root/g/r/b", state="open")
    shelf.acq("root/g/q/c", state="aborted", storage_id="t")
    shelf.acq("root/g/q/d", sealed=False)
    shelf.run("root/g/r")

    def listed(**args: Any) -> str:
        return "".join(ids(shelf.ask(commands.ListAcqs(**args))["acqs"]))

    assert listed() == "dcba"
    assert listed(storage_id="s") == "dba"
    assert listed(run_id="root/g/r") == "ba"
    assert listed(state="finished") == "da"
    assert listed(state="open") == "b"
    assert listed(state="open", storage_id="t") == ""
    assert listed(run_id="root/g/q", storage_id="s") == "d"
    assert listed(run_id="root/g/q", state="aborted") == "c"
    assert listed(storage_id="s", state="finished") == "da"
    assert listed(storage_id="nobody") == ""
    assert listed(run_id="root/g") == ""


def test_an_acquisition_opened_again_is_the_newest(shelf: Shelf) -> None:
    shelf.acq("root/g/r/again", at="2024-06-01T00:00:00.000000Z")
    shelf.acq("root/g/r/once", at="2024-05-01T00:00:00.000000Z")
    assert ids(shelf.ask(commands.ListAcqs())["acqs"]) == ["again", "once"]


FILTERS: list[dict[str, Any]] = [{}, {"storage_id": "s"}, {"run_id": "root/g/r"}, {"state": "open"}]


@pytest.mark.parametrize("filters", FILTERS, ids=[str(filters) for filters in FILTERS])
def test_pages_hold_still_while_acquisitions_come(shelf: Shelf, filters: dict[str, Any]) -> None:
    # Many of one microsecond: the place in time alone does not tell them apart.
    for number in range(7):
        shelf.acq(f"root/g/r/a{number}", state="open", at="2024-01-01T00:00:00.000000Z")
    seen, command = [], commands.ListAcqs(limit=2, **filters)
    while True:
        result = shelf.ask(command)
        seen += ids(result["acqs"])
        shelf.acq(f"root/g/r/new{len(seen)}", state="open", at="2024-02-01T00:00:00.000000Z")
        if result["cursor"] is None:
            break
        command = msgspec.structs.replace(command, cursor=result["cursor"])
    assert seen == ["a6", "a5", "a4", "a3", "a2", "a1", "a0"]


def test_a_list_that_ends_with_its_page_has_no_cursor(shelf: Shelf) -> None:
    for name in "ab":
        shelf.acq(f"root/g/r/{name}")
    assert shelf.ask(commands.ListAcqs(limit=2))["cursor"] is None
    assert shelf.ask(commands.ListAcqs(limit=1))["cursor"] is not None


@pytest.mark.parametrize(
    "cursor", ["", "x", "?", "AAAA", "kwE=", "ä" * 10, "kqF4/w==", "kqF4", "0" * 4096, "gA=="]
)
def test_garbage_for_a_cursor_is_a_bad_request(shelf: Shelf, cursor: str) -> None:
    for command in (
        commands.ListAcqs(cursor=cursor),
        commands.ListNodes(cursor=cursor),
        commands.FindNodes(cursor=cursor),
        commands.ListConversions(cursor=cursor),
    ):
        assert shelf.refusal(command) == ("bad_request", "cursor", None)


def test_a_cursor_that_was_touched_is_garbage(shelf: Shelf) -> None:
    for place in (["2024", 1 << 63], ["2024", -1], ["2024", 1.0], [1, 1], ["2024"], ["2024", 1, 1]):
        cursor = urlsafe_b64encode(rows.encode(place)).decode()
        assert shelf.refusal(commands.ListAcqs(cursor=cursor)) == ("bad_request", "cursor", None)
    good = urlsafe_b64encode(rows.encode(["2024", 1])).decode()
    assert shelf.ask(commands.ListAcqs(cursor=good)) == {"acqs": [], "cursor": None}
    for cursor in (f"{good[:3]}!{good[3:]}", good[:-1], f"{good}{good}"):
        assert shelf.refusal(commands.ListAcqs(cursor=cursor)) == ("bad_request", "cursor", None)


def test_a_reply_is_cut_at_4_mib_and_goes_on_with_its_cursor(shelf: Shelf) -> None:
    shelf.group("root/g")
    for number in range(40):
        shelf.acq(f"root/g/r/{number:02}", {f"p{i}": "x" * 60_000 for i in range(4)})
    for command, name, key in (
        (commands.ListAcqs(limit=100), "acqs", "acq_id"),
        (commands.FindNodes(limit=100, kind="acq"), "nodes", "id"),
    ):
        answer = shelf.reader.read(command)
        assert isinstance(answer, bytes)
        assert REPLY_BYTES - 250_000 < len(answer) < REPLY_BYTES
        pages = shelf.pages(command, name)
        assert [len(page) for page in pages] == [17, 17, 6]
        assert [id for page in pages for id in ids(page, key)] == [
            f"{number:02}" for number in reversed(range(40))
        ]


def test_a_page_holds_at_least_one_item_however_large(shelf: Shelf) -> None:
    for name in "ab":
        shelf.acq(f"root/g/r/{name}", reason="x" * (REPLY_BYTES + 1))
    pages = shelf.pages(commands.ListAcqs(), "acqs")
    assert [ids(page) for page in pages] == [["b"], ["a"]]


# Conversions


def test_conversions_are_listed_newest_first_by_any_filter(shelf: Shelf) -> None:
    shelf.conversion("c1", attempt=2, state="failed")
    shelf.conversion("c2", "root/g/r/b", state="running", attempt=1)
    shelf.conversion("c3")
    shelf.conversion("c4", "root/g/r/b", state="failed")

    def listed(**args: Any) -> list[str]:
        pages = shelf.pages(commands.ListConversions(limit=1, **args), "conversions")
        return [each["conversion_id"] for page in pages for each in page]

    assert listed() == ["c4", "c3", "c2", "c1"]
    assert listed(acq_id="root/g/r/b") == ["c4", "c2"]
    assert listed(state="failed") == ["c4", "c1"]
    assert listed(acq_id="root/g/r/a", state="failed") == ["c1"]
    assert listed(acq_id="root/g/r/a", state="running") == []
    found = shelf.ask(commands.GetConversion(conversion_id="c1"))
    assert found["log"]["local_path"] == "/srv/run/a/conversion-1-2.log"
    assert shelf.refusal(commands.GetConversion(conversion_id="c5")) == ("not_found", "conversion", "c5")


def test_the_status_counts_conversions_of_every_state(shelf: Shelf) -> None:
    empty = dict.fromkeys(("queued", "running", "succeeded", "failed", "cancelled"), 0)
    journal = {"journal_id": "journal", "first_seq": 1, "last_seq": 0}
    assert shelf.reader.status() == {"journal": journal, "conversions": empty, "storages": 0}
    shelf.storage("s")
    shelf.conversion("c1")
    shelf.conversion("c2", state="failed")
    shelf.conversion("c3", state="failed")
    for _ in range(3):
        shelf.event("storage.warning", "s")
    shelf.db.execute("DELETE FROM journal WHERE seq = 1")
    assert shelf.reader.status() == {
        "journal": {"journal_id": "journal", "first_seq": 2, "last_seq": 3},
        "conversions": {**empty, "queued": 1, "failed": 2},
        "storages": 1,
    }


# The journal


def seqs(result: dict[str, Any]) -> list[int]:
    return [event["seq"] for event in result["events"]]


def test_events_are_replayed_as_they_were_published(shelf: Shelf) -> None:
    shelf.event("storage.initialized", "s", data={"x": [1, None, "ä"]})
    assert shelf.ask(commands.ReplayEvents()) == {
        "events": [{"v": 1, "seq": 1, "prev_seq": 0, "subject": "s", "data": {"x": [1, None, "ä"]}}],
        "last_seq": 1,
        "oldest_seq": 1,
        "journal_id": "journal",
        "more": False,
    }


def test_an_empty_journal_has_nothing_older_than_its_first_seq(shelf: Shelf) -> None:
    told = shelf.ask(commands.ReplayEvents())
    assert (told["events"], told["last_seq"], told["oldest_seq"], told["more"]) == ([], 0, 1, False)


def test_a_replay_goes_on_after_its_last_event_and_tells_the_newest_seq_of_the_journal(shelf: Shelf) -> None:
    for number in range(7):
        shelf.event("acquisition.param_set" if number % 2 else "run.param_set", "root/g/r")
    command = commands.ReplayEvents(limit=3)
    assert (seqs(told := shelf.ask(command)), told["more"], told["last_seq"]) == ([1, 2, 3], True, 7)
    command = msgspec.structs.replace(command, after_seq=3)
    assert (seqs(told := shelf.ask(command)), told["more"]) == ([4, 5, 6], True)
    command = msgspec.structs.replace(command, after_seq=4)
    assert (seqs(told := shelf.ask(command)), told["more"]) == ([5, 6, 7], False)
    command = commands.ReplayEvents(limit=3, topics=("acquisition.",))
    assert (seqs(told := shelf.ask(command)), told["more"], told["last_seq"]) == ([2, 4, 6], False, 7)
    assert seqs(shelf.ask(commands.ReplayEvents(after_seq=99))) == []


def test_a_pruned_journal_tells_what_is_gone(shelf: Shelf) -> None:
    for _ in range(5):
        shelf.event("storage.warning", "s")
    shelf.db.execute("DELETE FROM journal WHERE seq < 4")
    told = shelf.ask(commands.ReplayEvents())
    assert (seqs(told), told["oldest_seq"], told["last_seq"]) == ([4, 5], 4, 5)
    shelf.db.execute("DELETE FROM journal")
    told = shelf.ask(commands.ReplayEvents())
    assert (seqs(told), told["oldest_seq"], told["last_seq"]) == ([], 6, 5)


def test_topics_are_prefixes_and_subjects_are_trees(shelf: Shelf) -> None:
    shelf.event("acquisition.started", "root/g/r1/a", "s1")
    shelf.event("acquisition.started", "root/g/r10/a", "s10")
    shelf.event("run.created", "root/g/r1", "s1")
    shelf.event("acquisition.finished", "root/g/r1/a", "s1")
    shelf.event("group.created", "root/g", None)
    shelf.event("storage.warning", "s1", "s1")
    shelf.event("run.created", "root/g/r1-b", "s1")

    def replayed(*topics: str, subject: str | None = None) -> list[int]:
        return seqs(shelf.ask(commands.ReplayEvents(topics=topics, subject=subject)))

    assert replayed("acquisition.") == [1, 2, 4]
    assert replayed("acquisition.started/") == [1, 2]
    assert replayed("acquisition.started/s1/") == [1]
    assert replayed("acquisition.started/s1") == [1, 2]
    assert replayed("group.created/", "run.created/s1/") == [3, 5, 7]
    assert replayed("run.created/", "run.", "run.created/") == [3, 7]
    assert replayed("", "nobody") == [1, 2, 3, 4, 5, 6, 7]
    assert replayed("nobody") == []
    assert replayed("%", "acquisition_") == []
    assert replayed(subject="root/g/r1") == [1, 3, 4]
    assert replayed(subject="root/g") == [1, 2, 3, 4, 5, 7]
    assert replayed(subject="s1") == [6]
    assert replayed(subject="root/g/r") == []
    assert replayed("acquisition.started", subject="root/g/r1") == [1]


def test_a_replay_is_cut_at_4_mib(shelf: Shelf) -> None:
    for _ in range(10):
        shelf.event("storage.warning", "s", data="x" * 1_000_000)
    answer = shelf.reader.read(commands.ReplayEvents())
    assert isinstance(answer, bytes)
    assert REPLY_BYTES - 1_000_100 < len(answer) < REPLY_BYTES
    told = msgspec.msgpack.decode(answer)
    assert (seqs(told), told["more"]) == ([1, 2, 3, 4], True)
    assert seqs(shelf.ask(commands.ReplayEvents(after_seq=4))) == [5, 6, 7, 8]
    shelf.event("storage.warning", "big", data="x" * (REPLY_BYTES + 1))
    shelf.event("storage.warning", "big", data="x" * (REPLY_BYTES + 1))
    told = shelf.ask(commands.ReplayEvents(subject="big"))
    assert (seqs(told), told["more"]) == ([11], True)


class Long:
    """A journal of 24,000 events: too many to look at each when only some are asked for."""

    SIZE = 24_000

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.events: list[tuple[str, str]] = []
        for seq in range(1, self.SIZE + 1):
            type = "run.created" if seq % 1000 == 7 else "acquisition.param_set" if seq % 3 else "run.param_set"
            subject = "root/h/few" if seq % 2000 == 7 else f"root/g/r{seq % 5}/a{seq % 50}"
            self.events.append((f"{type}/s{seq % 2}/", subject))
        newest: dict[str, int] = {}
        journal = []
        for seq, (where, subject) in enumerate(self.events, 1):
            body = rows.encode({"seq": seq, "prev_seq": newest.get(where, 0)})
            journal.append((seq, where, subject, body))
            newest[where] = seq
        with shelf.db:
            shelf.db.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, NULL)", journal)
            shelf.db.executemany("INSERT INTO topics VALUES (?, ?)", list(newest.items()))

    def expected(self, command: commands.ReplayEvents) -> list[int]:
        found = [
            seq
            for seq, (where, subject) in enumerate(self.events, 1)
            if seq > command.after_seq
            and (not command.topics or where.startswith(command.topics))
            and (command.subject is None or f"{subject}/".startswith(f"{command.subject}/"))
        ]
        return found[: command.limit]


ASKED = [
    commands.ReplayEvents(limit=20, **args)
    for args in (
        {},
        {"topics": ("run.created/",)},
        {"topics": ("run.created/s1/",), "subject": "root/h"},
        {"topics": ("run.created/", "run.param_set/s0/")},
        {"topics": ("acquisition.",), "after_seq": 3000},
        {"topics": ("acquisition.",), "subject": "root/g/r1"},
        {"topics": ("run.",), "subject": "root/g"},
        {"topics": ("run.created/",), "subject": "root/g"},
        {"subject": "root/h/few"},
        {"subject": "root/h"},
        {"subject": "root"},
        {"subject": "root/g/r1/a1", "after_seq": 1000},
        {"topics": ("run.created/",), "after_seq": 23_500},
        {"topics": ("run.created/",), "after_seq": 23_007},
        {"topics": ("nobody",)},
    )
]


def test_a_long_journal_is_replayed_alike_by_every_way(shelf: Shelf) -> None:
    long = Long(shelf)
    for command in ASKED:
        assert seqs(shelf.ask(command)) == long.expected(command), command
    shelf.db.execute("DELETE FROM journal WHERE seq <= 3000")
    for command in ASKED:
        kept = msgspec.structs.replace(command, after_seq=max(command.after_seq, 3000))
        assert seqs(shelf.ask(command)) == long.expected(kept), command


def test_few_events_of_a_long_journal_are_found_without_looking_at_each(shelf: Shelf) -> None:
    Long(shelf)
    walk = "SEARCH journal USING INTEGER PRIMARY KEY (rowid>?)"
    for args in (
        {"topics": ("run.created/",)},
        {"subject": "root/h"},
        {"topics": ("run.",), "subject": "root/h/few"},
    ):
        assert walk not in shelf.reader.explain(commands.ReplayEvents(**args)), args
    assert walk in shelf.reader.explain(commands.ReplayEvents(topics=("acquisition.",)))


def test_a_topic_without_anything_new_is_told_by_its_newest_seq_alone(shelf: Shelf) -> None:
    shelf.event("run.created", "root/g/r")
    shelf.event("run.param_set", "root/g/r")
    lines = shelf.reader.explain(commands.ReplayEvents(topics=("run.created/",), after_seq=1))
    assert not [line for line in lines if "rowid" in line], lines


# Every read


READS: list[Command] = [
    commands.GetStorage(storage_id="s"),
    commands.GetRun(run_id="root/g/r"),
    commands.GetAcq(acq_id="root/g/r/a"),
    commands.ListAcqs(),
    commands.ListAcqs(storage_id="s", state="finished"),
    commands.ListAcqs(run_id="root/g/r"),
    commands.ListAcqs(state="open"),
    commands.GetNode(node_id="root/g/r"),
    commands.ListNodes(parent_id="root/g"),
    commands.ListConversions(),
    commands.ListConversions(acq_id="root/g/r/a", state="failed"),
    commands.ListConversions(state="failed"),
    commands.GetConversion(conversion_id="c"),
    commands.ReplayEvents(),
    commands.ReplayEvents(topics=("run.",), subject="root/g"),
]


def test_every_read_goes_by_an_index(shelf: Shelf) -> None:
    shelf.group("root/g")
    shelf.run("root/g/r", {"x": 1})
    shelf.acq("root/g/r/a", {"x": 1})
    shelf.event("run.created", "root/g/r")
    for command in READS:
        lines = shelf.reader.explain(command)
        assert any("SEARCH" in line for line in lines) or command == commands.ListAcqs(state="open"), lines
        for table in ("storages", "nodes", "params", "search", "conversions", "journal"):
            scans = [line for line in lines if line.startswith(f"SCAN {table}") and "nodes_at_work" not in line]
            assert not scans, (command, scans)


def test_a_read_is_one_snapshot(shelf: Shelf) -> None:
    shelf.storage("old")
    shelf.event("storage.initialized", "old")

    def meanwhile(_: apsw.Cursor, sql: str, __: object) -> bool:
        if sql.startswith("SELECT"):
            shelf.storage(f"new{shelf.clock}")
            shelf.event("storage.initialized", "new")
        return True

    shelf.reader._db.exec_trace = meanwhile
    told = shelf.ask(commands.ListStorages())
    shelf.reader._db.exec_trace = None
    # What came before the first SELECT may be in it, what came after may not.
    assert len(told["storages"]) == told["last_seq"]
    assert len(shelf.ask(commands.ListStorages())["storages"]) > len(told["storages"])


def test_the_reader_changes_nothing(shelf: Shelf) -> None:
    with pytest.raises(apsw.ReadOnlyError):
        shelf.reader._db.execute("DELETE FROM nodes")


def test_a_broken_database_is_unavailable_and_no_wrong_answer(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "storage.db")
    for number in range(500):
        shelf.acq(f"root/g/r/{number}", {"x": "y" * 500})
    shelf.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shelf.close()
    path = tmp_path / "storage.db"
    content = path.read_bytes()
    schema = 64 * 4096  # pages that were there before the rows
    path.write_bytes(content[:schema] + b"\xff" * (len(content) - schema))
    reader = Reader(path, PLACES, "journal")
    refusal = reader.read(commands.ListAcqs())
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.details) == ("unavailable", {"reason": "database"})
    reader.close()
