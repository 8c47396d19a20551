"""Section 3: names, values, places."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from tests.support.service import Service
from tests.support.wire import TIME, Storage, Wire

SEGMENTS_REFUSED = [
    "",
    ".",
    "..",
    ".hidden",
    "-a",
    "+a",
    "=a",
    "_a",
    "a b",
    "a\n",
    "a\x00",
    "ä",
    "a:b",
    "a\\b",
    "x" * 129,
]


def invalid(wire: Wire, cmd: str, field: str, **args: Any) -> None:
    refusal = wire.refusal(cmd, **args)
    assert (refusal.code, refusal.details["field"]) == ("invalid_name", field), refusal
    assert refusal.details["rule"]


@pytest.mark.parametrize(
    "name", ["", ".a", "-a", "_a", "a b", "a/b", "a\n", "ä", "a+b", "a=b", "x" * 65, "..", "a\x00"]
)
def test_a_storage_id_that_is_not_allowed(wire: Wire, name: str) -> None:
    invalid(wire, "init_storage", "storage_id", storage_id=name, brg_name="g")
    invalid(wire, "get_storage", "storage_id", storage_id=name)


@pytest.mark.parametrize("name", ["a", "7", "A.b_c-d", "x" * 64])
def test_a_storage_id_that_is_allowed(wire: Wire, name: str) -> None:
    try:
        assert wire.call("init_storage", storage_id=name, brg_name="names")["storage_id"] == name
    finally:
        wire.call("deinit_storage", storage_id=name, force=True)


def test_the_sentence_holds_the_offending_value(wire: Wire) -> None:
    assert "no such/name" in wire.refusal("get_storage", storage_id="no such/name").message


@pytest.mark.parametrize("name", ["", ".a", "a b", "a/b", "x" * 65, "a+b"])
def test_a_producer_that_is_not_allowed(storage: Storage, name: str) -> None:
    where = {"storage_id": storage.storage_id, "producer": name}
    invalid(storage.wire, "register_producer_storage", "producer", **where)


@pytest.mark.parametrize("name", [*SEGMENTS_REFUSED, "a/b", "{m}", "{", "a{n:}"])
def test_a_run_name_that_is_not_allowed(storage: Storage, name: str) -> None:
    invalid(storage.wire, "new_run_storage", "run_name", storage_id=storage.storage_id, run_name=name)


@pytest.mark.parametrize("name", ["a", "9", "a.b_c+d=e-f", "x" * 128])
def test_a_run_name_that_is_allowed(storage: Storage, name: str) -> None:
    assert storage.run(name)["run_id"] == f"{storage.group}/{name}"


@pytest.mark.parametrize("name", [*SEGMENTS_REFUSED, "a/b"])
def test_a_group_name_that_is_not_allowed(wire: Wire, name: str) -> None:
    invalid(wire, "init_storage", "brg_name", storage_id="never", brg_name=name)
    invalid(wire, "new_group", "name", name=name)


LONGEST = "/".join(["x" * 128] * 3 + ["y" * 125])


@pytest.mark.parametrize(
    "name",
    [
        *SEGMENTS_REFUSED,
        "/a",
        "a/",
        "a//b",
        "a/./b",
        "a/../b",
        "../a",
        "a/.b",
        "/".join("abcdefghi"),
        LONGEST + "z",
    ],
)
def test_an_acquisition_name_that_is_not_allowed(storage: Storage, name: str) -> None:
    storage.run()
    where = {"storage_id": storage.storage_id, "run_name": "run"}
    invalid(storage.wire, "new_acq_storage", "acq_name", **where, acq_name=name)
    assert storage.state() == "configured"


@pytest.mark.parametrize("name", ["a", "/".join("abcdefgh"), LONGEST, "iteration_1/threshold=200"])
def test_an_acquisition_name_that_is_allowed(storage: Storage, name: str) -> None:
    storage.run()
    acq = storage.acq(name)
    assert acq["acq_id"] == f"{storage.group}/run/{name}"
    assert acq["acq_name"] == name


@pytest.mark.parametrize(
    "path", ["/", "/a", "a/", "a//b", "../a", "a/..", ".", "a/.b", "a b", "/".join("abcdefghijklmnopq")]
)
def test_a_group_path_that_is_not_allowed(wire: Wire, path: str) -> None:
    invalid(wire, "init_storage", "brg_path", storage_id="never", brg_name="g", brg_path=path)
    assert wire.refusal("get_storage", storage_id="never").code == "not_found"


@pytest.mark.parametrize("path", ["", "a", "/".join("abcdefghijklmnop")])
def test_a_group_path_that_is_allowed(
    service: Service, wire: Wire, plan: Callable[..., Storage], path: str
) -> None:
    storage = plan(wire, brg_path=path).open()
    name = f"run-{storage.storage_id}"
    place = Path(storage.run(name)["location"]["local_path"])
    assert place.samefile(service.mount / path / name)


@pytest.mark.parametrize("param", ["", " a", "a ", "a\tb", "a\nb", "a\x7fb", "x" * 129])
def test_a_parameter_name_that_is_not_allowed(storage: Storage, param: str) -> None:
    run = storage.run()
    where = {"storage_id": storage.storage_id, "run_name": "run"}
    invalid(storage.wire, "set_param_run_storage", "param", **where, param=param, value=1)
    assert storage.refusal("new_run_storage", run_name="run", params={param: 1}).code == "invalid_name"
    assert storage.wire.call("get_run", run_id=run["run_id"])["params"] == {}


@pytest.mark.parametrize("param", ["a", "high voltage (V)", "Schwelle ü", "µ" * 128, "a/b.c", "%"])
def test_a_parameter_name_that_is_allowed(storage: Storage, param: str) -> None:
    storage.run()
    assert storage.call("set_param_run_storage", run_name="run", param=param, value=1) == {"stored": True}
    assert storage.run()["params"] == {param: 1}


VALUES = ["", "text", "undef", "ü\n\x00", 0, -1, 2**63 - 1, -(2**63), 0.5, -1e308, 5e-324, 1.0, True, False, None]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_comes_back_as_it_was_with_its_type(storage: Storage, value: Any) -> None:
    run = storage.run(params={"first": value})
    storage.call("set_param_run_storage", run_name="run", param="second", value=value)
    params = storage.wire.call("get_run", run_id=run["run_id"])["params"]
    for name in ("first", "second"):
        assert params[name] == value
        assert type(params[name]) is type(value)


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, [1], {"a": 1}, b"bytes", float("inf")])
def test_a_value_of_another_kind_is_a_bad_request(storage: Storage, value: Any) -> None:
    run = storage.run()
    refusal = storage.refusal("set_param_run_storage", run_name="run", param="x", value=value)
    assert refusal.code == "bad_request"
    assert storage.refusal("new_run_storage", run_name="run", params={"x": value}).code == "bad_request"
    assert storage.wire.call("get_run", run_id=run["run_id"])["params"] == {}


def test_undef_and_nil_mean_not_given(storage: Storage, wire: Wire, plan: Callable[..., Storage]) -> None:
    for nothing in ("undef", None):
        bare = plan(wire, brg_path=nothing, brg_mp=nothing, elog_server=nothing, stats_names=nothing)
        made = bare.call("init_storage", **bare.arguments, producers_count=nothing, use_rundb=nothing)
        assert (made["brg_path"], made["brg_mp"], made["elog_server"]) == ("", "file:///", None)
        assert (made["stats_names"], made["producers_count"], made["use_rundb"]) == ([], 1, True)

        run = storage.run(f"run-{nothing}", mode=nothing, params=nothing)
        acq = storage.acq("acq", run["run_name"], mode=nothing, convert_script=nothing, producers=nothing)
        assert (acq["convert_script"], acq["expected"]) == (None, 1)
        mark = storage.mark(acq, producer=nothing, summary=nothing, uid=nothing, segment=nothing)
        assert (mark["counted"], mark["state"]) == (True, "finished")
        done = wire.call("get_acq", acq_id=acq["acq_id"])
        assert [entry["producer"] for entry in done["producers"]] == [None]


@pytest.mark.parametrize(("given", "missing"), [("elog_server", "elog_name"), ("elog_name", "elog_server")])
def test_a_logbook_without_its_server_or_its_name_is_refused(wire: Wire, given: str, missing: str) -> None:
    refusal = wire.refusal("init_storage", storage_id="never", brg_name="g", **{given: "shift"})
    assert (refusal.code, refusal.details["field"]) == ("bad_request", missing)
    assert wire.refusal("get_storage", storage_id="never").code == "not_found"


def test_times_are_in_utc_with_microseconds(wire: Wire, storage: Storage) -> None:
    before = wire.last_seq()
    run = storage.run()
    acq = storage.acq()
    node = wire.call("get_node", node_id=run["run_id"])
    mark = storage.mark(acq)
    done = wire.call("get_acq", acq_id=mark["acq_id"])
    times = [
        wire.call("ping")["time"],
        wire.call("get_status")["started_at"],
        storage.call("get_storage")["created_at"],
        run["created_at"],
        node["created_at"],
        acq["started_at"],
        done["finished_at"],
        done["producers"][0]["time"],
        storage.events(before)[0]["time"],
    ]
    assert [time for time in times if not TIME.fullmatch(time)] == []


def test_ids_are_the_names_of_the_hierarchy(wire: Wire, plan: Callable[..., Storage]) -> None:
    parent = plan(wire)
    wire.call("new_group", name=f"commissioning-{parent.storage_id}")
    above = f"root/commissioning-{parent.storage_id}"
    for use_rundb in (True, False):
        storage = plan(wire, brg_parent_id=above, use_rundb=use_rundb).open()
        run = storage.run("calibration_1")
        acq = storage.acq("iteration_1/threshold_200", "calibration_1")
        assert run["run_id"] == f"{above}/{storage.arguments['brg_name']}/calibration_1"
        assert acq["acq_id"] == f"{run['run_id']}/iteration_1/threshold_200"
        assert (acq["run_id"], acq["run_name"]) == (run["run_id"], "calibration_1")
        assert uuid.UUID(run["uid"]) != uuid.UUID(acq["uid"])


def test_a_location_opens_where_the_data_lie(service: Service, wire: Wire, plan: Callable[..., Storage]) -> None:
    storage = plan(wire, brg_path="beam/2024").open()
    run = storage.run(f"run-{storage.storage_id}")
    acq = storage.acq("a/b", run["run_name"])
    for thing, below in ((run, ""), (acq, "/a/b")):
        location = thing["location"]
        place = service.mount / f"beam/2024/{run['run_name']}{below}"
        assert set(location) == {"mp", "path", "local_path", "url"}
        assert location["mp"] == "file:///"
        assert location["path"] == f"beam/2024/{run['run_name']}{below}"
        assert Path(location["local_path"]).samefile(place)
        url = urlsplit(location["url"])
        assert url.scheme == "file"
        assert Path(url2pathname(url.path)).samefile(place)
