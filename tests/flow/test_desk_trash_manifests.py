"""What comes back from the trash comes with its manifests: none is written over, and conversions add to them."""

from __future__ import annotations

import pytest

from storage_protocol import commands as c
from storage_service.rules import render
from storage_service.rules.trash_work import Listing, Seen
from storage_service.rules.work import Done
from tests.flow.test_desk_manifests import AWAY, asked, converted, sealed, with_manifests
from tests.flow.test_desk_second_seals import failing
from tests.flow.test_desk_trash import RUN, Trash, entry, restore
from tests.support.step_shell import ACQ, PLACES, StepShell, close, new_acq, new_run

NAMES = ("manifest-1.json", "manifest-1-conversion-1.json")


def restored(names: tuple[str, ...] = NAMES, segment: int = 1) -> StepShell:
    """A converted acquisition of a run that was removed and is back; its manifests are as `names` say."""
    shell = sealed(with_manifests(), convert_script="convert")
    converted(shell)
    for _ in NAMES:
        shell.hashed()
    run, acq = shell.record(("node", RUN)), shell.record(("node", ACQ))
    trash = Trash()
    trash.seen[run.uid] = Seen(
        (entry(run.uid),),
        marker=render.marker(render.run(run, PLACES)),
        markers=(render.marker(render.acquisition(acq, PLACES)),),
        listings=(Listing(acq.uid, segment, "blake3", names),) if names else (),
    )
    shell.must(new_run(mode="remove"))
    shell.door = trash
    assert shell.must(restore(trash)).record(("node", ACQ)).uid == acq.uid
    shell.door = lambda order: Done()
    assert shell.manifests == []
    return shell


def test_it_owes_nothing_and_has_its_manifests() -> None:
    shell = restored()
    acq = shell.record(("node", ACQ))
    assert (acq.manifest, acq.manifests) == ("blake3", NAMES)
    assert shell.restart().manifests == []
    shell.sound()


def test_a_conversion_of_it_adds_to_its_manifests() -> None:
    shell = restored()
    (id,) = [id for table, id in shell.store.records if table == "conversion"]
    shell.must(c.RetryConversion(conversion_id=id))
    converted(shell)
    order = shell.hashed()
    assert (order.name, order.over) == ("manifest-1-conversion-2.json", NAMES)
    shell.sound()


@pytest.mark.parametrize("names", [NAMES, NAMES[:1]])
def test_sealed_once_more_it_writes_over_none_of_them(names: tuple[str, ...]) -> None:
    shell = restored(names)
    shell.door = failing
    assert shell.call(new_acq()).error.code == "unavailable"
    shell.release()
    assert (shell.record(("node", ACQ)).sealed, shell.manifests) == (True, [])
    shell.sound()


@pytest.mark.parametrize("segment", [1, 2])
def test_what_has_none_of_its_segment_gets_one_with_the_next(segment: int) -> None:
    shell = restored((), segment) if segment == 1 else restored(("manifest-2.json",), segment)
    assert shell.record(("node", ACQ)).manifest == "off"
    shell.must(new_acq(), close())
    assert asked(shell) == [("a", "manifest-2.json")]
    shell.hashed(AWAY)
    shell.sound()
