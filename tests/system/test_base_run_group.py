"""Section 4.1: what configuring a storage resolves and makes: the mount point and the base run group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Refused, Storage, Wire

Plan = Callable[..., Storage]


def once_reachable(storage: Storage) -> str:
    """The state after init and config, or the code of the refusal; nothing while the mount is unavailable."""
    try:
        storage.call("init_storage", **storage.arguments)
        return str(storage.call("config_storage")["state"])
    except Refused as refused:
        return "" if refused.code == "unavailable" else refused.code


def test_the_first_config_makes_the_group_and_the_second_nothing(wire: Wire, plan: Plan) -> None:
    storage = plan(wire)
    storage.call("init_storage", **storage.arguments)
    assert wire.refusal("get_node", node_id=storage.group).code == "not_found"
    before = wire.last_seq()
    configured = storage.call("config_storage")
    assert storage.call("config_storage") == configured
    told = [event for event in wire.journal(before) if event["subject"] in (storage.storage_id, storage.group)]
    assert [event["type"] for event in told] == ["group.created", "storage.configured"]
    node = wire.call("get_node", node_id=storage.group)
    assert told[0]["data"] == node
    assert (node["kind"], node["mp"], node["path"]) == ("group", "file:///", storage.arguments["brg_path"])


def test_a_mount_point_that_is_not_configured_is_not_found(wire: Wire, plan: Plan) -> None:
    storage = plan(wire, brg_mp="nfs://nowhere/at/all")
    storage.call("init_storage", **storage.arguments)
    refusal = storage.refusal("config_storage")
    assert (refusal.code, refusal.details["id"]) == ("not_found", "nfs://nowhere/at/all")
    assert storage.state() == "ready"


def test_a_parent_that_is_not_there_is_not_found(wire: Wire, plan: Plan) -> None:
    storage = plan(wire, brg_parent_id="root/not_there")
    storage.call("init_storage", **storage.arguments)
    refusal = storage.refusal("config_storage")
    assert (refusal.code, refusal.details["id"]) == ("not_found", "root/not_there")
    assert storage.state() == "ready"


def test_a_mount_that_cannot_be_reached_is_unavailable_until_it_is_back(
    service: Service, wire: Wire, plan: Plan
) -> None:
    storage = plan(wire, brg_mp="file:///spare")
    storage.call("init_storage", **storage.arguments)
    assert storage.refusal("config_storage").code == "unavailable"
    assert storage.state() == "ready"
    (service.folder / "spare").mkdir()

    assert eventually(lambda: once_reachable(storage) == "configured")


@pytest.mark.parametrize("other", [{"brg_path": "elsewhere"}, {"brg_mp": "file:///spare"}])
def test_a_base_run_group_in_another_place_is_refused(
    service: Service, wire: Wire, plan: Plan, other: dict[str, Any]
) -> None:
    (service.folder / "spare").mkdir(exist_ok=True)
    first = plan(wire).open()
    second = plan(wire, **first.arguments | other)
    assert eventually(lambda: once_reachable(second)) == "already_exists"


def test_several_storages_share_a_base_run_group(wire: Wire, plan: Plan) -> None:
    first = plan(wire).open()
    before = wire.last_seq()
    second = plan(wire, **first.arguments).open()
    assert "group.created" not in [event["type"] for event in wire.journal(before)]
    assert first.run("one")["storage_id"] == first.storage_id
    assert second.run("two")["storage_id"] == second.storage_id
