"""`find_nodes`: what matches, in which order, by every way to a page, and by indexes alone."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from storage_protocol import times, where
from storage_protocol.commands import FindNodes
from storage_protocol.names import Value
from storage_service.store.search import MAX_PATTERN, MAX_VALUES, Sizes
from tests.contract.test_reader import Shelf

USUAL = Sizes()
# Every source drives; the newest are tried, then all is sieved, by every source or by those that are small enough.
WAYS = {
    "driven": Sizes(driven=1_000),
    "sieved": Sizes(driven=-1, newest=2),
    "least": Sizes(driven=-1, newest=1, counted=1),
    "usual": USUAL,
}


@pytest.fixture(params=WAYS)
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "storage.db", WAYS[request.param])
    shelf.group("root/g")
    yield shelf
    shelf.close()


def found(shelf: Shelf, where: dict[str, Any] | None = None, **args: Any) -> list[str]:
    """The names of what is found, from pages of 2, and whole."""
    command = FindNodes(where=where or {}, **args)
    whole = [node["name"] for node in shelf.ask(command)["nodes"]]
    pages = shelf.pages(replace(command, limit=2), "nodes")
    assert [node["name"] for page in pages for node in page] == whole
    assert all(len(page) == 2 for page in pages[:-1])
    return whole


def test_nodes_are_found_newest_first_across_kinds(shelf: Shelf) -> None:
    shelf.run("root/g/r", at="2024-01-02T00:00:00.000000Z")
    shelf.acq("root/g/r/new", at="2024-01-03T00:00:00.000000Z")
    shelf.acq("root/g/r/same1", at="2024-01-02T00:00:00.000000Z")
    shelf.acq("root/g/r/old", at="2024-01-01T00:00:00.000000Z")
    shelf.run("root/g/hidden", visible=False)
    assert found(shelf) == ["new", "same1", "r", "old", "g"]
    assert found(shelf, kind="run") == ["r"]
    assert found(shelf, kind="acq") == ["new", "same1", "old"]
    assert found(shelf, kind="group") == ["g"]
    span = {"since": "2024-01-02T00:00:00.000000Z", "until": "2024-01-02T00:00:00.000000Z"}
    assert found(shelf, **span) == ["same1", "r"]
    assert found(shelf, since="2024-01-02T00:00:00.000001Z") == ["new"]
    assert found(shelf, until="2024-01-01T23:59:59.999999Z") == ["old", "g"]


def test_under_means_below_in_the_hierarchy(shelf: Shelf) -> None:
    shelf.group("root/g-h")
    for run in ("r", "r0", "r-", "r/"):
        shelf.acq(f"root/g/{run}/a {run}", run_id=f"root/g/{run}")
    shelf.run("root/g/r")
    assert found(shelf, under="root/g/r") == ["a r/", "a r"]
    assert found(shelf, under="root/g") == ["r", "a r/", "a r-", "a r0", "a r"]
    assert found(shelf, under="root/g-h") == []
    assert shelf.refusal(FindNodes(under="root/g/x")) == ("not_found", "node", "root/g/x")


def test_state_and_verdict_are_of_acquisitions(shelf: Shelf) -> None:
    shelf.run("root/g/r", {"x": 1})
    shelf.acq("root/g/r/a", verdict="complete")
    shelf.acq("root/g/r/b", verdict="partial")
    shelf.acq("root/g/r/c", state="aborted")
    shelf.acq("root/g/r/d", state="open")
    assert found(shelf, state="finished") == ["b", "a"]
    assert found(shelf, state="open") == ["d"]
    assert found(shelf, state="open", under="root/g") == ["d"]
    assert found(shelf, verdict="partial") == ["b"]
    assert found(shelf, state="aborted", verdict="partial") == []
    assert found(shelf, state="finished", kind="run") == []
    assert found(shelf, {"x": 1}, state="aborted") == ["c"]


VALUES: dict[str, Value] = {
    "int": 1,
    "float": 1.0,
    "big": 2**53 + 1,
    "true": True,
    "false": False,
    "digit": "1",
    "word": "abc",
    "empty": "",
    "wild": "a%c_[x]*?",
    "nul": "a\0b",
    "umlaut": "äbc",
    "nil": None,
}
WHERE: list[tuple[Any, set[str]]] = [
    (1, {"int", "float"}),
    (1.0, {"int", "float"}),
    (True, {"true"}),
    ("1", {"digit"}),
    (None, set()),
    ({"ne": None}, set()),
    ({"in": [None]}, set()),
    ({"in": []}, set()),
    ({"in": [1, 1.0, "abc", False, None]}, {"int", "float", "word", "false"}),
    ({"ne": 1}, {"big"}),
    ({"ne": True}, {"false"}),
    ({"ne": "abc"}, {"digit", "empty", "wild", "nul", "umlaut"}),
    ({"gt": 0.5}, {"int", "float", "big"}),
    ({"gt": 2.0**53}, {"big"}),
    ({"le": True}, {"true", "false"}),
    ({"lt": ""}, set()),
    ({"ge": "abc"}, {"word", "umlaut"}),
    ({"ge": 0, "lt": 2}, {"int", "float"}),
    ({"ge": 0, "lt": "x"}, set()),
    ({"ge": 0, "in": [1, "abc"]}, {"int", "float"}),
    ({"like": "*"}, {"digit", "word", "empty", "wild", "umlaut"}),
    ({"like": ""}, {"empty"}),
    ({"like": "?bc"}, {"word", "umlaut"}),
    ({"like": "ä*"}, {"umlaut"}),
    ({"like": "A*"}, set()),
    ({"like": "a*c"}, {"word"}),
    ({"like": "[a]bc"}, set()),
    ({"like": "a%c_[x]??"}, {"wild"}),
    ({"like": "*[x]*"}, {"wild"}),
    ({"like": "a\0*"}, set()),
    ({"like": "ab*", "ne": "abc"}, set()),
]


@pytest.mark.parametrize(("asked", "expected"), WHERE, ids=[str(asked) for asked, _ in WHERE])
@pytest.mark.parametrize("state", ["open", "finished"])
def test_values_compare_within_their_class(shelf: Shelf, state: str, asked: Any, expected: set[str]) -> None:
    for name, value in VALUES.items():
        shelf.acq(f"root/g/r/{name}", {"x": value}, state=state)
    shelf.acq("root/g/r/without", {"y": 1}, state=state)
    assert set(found(shelf, {"x": asked})) == expected


def test_a_parameter_that_an_acquisition_lacks_is_its_runs(shelf: Shelf) -> None:
    shelf.run("root/g/r", {"x": 1, "y": "a"})
    shelf.run("root/g/q", {"x": 2})
    for state in ("open", "finished"):
        shelf.acq(f"root/g/r/{state} inherits", state=state)
        shelf.acq(f"root/g/r/{state} has", {"x": 2}, state=state)
        shelf.acq(f"root/g/r/{state} nil", {"x": None}, state=state)
    assert found(shelf, {"x": {"in": [None, 1]}}) == ["finished inherits", "open inherits", "r"]
    assert found(shelf, {"x": 1}) == ["finished inherits", "open inherits", "r"]
    assert found(shelf, {"x": 2}) == ["finished has", "open has", "q"]
    assert found(shelf, {"x": {"ne": 1}}) == ["finished has", "open has", "q"]
    assert found(shelf, {"x": 1, "y": {"like": "?"}}, kind="acq") == ["finished inherits", "open inherits"]
    assert found(shelf, {"x": {"ge": 1}}, kind="run") == ["q", "r"]
    assert found(shelf, {"x": {"ge": 1}}, kind="group") == []
    assert found(shelf, {"x": 2, "y": "a"}, under="root/g/r") == ["finished has", "open has"]


def test_pages_hold_still_while_nodes_come(shelf: Shelf) -> None:
    for number in range(7):
        shelf.acq(f"root/g/r/a{number}", {"x": 1}, at="2024-01-01T00:00:00.000000Z")
    seen, command = [], FindNodes(where={"x": 1}, limit=2)
    while True:
        result = shelf.ask(command)
        seen += [node["name"] for node in result["nodes"]]
        shelf.acq(f"root/g/r/new{len(seen)}", {"x": 1}, at="2024-02-01T00:00:00.000000Z")
        if result["cursor"] is None:
            break
        command = replace(command, cursor=result["cursor"])
    assert seen == ["a6", "a5", "a4", "a3", "a2", "a1", "a0"]


def test_a_like_has_a_longest(shelf: Shelf) -> None:
    shelf.acq("root/g/r/a", {"x": "[" * MAX_PATTERN})
    assert found(shelf, {"x": {"like": "[" * MAX_PATTERN}}) == ["a"]
    assert shelf.refusal(FindNodes(where={"x": {"like": "[" * (MAX_PATTERN + 1)}})) == (
        "bad_request",
        "where",
        None,
    )


def test_the_most_conditions_and_values_are_carried_out(shelf: Shelf) -> None:
    lists = MAX_VALUES // where.MAX_IN
    shelf.run("root/g/r", {"p0": 255})
    shelf.acq("root/g/r/a", {f"p{number}": 0 for number in range(1, where.MAX_CONDITIONS)})
    asked: dict[str, Any] = {f"p{number}": {"in": list(range(where.MAX_IN))} for number in range(lists)}
    asked |= {f"p{number}": {"lt": 1} for number in range(lists, where.MAX_CONDITIONS)}
    assert [node["name"] for node in shelf.ask(FindNodes(where=asked))["nodes"]] == ["a"]
    asked["more"] = {"in": [1]}
    del asked[f"p{lists}"]
    assert shelf.refusal(FindNodes(where=asked)) == ("bad_request", "where", None)


ASKED = [
    FindNodes(**args)
    for args in (
        {},
        {"under": "root/g/r"},
        {"state": "open"},
        {"state": "aborted", "since": "2024", "until": "2025"},
        {"where": {"x": 1}},
        {"where": {"x": {"ge": 1, "lt": 2}, "y": "a"}, "under": "root/g"},
        {"where": {"x": {"in": [1, "a"]}, "y": {"like": "a*b"}}},
        {"where": {"x": {"ne": 1}}, "kind": "run"},
    )
]


def test_every_way_goes_by_indexes(shelf: Shelf) -> None:
    shelf.run("root/g/r", {"x": 1, "y": "ab"})
    for number in range(20):
        shelf.acq(f"root/g/r/{number}", {"x": number % 3})
    for command in ASKED:
        lines = shelf.reader.explain(command)
        assert any(line.startswith("SEARCH nodes USING") for line in lines), lines
        # The index of what is at work is short: it is looked through whole.
        scans = [line for line in lines if re.match("SCAN (nodes|params|search|run|acq)", line)]
        assert not [line for line in scans if "nodes_at_work" not in line], (command, scans)


def test_few_matches_drive_and_many_are_walked(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "storage.db", Sizes(driven=5, newest=10))
    for number in range(60):
        shelf.acq(f"root/g/r/{number}", {"rare": number % 20, "common": 1, "old": int(number < 40)})

    def ways(where: dict[str, Any]) -> list[str]:
        lines = shelf.reader.explain(FindNodes(where=where, kind="acq", limit=5))
        if "USE TEMP B-TREE FOR ORDER BY" in lines:
            return ["driven"]
        walks = [at for at, line in enumerate(lines) if line.startswith("SEARCH nodes USING INDEX nodes_by_time")]
        return ["sieved" if lines[at + 1].startswith("LIST SUBQUERY") else "walked" for at in walks]

    assert ways({"rare": 7, "common": 1}) == ["driven"]
    assert ways({"common": 1}) == ["walked"]
    assert ways({"old": 1}) == ["walked", "sieved"]
    shelf.close()


# A plain model of the page, and small databases at random.


class Node(Struct):
    kind: str
    name: str
    params: dict[str, Value]
    state: str | None
    verdict: str | None
    visible: bool
    at: str
    parent: str


SMALL: st.SearchStrategy[Value] = st.sampled_from(
    [None, False, True, 0, 1, 2, 1.0, 1.5, -1, "", "a", "ab", "b", "[a"]
)
PARAMS = st.dictionaries(st.sampled_from("xyz"), SMALL, max_size=3)
TIMES = st.integers(0, 6).map(lambda s: times.to_wire(1_700_000_000 + s))
ACQS = st.builds(
    Node,
    kind=st.just("acq"),
    name=st.just(""),
    params=PARAMS,
    state=st.sampled_from(["open", "finished", "aborted"]),
    verdict=st.sampled_from([None, "complete", "partial"]),
    visible=st.sampled_from([True, True, True, False]),
    at=TIMES,
    parent=st.sampled_from(["root/g/q", "root/g/r", "root/g/r1"]),
)
COMPARISONS = st.one_of(
    SMALL,
    st.dictionaries(st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]), SMALL, min_size=1, max_size=2),
    st.builds(lambda values: {"in": values}, st.lists(SMALL, max_size=4)),
    st.builds(lambda pattern: {"like": pattern}, st.text("ab*?[", max_size=3)),
)
COMMANDS = st.builds(
    FindNodes,
    under=st.sampled_from(["root", "root", "root/g", "root/g/r", "root/g/r1"]),
    kind=st.sampled_from([None, None, "group", "run", "acq"]),
    where=st.dictionaries(st.sampled_from("xyz"), COMPARISONS, max_size=2),
    state=st.sampled_from([None, None, "open", "finished", "aborted"]),
    verdict=st.sampled_from([None, None, None, "complete", "partial"]),
    since=st.one_of(st.none(), TIMES),
    until=st.one_of(st.none(), TIMES),
    limit=st.integers(1, 4),
)


def class_of(value: Value) -> str:
    if value is None or isinstance(value, bool | str):
        return type(value).__name__
    return "number"


def compares(operator: str, value: Any, operand: Any) -> bool:
    if operator == "in":
        return any(compares("eq", value, each) for each in operand)
    if operator == "like":
        pattern = re.escape(operand).replace(r"\*", ".*").replace(r"\?", ".")
        return isinstance(value, str) and re.fullmatch(pattern, value, re.S) is not None
    if value is None or class_of(value) != class_of(operand):
        return False
    results = {"eq": value == operand, "ne": value != operand, "lt": value < operand}
    results |= {"le": value <= operand, "gt": value > operand, "ge": value >= operand}
    return results[operator]


def expected(nodes: list[Node], command: FindNodes) -> list[str]:
    runs = {f"root/g/{node.name}": node.params for node in nodes if node.kind == "run"}

    def matches(node: Node) -> bool:
        params = {**runs[node.parent], **node.params} if node.kind == "acq" else node.params
        asked = where.parse(command.where)
        assert isinstance(asked, tuple)
        return (
            node.visible
            and f"{node.parent}/{node.name}".startswith(f"{command.under}/")
            and command.kind in (None, node.kind)
            and command.state in (None, node.state)
            and command.verdict in (None, node.verdict)
            and (command.since or "") <= node.at <= (command.until or "~")
            and all(each.param in params for each in asked)
            and all(compares(each.operator, params[each.param], each.operand) for each in asked)
        )

    order = sorted(range(len(nodes)), key=lambda place: (nodes[place].at, place), reverse=True)
    return [nodes[place].name for place in order if matches(nodes[place])]


@given(
    runs=st.tuples(PARAMS, PARAMS, PARAMS),
    run_times=st.tuples(TIMES, TIMES, TIMES),
    acqs=st.lists(ACQS, max_size=12),
    asked=st.lists(COMMANDS, min_size=1, max_size=4),
    sizes=st.builds(Sizes, driven=st.integers(-1, 6), newest=st.integers(1, 6), counted=st.integers(1, 8)),
)
@settings(deadline=None, max_examples=200, derandomize=True)
def test_what_is_found_is_what_a_plain_look_at_each_node_finds(
    runs: tuple[dict[str, Value], ...],
    run_times: tuple[str, ...],
    acqs: list[Node],
    asked: list[FindNodes],
    sizes: Sizes,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder) / "storage.db", sizes)
        shelf.group("root/g")
        nodes = [Node("group", "g", {}, None, None, True, times.to_wire(shelf.clock / 1e6), "root")]
        for name, params, at in zip(("q", "r", "r1"), runs, run_times, strict=True):
            shelf.run(f"root/g/{name}", params, at=at)
            nodes.append(Node("run", name, params, None, None, True, at, "root/g"))
        for number, acq in enumerate(acqs):
            node = replace(acq, name=f"a{number}")
            nodes.append(node)
            shelf.acq(
                f"{node.parent}/{node.name}",
                node.params,
                state=node.state or "",
                verdict=node.verdict,
                visible=node.visible,
                at=node.at,
            )
        for command in asked:
            pages = shelf.pages(command, "nodes")
            assert [node["name"] for page in pages for node in page] == expected(nodes, command), command
        shelf.close()
