"""Which nodes match: the conditions of `find_nodes` as SQL, and the choice of how to look (SPEC 4.4).

There are two ways to a page. One *drives* from a source: an index that gives few nodes, each of which is then
judged. The other *walks* the nodes from the newest on until the page is full, and skips by index alone what no
source gives. A source may give nodes that do not match, and never lacks one that does; what judges is always the
node's own row and its parameters.

    source          gives                                                  from
    a parameter     finished and aborted acquisitions, and runs, by value  search_by_value
                    the acquisitions of those runs                         nodes_by_parent
                    open acquisitions: they have no search rows            nodes_at_work
    `under`         everything below a node                                the unique index on node_id
    `state` open    open acquisitions                                      nodes_at_work

The smallest source drives when it is small. Else the newest nodes are tried first, since what many nodes match is
soon found among them; only when that does not fill the page, all of them are walked with the sources as sieves.
"""

# Values are always bound: what is put together here are words of this file.
# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import apsw
from msgspec import Struct

from storage_protocol import errors, where
from storage_protocol.commands import FindNodes
from storage_protocol.errors import Refusal
from storage_protocol.names import INT64_MAX

from . import rows

Key = tuple[str, int]
"""A node's place in time: `at` and `n`."""

NEWEST: Key = ("~", INT64_MAX)
"""After every node: times begin with a digit."""

OLDEST: Key = ("", 0)
"""Before every node."""

MAX_PATTERN = 256
"""Bytes of a `like`. Its cost grows with pattern times text: 16,000 against 64 KiB hold all queries up."""

MAX_VALUES = 2_048
"""Values in all `in` of a search together: SQLite takes a time for them that rises with their square."""

_COMPARE = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_NIL = "0"

# Every node that is walked is judged: so many that a source gives cost the same.
_WALKED = 3

# What counts for a node of a kind: its own parameters, what is told of it beside them, then what it inherits.
_HOLDERS = {
    "group": (),
    "run": (("params", "nodes.node_id"), ("derived", "nodes.node_id")),
    "acq": (
        *(("params", "nodes.node_id"), ("derived", "nodes.node_id")),
        *(("params", "nodes.parent_id"), ("derived", "nodes.parent_id")),
    ),
}

_AT_WORK = "SELECT n FROM nodes INDEXED BY nodes_at_work WHERE kind = 'acq' AND sealed = 0"
_RUNS = "SELECT n FROM nodes INDEXED BY nodes_by_time WHERE kind = 'run'"
_BELOW = "SELECT n FROM nodes INDEXED BY sqlite_autoindex_nodes_1 WHERE node_id > :below AND node_id < :beyond"
_SPAN = "kind = :kind AND at BETWEEN :since AND :at AND (at < :at OR n < :n)"


class Sizes(Struct, frozen=True):
    """Where one way to a page becomes dearer than the other, in nodes.

    driven   a source of at most so many drives
    newest   so many of the newest nodes are tried before the sieves are made
    counted  a source of more is no sieve, unless none has less
    """

    driven: int = 2_000
    newest: int = 1_000
    counted: int = 20_000


class _Source(Struct, frozen=True):
    """A SELECT of `n`, and how many rows it gives, counted up to `Sizes.counted`."""

    sql: str
    size: int


class _Asked(Struct, frozen=True):
    """What is asked of one parameter: SQL on `value`, for each class of values that can match at all."""

    name: str
    tests: dict[str, str]

    @property
    def judged(self) -> str:
        """SQL on a row of `params`: 1 or 0, never NULL."""
        return " OR ".join(f"(class = '{class_}' AND {test})" for class_, test in self.tests.items())

    @property
    def hits(self) -> str:
        """The nodes that have such a value of their own, but for open acquisitions."""
        indexed = "SELECT n FROM search INDEXED BY search_by_value"
        return " UNION ALL ".join(
            f"{indexed} WHERE name = {self.name} AND class = '{class_}' AND {test}"
            for class_, test in self.tests.items()
        )

    def judge(self, kind: str) -> str:
        """SQL on a row of `nodes`: the nearest holder of the parameter decides, its value matching or not."""
        nearest = ", ".join(
            f"(SELECT {self.judged} FROM {table} WHERE node_id = {holder} AND name = {self.name})"
            for table, holder in _HOLDERS[kind]
        )
        return f"coalesce({nearest}, 0)"

    def source(self, kind: str, few_runs: bool) -> str:
        """Every node of this kind that can match. Whether a hit is one of few runs their index tells first."""
        if kind == "run":
            return self.hits
        sieve = f"hit.n IN ({_RUNS}) AND " if few_runs else ""
        return (
            f"{self.hits} UNION ALL "
            f"SELECT acq.n FROM ({self.hits}) AS hit CROSS JOIN nodes AS run ON run.n = hit.n "
            "CROSS JOIN nodes AS acq INDEXED BY nodes_by_parent ON acq.parent_id = run.node_id "
            f"WHERE {sieve}run.kind = 'run' UNION ALL {_AT_WORK}"
        )


