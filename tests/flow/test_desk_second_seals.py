"""An acquisition that could not be opened again is sealed once more: its manifests stay what they were."""

from __future__ import annotations

import pytest

from storage_protocol import commands as c
from storage_service.rules.work import CANCELLED, Failed, MakeFolder, Order, Result, SyncData
from tests.flow.test_desk_manifests import AWAY, WRITTEN, asked, converted, sealed, with_manifests
from tests.support.step_shell import ACQ, StepShell, close, new_acq

GIVEN_UP = Failed("unavailable", "It was opened again or removed.", {"reason": CANCELLED})


def failing(order: Order) -> Result | None:
    """A mount point that fails half-way; what would seal hangs."""
    return AWAY if isinstance(order, MakeFolder) else None


def half_opened(shell: StepShell) -> StepShell:
    """It is to be opened again, which fails; its second seal is under way."""
    shell.door = failing
    assert shell.call(new_acq()).error.code == "unavailable"
    (order,) = [order for _, order in shell.hung]
    assert isinstance(order, SyncData)
    assert not shell.record(("node", ACQ)).sealed
    return shell


@pytest.mark.parametrize("now", ["blake3", "sizes", "off"])
def test_what_has_its_manifest_gets_no_second_one(now: str) -> None:
    shell = sealed(with_manifests())
    shell.hashed()
    half_opened(shell).manifest_kind = now
    shell.release()
    assert shell.types().count("acquisition.sealed") == 2
    assert (shell.manifests, shell.store.record(("due", ACQ))) == ([], None)
    acq = shell.record(("node", ACQ))
    assert (acq.manifest, acq.manifests) == ("blake3", ("manifest-1.json",))
    assert shell.restart().manifests == []
    shell.sound()


def test_a_manifest_that_was_due_is_given_up_and_written_after_the_second_seal() -> None:
    shell = sealed(with_manifests())
    half_opened(shell)
    assert shell.manifest_cancels == [ACQ]
    shell.hashed(GIVEN_UP)
    assert shell.manifests == []
    shell.manifest_kind = "sizes"  # a second seal does not choose anew
    shell.release().wait(2.0)
    order = shell.hashed()
    assert (order.name, order.kind, order.previous) == ("manifest-1.json", "blake3", None)
    assert shell.types().count(WRITTEN) == 1
    warned = [event.data["what"] for event in shell.events if event.type == "acquisition.warning"]
    assert warned == ["reopening"]
    shell.sound()


def test_a_manifest_that_is_in_place_when_the_opening_fails_does_not_count() -> None:
    shell = sealed(with_manifests())
    half_opened(shell)
    shell.hashed()
    assert WRITTEN not in shell.types()
    shell.release()
    assert shell.hashed().previous is None
    assert shell.types().count(WRITTEN) == 1
    shell.sound()


def test_nothing_is_listed_before_the_second_seal_is_durable() -> None:
    shell = sealed(with_manifests(), "a", "b")
    half_opened(shell)
    shell.hashed(GIVEN_UP)
    shell.wait(2.0)
    assert asked(shell) == [("b", "manifest-1.json")]
    shell.hold_commits = True
    shell.release()
    assert shell.record(("node", ACQ)).sealed
    shell.hashed(AWAY)  # now there is room
    assert shell.manifests == []
    shell.roll_back().run()
    assert shell.manifests == []
    shell.hold_commits = False
    shell.commit().run().wait(5.0)
    assert {shell.hashed().acq_id for _ in "ab"} == {ACQ, "root/g/r/b"}
    shell.sound()


def test_a_conversion_that_ends_meanwhile_gets_its_manifest() -> None:
    shell = sealed(with_manifests(), convert_script="convert")
    shell.hashed()
    half_opened(shell)
    converted(shell)
    assert shell.manifests == []
    shell.release().wait(2.0)
    assert asked(shell) == [("a", "manifest-1-conversion-1.json")]
    assert shell.hashed().over == ("manifest-1.json",)
    shell.sound()


# What is asked for is durable, and asked for once


def test_what_is_due_anew_is_not_asked_for_before_that_is_durable() -> None:
    shell = sealed(with_manifests(), "b", "a")  # that of b is being written
    shell.hold_commits = True
    shell.send(new_acq(), c.CloseAcq(storage_id="s", acq_id=ACQ))
    shell.run()
    while shell.record(("node", ACQ)).segment == 1 or not shell.record(("node", ACQ)).sealed:
        shell.commit().run()
    assert shell.batch is not None
    assert shell.store.record(("node", ACQ)).sealed is False
    shell.hashed(AWAY)  # there is room, and a is sealed in memory only
    assert shell.manifests == []
    shell.hold_commits = False
    shell.commit().run()
    assert asked(shell) == [("a", "manifest-2.json")]


def test_an_attempt_has_one_manifest_also_if_it_is_queued_anew_and_cancelled() -> None:
    shell = sealed(with_manifests(max_parallel=1), convert_script="convert")
    (conversion_id,) = shell.scripts
    converted(shell)
    shell.hashed()
    shell.hashed()
    sealed(shell, "b", convert_script="convert")  # it has the only place
    shell.must(c.RetryConversion(conversion_id=conversion_id), c.CancelConversion(conversion_id=conversion_id))
    assert shell.record(("conversion", conversion_id)).state == "cancelled"
    shell.hashed()
    assert shell.manifests == []
    # Nor does it get a second one when the next segment's manifest lists all that it left.
    shell.must(new_acq(), close())
    shell.must(c.RetryConversion(conversion_id=conversion_id), c.CancelConversion(conversion_id=conversion_id))
    assert shell.hashed().name == "manifest-2.json"
    assert shell.manifests == []
    shell.must(c.RetryConversion(conversion_id=conversion_id))
    for id in list(shell.scripts):
        shell.end(id)
    assert [order.acq_id for order in shell.manifests] == ["root/g/r/b"]
    shell.hashed()
    shell.end(conversion_id)
    assert shell.hashed().name == "manifest-1-conversion-2.json"
    names = [event.data["name"] for event in shell.events if event.type == WRITTEN and event.subject == ACQ]
    assert names == [
        "manifest-1.json",
        "manifest-1-conversion-1.json",
        "manifest-2.json",
        "manifest-1-conversion-2.json",
    ]
    shell.sound()
