"""`finish_timeout_s` and `producer_timeout_s` with the real service (SPEC 4.2.13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from storage_client import StorageClient
from tests.support.polling import eventually
from tests.support.service import Service
from tests.support.wire import Storage, Wire

Make = Callable[..., Service]
Plan = Callable[..., Storage]


def ended(wire: Wire, acq: dict[str, Any]) -> dict[str, Any]:
    """The acquisition, once it is sealed."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = wire.call("get_acq", acq_id=acq["acq_id"])
        return found if found["sealed"] else None

    return eventually(look)


def test_an_acquisition_is_closed_when_the_marks_do_not_come(wire: Wire, plan: Plan) -> None:
    storage = plan(wire, producers_count=2, finish_timeout_s=0.2).open()
    storage.run()
    before = wire.last_seq()
    acq = storage.acq()
    storage.mark(acq, "a")
    done = ended(wire, acq)
    assert (done["state"], done["verdict"], done["finished"], done["missing"]) == ("finished", "partial", 1, [])
    assert done["reason"].startswith("finish_timeout_s: 0.2 s")
    assert storage.types(before, "acquisition.finished") == ["acquisition.finished"]
    late = storage.mark(acq, "b")
    assert (late["counted"], late["state"]) == (False, "finished")


def test_a_silent_producer_is_lost_and_the_acquisition_goes_on_without_it(
    wire: Wire, other: Wire, plan: Plan
) -> None:
    storage = plan(wire, producer_timeout_s=0.4).open()
    for producer in ("a", "b"):
        other.call("register_producer_storage", storage_id=storage.storage_id, producer=producer)
    storage.run()
    before = wire.last_seq()
    acq = storage.acq()
    storage.mark(acq, "a")
    done = ended(wire, acq)
    assert (done["verdict"], done["missing"], done["failed"]) == ("partial", ["b"], [])
    assert "b" in done["reason"]
    (lost,) = storage.events(before, "storage.producer_lost")
    assert (lost["data"], lost["subject"]) == ({"producer": "b"}, storage.storage_id)
    assert storage.call("get_storage")["warnings"][-1]["what"] == "producer_lost"
    assert storage.events(before, "storage.producer_back") == []
    assert other.call("heartbeat_producer_storage", storage_id=storage.storage_id, producer="b") == {}
    (back,) = eventually(lambda: storage.events(before, "storage.producer_back"))
    assert back["data"] == {"producer": "b"}


def test_the_wait_for_marks_goes_on_after_a_kill(own_service: Make) -> None:
    service = own_service()
    with service.connect() as wire:
        storage = Storage(wire, "s", brg_name="g", brg_path="p", producers_count=2, finish_timeout_s=1.0).open()
        storage.run()
        acq = storage.acq()
        storage.mark(acq, "a")
    service.kill()
    service.start()
    with service.connect() as wire:
        done = ended(wire, acq)
        assert (done["verdict"], len(done["producers"])) == ("partial", 1)
        assert len(wire.journal(topics=["acquisition.finished/"])) == 1


async def test_a_block_of_the_client_keeps_its_producer_alive(service: Service) -> None:
    async with StorageClient(service.commands) as client, StorageClient(service.commands) as other:
        await client.init_storage("alive", "alive", brg_path="alive", producer_timeout_s=0.5)
        await client.config_storage("alive")
        await client.new_run("alive", "run")
        lost = other.events("storage.producer_lost/alive/", after_seq=0)
        names = {"producer": "ecal", "producers": ["ecal", "quiet"]}
        async with client.acquisition("alive", run_name="run", acq_name="a", **names):
            async for event in lost:
                assert event.data == {"producer": "quiet"}
                break
            assert (await other.get_acq("root/alive/run/a")).state == "open"
        done = await other.get_acq("root/alive/run/a")
        assert (done.state, done.verdict, list(done.missing)) == ("finished", "partial", ["quiet"])
        await client.deinit_storage("alive", force=True)
