"""Section 4.4: what is noted of runs and acquisitions after the fact."""

from __future__ import annotations

from typing import Any

import pytest

from storage_client import NotFoundError, StorageClient
from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import TIME, Storage


@pytest.fixture
def acq(storage: Storage) -> dict[str, Any]:
    """A sealed acquisition with its manifest."""
    storage.run(params={"gas": "Ar"})
    last = storage.wire.last_seq()
    acq: dict[str, Any] = storage.acq()
    storage.close(acq)
    eventually(lambda: storage.events(last, "acquisition.manifest_written"))
    return acq


def test_a_sealed_acquisition_is_annotated_and_nothing_of_it_changes(
    storage: Storage, acq: dict[str, Any], service: Service
) -> None:
    wire, id = storage.wire, acq["acq_id"]
    folder = service.mount / acq["location"]["path"]
    before = {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in folder.iterdir()}
    node, told, last = wire.call("get_node", node_id=id), wire.call("get_acq", acq_id=id), wire.last_seq()
    noted = wire.call("annotate_node", node_id=id, name="quality", value="bad", author="Zoë")
    assert TIME.fullmatch(noted["time"])
    assert noted == {
        "node_id": id, "uid": acq["uid"], "time": noted["time"],
        "name": "quality", "value": "bad", "author": "Zoë",
    }  # fmt: skip
    (event,) = storage.events(last)
    assert (event["type"], event["subject"], event["time"]) == ("node.annotated", id, noted["time"])
    assert event["data"] == {name: noted[name] for name in ("node_id", "uid", "name", "value", "author")}
    assert wire.call("list_annotations", node_id=id) == {"annotations": [noted], "cursor": None}
    assert (wire.call("get_node", node_id=id), wire.call("get_acq", acq_id=id)) == (node, told)
    assert {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in folder.iterdir()} == before


def test_the_newest_note_is_found_and_all_are_listed(storage: Storage, acq: dict[str, Any]) -> None:
    wire, id = storage.wire, acq["acq_id"]

    def find(value: Any) -> list[str]:
        where = {"@quality": value}
        return [each["id"] for each in wire.call("find_nodes", under=storage.group, where=where)["nodes"]]

    for value in ("unknown", "bad", "good"):
        wire.call("annotate_node", node_id=id, name="quality", value=value)
    assert (find("bad"), find("good")) == ([], [id])
    wire.call("annotate_node", node_id=acq["run_id"], name="quality", value="bad")
    assert find("bad") == [acq["run_id"]]
    listed = wire.call("list_annotations", node_id=id, limit=2)
    assert [each["value"] for each in listed["annotations"]] == ["good", "bad"]
    rest = wire.call("list_annotations", node_id=id, cursor=listed["cursor"])
    assert ([each["value"] for each in rest["annotations"]], rest["cursor"]) == (["unknown"], None)


@pytest.mark.parametrize(
    ("args", "code", "field"),
    [
        ({"name": "quality", "value": "worse"}, "bad_request", "value"),
        ({"name": "quality", "value": None}, "bad_request", "value"),
        ({"name": "", "value": 1}, "invalid_name", "name"),
        ({"name": "x", "value": [1]}, "bad_request", "value"),
        ({"name": "x", "value": 1, "author": "x" * 129}, "bad_request", "author"),
        ({"name": "x"}, "bad_request", "value"),
    ],
)
def test_what_is_not_allowed_is_refused_by_its_field(
    storage: Storage, acq: dict[str, Any], args: dict[str, Any], code: str, field: str
) -> None:
    refused = storage.wire.refusal("annotate_node", node_id=acq["acq_id"], **args)
    assert (refused.code, refused.details["field"]) == (code, field)
    assert storage.wire.call("list_annotations", node_id=acq["acq_id"])["annotations"] == []


def test_groups_and_what_is_not_there_are_refused(storage: Storage, acq: dict[str, Any]) -> None:
    for node_id, code in ((storage.group, "bad_request"), ("root", "bad_request"), ("root/none", "not_found")):
        assert storage.wire.refusal("annotate_node", node_id=node_id, name="x", value=1).code == code
    assert storage.wire.call("list_annotations", node_id=storage.group) == {"annotations": [], "cursor": None}
    assert storage.wire.refusal("list_annotations", node_id="root/none").code == "not_found"


async def test_the_client_has_a_method_for_each(service: Service, storage: Storage, acq: dict[str, Any]) -> None:
    async with StorageClient(service.commands) as client:
        noted = await client.annotate_node(acq["acq_id"], "comment", "hot channel 7", author="shift B")
        page = await client.list_annotations(acq["acq_id"])
        assert (page.annotations, page.cursor) == ((noted,), None)
        with pytest.raises(NotFoundError):
            await client.annotate_node("root/none", "comment", "x")