def refused(command: FindNodes) -> Refusal | None:
    """Why this search cannot be made, though it is well formed."""
    conditions = where.parse(command.where)
    if isinstance(conditions, Refusal):
        return conditions
    for each in conditions:
        if each.operator == "like" and len(each.operand.encode()) > MAX_PATTERN:
            message = f"where has a like of {len(each.operand.encode())} bytes; {MAX_PATTERN} are the most."
            return errors.bad_request(message, "where")
    values = sum(len(each.operand) for each in conditions if each.operator == "in")
    if values > MAX_VALUES:
        message = f"where has {values} values in its in; {MAX_VALUES} are the most of all of them together."
        return errors.bad_request(message, "where")
    return None


class Search:
    """One `find_nodes` that is not `refused`, inside one transaction of its reader.

    before  only what is older: the place of the last node of the page before, or NEWEST
    """

    def __init__(self, database: apsw.Connection, command: FindNodes, before: Key, sizes: Sizes) -> None:
        self._database = database
        self._sizes = sizes
        self._command = command
        at, n = min(before, (command.until or NEWEST[0], INT64_MAX))
        self._bound: dict[str, Any] = {"since": command.since or "", "at": at, "n": n}
        self._bound |= {"below": f"{command.under}/", "beyond": f"{command.under}0"}  # 0 comes after /
        self._bound |= {"state": command.state, "verdict": command.verdict, "rows": command.limit + 1}
        self._bound |= {"newest": sizes.newest}
        self._asked = self._read_where(command.where)

    def keys(self) -> list[Key]:
        """The places of the nodes that match, newest first: one more than the limit when there are more."""
        if any(not each.tests for each in self._asked):
            return []
        found = [key for kind in self._kinds() for key in self._of_kind(kind)]
        return sorted(found, reverse=True)[: self._command.limit + 1]

    def _kinds(self) -> Iterable[str]:
        command = self._command
        kinds = [command.kind] if command.kind else list(_HOLDERS)
        if command.state or command.verdict:
            kinds = [kind for kind in kinds if kind == "acq"]
        return [kind for kind in kinds if _HOLDERS[kind]] if self._asked else kinds

    def _of_kind(self, kind: str) -> list[Key]:
        self._bound["kind"] = kind
        judged = self._judged(kind)
        sources = self._sources(kind)
        walked = f"SELECT at, n FROM nodes INDEXED BY nodes_by_time WHERE {_SPAN}"
        if not sources or self._count(walked, sources[0].size) * _WALKED < sources[0].size:
            return self._page([walked, *judged])
        if sources[0].size <= self._sizes.driven:
            return self._driven(sources[0], judged)
        newest = self._page([walked, *judged], since=self._start_of_newest())
        if len(newest) > self._command.limit:
            return newest
        sieves = [each for each in sources if each.size < self._sizes.counted] or sources
        return self._page([walked, *(f"n IN ({each.sql})" for each in sieves), *judged])

    def _page(self, terms: list[str], since: str | None = None) -> list[Key]:
        sql = " AND ".join(terms) + " ORDER BY at DESC, n DESC LIMIT :rows"
        bound = self._bound if since is None else self._bound | {"since": since}
        found: list[Any] = self._database.execute(sql, bound).fetchall()
        return found

    def _driven(self, source: _Source, judged: list[str]) -> list[Key]:
        """What a source gives, newest first, each judged until the page is full: to judge costs more than to sort.

        The subquery is materialized, for it has a LIMIT, and is the outer loop, for it is CROSS joined: so what is
        judged comes in its order.
        """
        newest_first = (
            f"SELECT at, n FROM nodes NOT INDEXED WHERE n IN ({source.sql}) AND {_SPAN} "
            "ORDER BY at DESC, n DESC LIMIT -1"
        )
        sql = (
            f"SELECT given.at, given.n FROM ({newest_first}) AS given CROSS JOIN nodes ON nodes.n = given.n "
            f"WHERE {' AND '.join(judged)} LIMIT :rows"
        )
        found: list[Any] = self._database.execute(sql, self._bound).fetchall()
        return found

    def _judged(self, kind: str) -> list[str]:
        command = self._command
        terms = ["visible = 1"]
        if command.under != "root":
            terms.append("node_id > :below AND node_id < :beyond")
        if command.state:
            terms.append("state = :state")
        if command.verdict:
            terms.append("verdict = :verdict")
        return [*terms, *(each.judge(kind) for each in self._asked)]

    def _sources(self, kind: str) -> list[_Source]:
        """The sources for this search, the smallest first."""
        few_runs = bool(self._asked) and self._count(_RUNS, self._sizes.driven + 1) <= self._sizes.driven
        queries = [each.source(kind, few_runs) for each in self._asked]
        if self._command.under != "root":
            queries.append(_BELOW)
        if self._command.state == "open":
            queries.append(_AT_WORK)
        sources = [_Source(sql, self._count(sql, self._sizes.counted)) for sql in queries]
        return sorted(sources, key=lambda each: each.size)

    def _count(self, sql: str, most: int) -> int:
        query = f"SELECT count(*) FROM (SELECT 1 FROM ({sql}) LIMIT :most)"
        return int(self._database.execute(query, self._bound | {"most": most}).get)

    def _start_of_newest(self) -> str:
        query = (
            f"SELECT at FROM nodes INDEXED BY nodes_by_time WHERE {_SPAN} "
            "ORDER BY at DESC, n DESC LIMIT 1 OFFSET :newest"
        )
        found: str | None = self._database.execute(query, self._bound).get
        return self._bound["since"] if found is None else found

    def _bind(self, value: Any) -> str:
        name = f"v{len(self._bound)}"
        self._bound[name] = value
        return f":{name}"

    def _read_where(self, given: dict[str, Any]) -> list[_Asked]:
        conditions = where.parse(given)
        if isinstance(conditions, Refusal):
            raise ValueError(conditions.message)
        by_param: dict[str, list[dict[str, str]]] = {}
        for condition in conditions:
            by_param.setdefault(condition.param, []).append(self._tests(condition))
        return [_Asked(self._bind(param), _all(tests)) for param, tests in by_param.items()]

    def _tests(self, condition: where.Condition) -> dict[str, str]:
        """The condition as SQL on `value`, by the class that it compares with: nil compares with nothing."""
        if condition.operator == "like":
            return {"t": self._like(condition.operand)}
        if condition.operator == "in":
            wanted: dict[str, list[str]] = {}
            for class_, value in map(rows.value_row, condition.operand):
                wanted.setdefault(class_, []).append(self._bind(value))
            return {class_: f"value IN ({', '.join(them)})" for class_, them in wanted.items() if class_ != _NIL}
        class_, value = rows.value_row(condition.operand)
        return {} if class_ == _NIL else {class_: f"value {_COMPARE[condition.operator]} {self._bind(value)}"}

    def _like(self, pattern: str) -> str:
        """GLOB with its `[` taken literally. It stops at a NUL: a text or a pattern with one matches nothing."""
        if "\0" in pattern:
            return "0"
        literal = re.split(r"[*?]", pattern, maxsplit=1)[0].encode()
        glob = self._bind(pattern.replace("[", "[[]"))
        # No text has the byte ff in it: all that begin with the literal are before it.
        first, last = self._bind(literal.decode()), self._bind(literal + b"\xff")
        begins = f"value >= {first} AND value < CAST({last} AS TEXT)"
        return f"{begins} AND value GLOB {glob} AND instr(value, char(0)) = 0"


def _all(tests: list[dict[str, str]]) -> dict[str, str]:
    """The tests of one parameter together: a class stays that each of them knows."""
    classes = set(tests[0]).intersection(*tests[1:])
    return {class_: " AND ".join(test[class_] for test in tests) for class_ in sorted(classes)}
