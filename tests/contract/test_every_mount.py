"""What every kind of mount point promises: a folder of this host, S3, SFTP."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from storage_protocol.records import DiskUse
from storage_service.rules.rebuild_work import FindMarkers, Found
from storage_service.rules.trash_work import GiveUp, LookIntoTrash, RestoreFolder, Seen
from storage_service.rules.work import (
    ACQ_LOG,
    ACQ_MARKER,
    RUN_MARKER,
    TRASH,
    Done,
    Failed,
    Kept,
    Order,
    ReachMount,
    Synced,
    Taken,
)
from tests.support.kinds import Site
from tests.support.marked import lay_many
from tests.support.place import ACQ, RUN, keep, make_acq, make_run, marker_of, sync_acq, write_acq


def refused(result: object, code: str, **details: object) -> Failed:
    assert isinstance(result, Failed), result
    assert result.code == code, result
    assert result.message.endswith(".")
    assert {name: result.details.get(name) for name in details} == details, result
    return result


def done(site: Site, order: Order) -> None:
    assert site.door.carry_out(order) == Done()


# What is made ---------------------------------------------------------------------------------------------------


def test_a_run_and_an_acquisition_get_their_markers_and_a_repeat_changes_nothing(site: Site) -> None:
    done(site, ReachMount(site.mp))
    for _ in range(2):
        done(site, make_run())
        done(site, make_acq("beam/run_1/deep/er/acq_1"))
        assert site.files() == {
            "beam/run_1/run.json": make_run().marker,
            "beam/run_1/deep/er/acq_1/acquisition.json": make_acq().marker,
        }


def test_what_has_no_marker_is_adopted_with_its_files(site: Site) -> None:
    site.put("beam/run_1/data.raw", b"precious")
    site.put("beam/run_1/run.json", b"")
    done(site, make_run())
    assert site.files() == {"beam/run_1/data.raw": b"precious", "beam/run_1/run.json": make_run().marker}


def test_the_same_id_with_an_unknown_uid_is_adopted_and_rewritten(site: Site) -> None:
    site.put("beam/run_1/run.json", marker_of(RUN_MARKER, RUN, "of another database"))
    done(site, make_run())
    assert site.files() == {"beam/run_1/run.json": make_run().marker}


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("more", [{}, {"set_aside": "old"}])
def test_what_belongs_to_another_is_refused_on_the_way_and_at_its_end(
    site: Site, depth: int, more: dict[str, Any]
) -> None:
    owned = "/".join((*("beam", "run_1", "acq_1")[:depth], ACQ_MARKER))
    site.put(owned, marker_of(ACQ_MARKER, "root/other", "x1"))
    before = site.files()
    failed = refused(site.door.carry_out(make_acq(**more)), "already_exists", what="folder", id="root/other")
    assert "root/other" in failed.message
    assert site.files() == before


@pytest.mark.parametrize("content", [b"not json", b"[1]", b'{"uid": "u1"}', b"[" * 100_000])
def test_a_marker_that_nobody_understands_keeps_its_folder(site: Site, content: bytes) -> None:
    site.put("beam/run_1/run.json", content)
    for order in (make_run(), make_run(set_aside="old"), make_acq()):
        refused(site.door.carry_out(order), "already_exists", what="folder", id=None)
    assert site.files() == {"beam/run_1/run.json": content}


def test_a_file_in_the_way_is_refused(site: Site) -> None:
    site.put("beam", b"a file")
    refused(site.door.carry_out(make_run()), "already_exists", what="file", id="beam")
    assert site.files() == {"beam": b"a file"}


def test_a_numbered_run_is_made_once_and_never_in_what_is_there(site: Site) -> None:
    done(site, make_run(fresh=True))
    done(site, make_run(fresh=True))
    assert site.door.carry_out(make_run(uid="u2", fresh=True)) == Taken()
    site.put("beam/run_2/data.raw", b"x")
    assert site.door.carry_out(make_run("beam/run_2", "root/beam/run_2", "u3", fresh=True)) == Taken()
    assert site.files() == {"beam/run_1/run.json": make_run().marker, "beam/run_2/data.raw": b"x"}


def test_a_name_that_leads_elsewhere_is_refused_at_the_last_gate(site: Site) -> None:
    for path in ("../x", "beam/.hidden", "beam//x"):
        refused(site.door.carry_out(make_run(path)), "invalid_name", rule="segment")
    assert site.files() == {}


# Sealing --------------------------------------------------------------------------------------------------------


def test_what_is_beside_the_data_is_written_and_counted(site: Site) -> None:
    done(site, make_acq())
    site.put("beam/run_1/acq_1/deep/data.raw", b"x" * 1000)
    assert site.door.carry_out(keep("config.xml", b"<a/>")) == Kept("config.xml")
    assert site.door.carry_out(keep("config.xml", b"<a/>")) == Kept("config.xml")
    assert site.door.carry_out(keep("config.xml", b"<b/>")) == Kept("config-2.xml")
    size = len(make_acq().marker) + 1000 + 8
    synced = site.door.carry_out(sync_acq())
    assert isinstance(synced, Synced)
    assert synced.disk.files == 4
    assert synced == Synced(DiskUse(4, size, synced.disk.allocated))
    for _ in range(2):
        done(site, write_acq(log="segment 1\nfinished\n", head="segment 1"))
    assert site.files() == {
        "beam/run_1/acq_1/deep/data.raw": b"x" * 1000,
        "beam/run_1/acq_1/config.xml": b"<a/>",
        "beam/run_1/acq_1/config-2.xml": b"<b/>",
        f"beam/run_1/acq_1/{ACQ_LOG}": b"segment 1\nfinished\n",
        f"beam/run_1/acq_1/{ACQ_MARKER}": write_acq().marker,
    }


@pytest.mark.parametrize("order", [write_acq(), sync_acq(), keep("config.xml", b"x")])
def test_a_folder_of_another_or_that_is_gone_is_left_as_it_is(site: Site, order: Order) -> None:
    assert refused(site.door.carry_out(order), "unavailable").details["reason"].endswith("is gone")
    assert site.files() == {}
    site.put("beam/run_1/acq_1/acquisition.json", marker_of(ACQ_MARKER, ACQ, "a2"))
    before = site.files()
    refused(site.door.carry_out(order), "already_exists", what="folder", id=ACQ)
    assert site.files() == before


# The trash ------------------------------------------------------------------------------------------------------


def old_run(site: Site) -> None:
    site.put("beam/run_1/run.json", marker_of(RUN_MARKER, RUN, "u0", location={"path": "beam/run_1"}))
    site.put("beam/run_1/acq_1/acquisition.json", marker_of(ACQ_MARKER, ACQ, "a0"))
    site.put("beam/run_1/acq_1/data.raw", b"old")


def below(site: Site, folder: str) -> set[str]:
    return {path.removeprefix(f"{folder}/") for path in site.files() if path.startswith(f"{folder}/")}


WHOLE = {"run.json", "acq_1/acquisition.json", "acq_1/data.raw"}


def test_what_stood_there_is_set_aside_whole_and_a_repeat_leaves_the_new_alone(site: Site) -> None:
    old_run(site)
    for _ in range(2):
        done(site, make_run(set_aside="u0"))
        assert below(site, f"{TRASH}/u0") == WHOLE
        assert below(site, "beam/run_1") == {"run.json"}
    assert site.files()["beam/run_1/run.json"] == make_run().marker
    assert site.files()[f"{TRASH}/u0/acq_1/data.raw"] == b"old"


def test_what_is_in_the_trash_is_never_merged(site: Site) -> None:
    old_run(site)
    done(site, make_run(set_aside="u0"))
    done(site, make_run(uid="u2", set_aside="u0"))
    assert below(site, f"{TRASH}/u0") == WHOLE
    assert below(site, f"{TRASH}/u0.1") == {"run.json"}


def test_an_entry_is_seen_with_what_its_markers_say(site: Site) -> None:
    old_run(site)
    done(site, make_run(set_aside="u0"))
    seen = site.door.carry_out(LookIntoTrash(site.mp, "u0", contents=True))
    assert isinstance(seen, Seen)
    (entry,) = seen.entries
    assert (entry.mp, entry.uid, entry.id, entry.kind, entry.path) == (site.mp, "u0", RUN, "run", "beam/run_1")
    assert seen.markers == (marker_of(ACQ_MARKER, ACQ, "a0"),)
    page, more = site.door.trash.page(None, 10)
    assert ([each.uid for _, each in page], more) == (["u0"], False)
    assert site.door.carry_out(LookIntoTrash(site.mp, older_than_s=3600.0)) == Seen(())


def restore(**more: Any) -> RestoreFolder:
    return RestoreFolder("", "u0", ("beam", "run_1"), RUN_MARKER, RUN, "u0", **more)


def test_an_entry_goes_back_to_its_place_and_what_stands_there_is_set_aside_if_that_is_wanted(site: Site) -> None:
    old_run(site)
    done(site, make_run(set_aside="u0"))
    refused(site.door.carry_out(restore()), "already_exists", what="folder")
    for _ in range(2):
        done(site, restore(set_aside="u1"))
        assert below(site, "beam/run_1") == WHOLE
        assert below(site, f"{TRASH}/u1") == {"run.json"}
        assert below(site, f"{TRASH}/u0") == set()
    refused(
        site.door.carry_out(RestoreFolder("", "u9", ("beam", "run_9"), RUN_MARKER, RUN, "u9")),
        "not_found",
        what="trash",
    )


def test_what_is_given_up_is_seen_by_nobody_and_swept_away(site: Site) -> None:
    old_run(site)
    done(site, make_run(set_aside="u0"))
    sweep = site.door.sweep(0.0, lambda entries: None)
    sweep.sweep(expire=False)
    assert (site.door.trash.measured.entries, site.door.trash.measured.bytes) == (
        1,
        sum(len(content) for path, content in site.files().items() if path.startswith(TRASH)),
    )
    for _ in range(2):
        done(site, GiveUp(site.mp, ("u0",)))
        assert site.door.carry_out(LookIntoTrash(site.mp)) == Seen(())
        refused(site.door.carry_out(restore()), "not_found")
    sweep.sweep(expire=False)
    assert set(site.files()) == {"beam/run_1/run.json"}
    assert site.door.trash.measured.entries == 0


def test_what_is_older_than_it_is_kept_is_told_by_the_sweep(site: Site) -> None:
    old_run(site)
    done(site, make_run(set_aside="u0"))
    told: list[str] = []
    sweep = site.door.sweep(0.000001, lambda entries: told.extend(each.uid for each in entries))
    sweep.sweep(expire=True)
    assert told == []  # the clock is believed only after a day without a jump
    site.put(f"{TRASH}/.sweep.json", b'{"wall": %d, "held_until": 0}' % time.time())
    site.door.sweep(0.000001, lambda entries: told.extend(each.uid for each in entries)).sweep(expire=True)
    assert told == ["u0"]


# A rebuild ------------------------------------------------------------------------------------------------------


def test_all_markers_are_found_page_by_page(site: Site, tmp_path: Path) -> None:
    made = lay_many(tmp_path / "laid", 2, 3)
    for file in (tmp_path / "laid").rglob("*.json"):
        site.put(str(file.relative_to(tmp_path / "laid")), file.read_bytes())
    site.put("other/file.raw", b"x")
    site.put(f"{TRASH}/u0/run.json", marker_of(RUN_MARKER, RUN, "u0"))
    found, after, pages = list[str](), None, 0
    while pages == 0 or after is not None:
        page = site.door.carry_out(FindMarkers(site.mp, after=after, most=2))
        assert isinstance(page, Found)
        assert page.skipped == ()
        found += sorted(each.path for each in (*page.runs, *page.acqs))
        pages, after = pages + 1, page.after
    assert sorted(found) == sorted(node.path for node in made)
    assert pages >= 4
    refused(site.door.carry_out(FindMarkers(site.mp, ("none",))), "not_found", what="folder", id="none")


# What goes wrong ------------------------------------------------------------------------------------------------

SAID = {"unreachable": "cannot be reached", "forbidden": "forbidden", "full": "full", "hanging": "does not answer"}


@pytest.mark.parametrize("how", SAID)
@pytest.mark.parametrize("site", ["s3", "sftp"], indirect=True)
def test_a_mount_point_that_fails_says_how_and_is_as_it_was(site: Site, how: str) -> None:
    old_run(site)
    before = site.files()
    with site.broken(how) as door:
        failed = refused(door.carry_out(make_run(set_aside="u0")), "unavailable")
    assert SAID[how] in failed.message, failed
    assert "hunter2" not in failed.message
    assert site.files() == before
    done(site, make_run(set_aside="u0"))
    assert below(site, f"{TRASH}/u0") == WHOLE
