"""The manifest of a folder: what it lists, of every kind of file, and of files that do not keep still."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from storage_service.doors import manifest_tree
from storage_service.rules.work import OPENED_AGAIN, Failed
from tests.support.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def digest(content: bytes) -> str:
    return blake3(content).hexdigest()


def test_every_file_has_size_time_and_digest(shelf: Shelf) -> None:
    contents = {"a.dat": b"", "b/c.dat": b"x" * 10, "b/d/e.dat": os.urandom(3 * (1 << 20) + 17), ".hidden": b"h"}
    paths = {name: shelf.put(name, content) for name, content in contents.items()}
    done = shelf.write()
    listed = shelf.listed()
    assert set(listed) == set(contents)
    for name, content in contents.items():
        status = paths[name].stat()
        assert listed[name] == {
            "path": name,
            "kind": "file",
            "size": len(content),
            "mtime_ns": status.st_mtime_ns,
            "blake3": digest(content),
        }
    assert done.files == len(contents) + 1  # and acquisition.json
    assert done.problems == 0


def test_the_marker_as_it_was_sealed_is_listed_and_the_services_own_later_files_are_not(shelf: Shelf) -> None:
    shelf.put("manifest-7.json", b"{}")
    shelf.put("manifest-1-conversion-3.json", b"{}")
    shelf.put(".manifest-1-conversion-2.json.new", b"")
    shelf.put(".acquisition.json.new", b"")
    shelf.put("sub/manifest-1.json", b"data of somebody")
    shelf.put("manifest-of-cargo.json", b"the same")
    shelf.write()
    document = json.loads((shelf.folder / "manifest-1.json").read_bytes())
    assert [each["path"] for each in document["files"]] == [
        "acquisition.json",
        "manifest-of-cargo.json",
        "sub/manifest-1.json",
    ]


def test_links_are_listed_and_never_followed(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"secret")
    (shelf.folder / "loop").symlink_to(".")
    (shelf.folder / "out").symlink_to(tmp_path / "outside")
    (shelf.folder / "broken").symlink_to("nowhere")
    os.symlink(b"\xff", os.fsencode(shelf.folder) + b"/odd")
    shelf.write()
    assert shelf.listed() == {
        "loop": {"path": "loop", "kind": "link", "target": "."},
        "out": {"path": "out", "kind": "link", "target": str(tmp_path / "outside")},
        "broken": {"path": "broken", "kind": "link", "target": "nowhere"},
        "odd": {"path": "odd", "kind": "link", "target_b64": base64.b64encode(b"\xff").decode()},
    }
    assert shelf.damage() == []


def test_what_is_no_file_is_listed_by_its_kind_and_holds_nothing_up(shelf: Shelf) -> None:
    os.mkfifo(shelf.folder / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(shelf.folder / "s"))
        shelf.write()
    assert {name: each["kind"] for name, each in shelf.listed().items()} == {"pipe": "fifo", "s": "socket"}
    assert shelf.damage() == []


def test_a_name_that_is_not_utf8_is_kept_exactly(shelf: Shelf) -> None:
    names = [b"\xff\xfe.dat", "Zoë \u2603\n.dat".encode(), b"d\xc3/x", b'"quoted"\\']
    for name in names:
        shelf.put(name, name)
    shelf.write()
    document = json.loads((shelf.folder / "manifest-1.json").read_bytes())
    told = [
        each["path"].encode() if "path" in each else base64.b64decode(each["path_b64"])
        for each in document["files"]
    ]
    assert sorted(told) == told == sorted([*names, b"acquisition.json"])
    assert shelf.damage() == []
    assert shelf.notes() == []


def test_files_stand_in_the_order_of_their_paths_bytes(shelf: Shelf) -> None:
    names = ["a/b", "a/b/c" + "x", "a-b", "a.b", "a0", "a/é", "A", "b"]
    names.remove("a/b/cx")
    for name in names:
        shelf.put(name)
    shelf.write()
    assert [name.encode() for name in shelf.listed()] == sorted(name.encode() for name in names)


def test_a_sparse_file_is_read_as_what_it_says(shelf: Shelf) -> None:
    with (shelf.folder / "sparse").open("wb") as file:
        file.truncate(9 << 20)
    shelf.write()
    assert shelf.listed()["sparse"]["blake3"] == digest(bytes(9 << 20))


def test_sizes_alone_read_nothing(shelf: Shelf) -> None:
    path = shelf.put("a.dat")
    path.chmod(0)
    done = shelf.write(kind="sizes")
    entry = {"path": "a.dat", "kind": "file", "size": 4, "mtime_ns": path.stat().st_mtime_ns}
    assert shelf.listed() == {"a.dat": entry}
    assert (done.files, done.problems) == (2, 0)


def changing(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object], most: int = 1_000_000) -> None:
    """From now on each of the first reads of a.dat is followed by a change, before anybody looks at it again.

    So the moment is certain: a writer beside it would hit it now and then.
    """
    real, reads = manifest_tree.digest_of, 0

    def read(fd: int, told: Callable[[int], None]) -> tuple[str, int]:
        nonlocal reads
        result = real(fd, told)
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/a.dat") and reads < most:
            reads += 1
            change()
        return result

    monkeypatch.setattr(manifest_tree, "digest_of", read)


def test_a_file_that_changes_while_it_is_read_is_read_again(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shelf.put("a.dat", b"first")
    changing(monkeypatch, lambda: path.write_bytes(b"other"), most=2)
    done = shelf.write()
    assert shelf.listed()["a.dat"]["blake3"] == digest(b"other")
    assert done.problems == 0


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shelf.put("a.dat", b"first")
    changing(monkeypatch, lambda: shelf.put("a.dat.new", b"other").rename(path), most=1)
    shelf.write()
    assert shelf.listed()["a.dat"]["blake3"] == digest(b"other")


def test_a_file_that_goes_while_it_is_read_is_not_listed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shelf.put("a.dat", b"first")
    changing(monkeypatch, path.unlink)
    assert shelf.write().problems == 0
    assert shelf.listed() == {}


def test_a_file_that_never_keeps_still_has_no_digest_and_is_told(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shelf.put("a.dat", b"")
    changing(monkeypatch, lambda: path.write_bytes(path.read_bytes() + b"x"))
    done = shelf.write()
    entry = shelf.listed()["a.dat"]
    assert "blake3" not in entry
    assert entry["problem"] == "it changed while it was read"
    assert (done.problems, done.example) == (1, "a.dat (it changed while it was read)")
    assert shelf.damage() == []
    assert shelf.notes() == [("undigested", "a.dat")]


def test_files_that_come_and_go_meanwhile_do_no_harm(shelf: Shelf) -> None:
    for number in range(200):
        shelf.put(f"d{number % 7}/stays-{number}")
    ended = threading.Event()

    def churn() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            path = shelf.put(f"d{number % 7}/t{number}/goes")
            path.unlink()
            path.parent.rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(5):
            shelf.write()
            stays = [name for name in shelf.listed() if "stays" in name]
            assert len(stays) == 200
    finally:
        ended.set()
        thread.join()


def test_what_cannot_be_read_is_listed_with_the_reason(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.put("bad.dat")
    shelf.put("good.dat")
    real = manifest_tree.digest_of

    def broken(fd: int, read: object) -> tuple[str, int]:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("bad.dat"):
            raise OSError(5, "Input/output error")
        return real(fd, lambda count: None)

    monkeypatch.setattr(manifest_tree, "digest_of", broken)
    done = shelf.write()
    assert shelf.listed()["bad.dat"]["problem"] == "not readable: Input/output error"
    assert "blake3" in shelf.listed()["good.dat"]
    assert (done.problems, done.example) == (1, "bad.dat (not readable: Input/output error)")


def test_what_was_touched_after_the_sealing_can_be_left_to_the_conversion(shelf: Shelf) -> None:
    shelf.put("raw.dat")
    os.utime(shelf.folder / "raw.dat", ns=(1, 1))
    shelf.seal()
    past = shelf.put("copied.dat")
    os.utime(past, ns=(1, 1))  # as `cp -p` leaves it
    shelf.write(later=False)
    assert list(shelf.listed()) == ["raw.dat"]
    shelf.converted()
    assert list(shelf.listed("manifest-1-conversion-1.json")) == ["copied.dat"]
    assert shelf.damage() == []
    assert shelf.notes() == []


def test_after_a_conversion_what_is_new_changed_or_gone_is_listed(shelf: Shelf) -> None:
    for name in ("same", "changed", "gone"):
        shelf.put(name)
    shelf.write()
    shelf.put("changed", b"other")
    shelf.put("new")
    (shelf.folder / "gone").unlink()
    shelf.converted()
    listed = shelf.listed("manifest-1-conversion-1.json")
    assert {name: each["kind"] for name, each in listed.items()} == {
        "changed": "file",
        "new": "file",
        "gone": "gone",
    }
    shelf.put("new", b"once more")
    shelf.put("gone", b"back")
    shelf.converted(2, ("manifest-1.json", "manifest-1-conversion-1.json"))
    assert set(shelf.listed("manifest-1-conversion-2.json")) == {"new", "gone"}
    assert shelf.damage() == []
    assert set(shelf.notes()) == {("replaced", "changed"), ("replaced", "new")}


def test_a_second_try_replaces_the_first(shelf: Shelf) -> None:
    shelf.put("a.dat")
    shelf.write()
    shelf.put(".manifest-1.json.new", b"half of a try that was killed")
    shelf.put("b.dat")
    shelf.write()
    assert set(shelf.listed()) == {"a.dat", "b.dat"}


@pytest.mark.parametrize(("segment", "state"), [(2, "open"), (1, "open"), (2, "finished")])
def test_nothing_is_listed_of_what_is_not_as_it_was_sealed(shelf: Shelf, segment: int, state: str) -> None:
    shelf.put("a.dat")
    shelf.seal(segment, state)
    failed = shelf.tried(shelf.order())
    assert isinstance(failed, Failed)
    assert (failed.code, failed.details) == ("unavailable", {"reason": OPENED_AGAIN})
    assert not (shelf.folder / "manifest-1.json").exists()


def test_the_manifest_of_another_life_is_kept_under_another_name(shelf: Shelf) -> None:
    shelf.put("a.dat")
    shelf.write()
    first = (shelf.folder / "manifest-1.json").read_bytes()
    shelf.uid = "u2"
    shelf.seal()
    shelf.write()
    assert (shelf.folder / "manifest-1-of-u1.json").read_bytes() == first
    assert "manifest-1-of-u1.json" in shelf.listed()
    shelf.put("manifest-2.json", b"something else")
    shelf.seal(2)
    shelf.write(name="manifest-2.json", segment=2)
    assert (shelf.folder / "manifest-2-of-unknown.json").read_bytes() == b"something else"


def test_a_folder_of_somebody_else_is_left_alone(shelf: Shelf) -> None:
    before = sorted(shelf.folder.iterdir())
    for order in (shelf.order(uid="u2"), shelf.order(acq_id="root/g/r/b")):
        refused = shelf.tried(order)
        assert isinstance(refused, Failed)
        assert refused.code == "already_exists"
    assert sorted(shelf.folder.iterdir()) == before


def test_a_folder_that_is_gone_or_behind_a_link_is_unavailable(shelf: Shelf, tmp_path: Path) -> None:
    shelf.folder.rename(tmp_path / "elsewhere")
    for _ in range(2):
        refused = shelf.tried(shelf.order())
        assert isinstance(refused, Failed)
        assert refused.code == "unavailable"
        shelf.folder.unlink(missing_ok=True)
        shelf.folder.symlink_to(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere/manifest-1.json").exists()


def test_nothing_is_published_when_the_acquisition_is_opened_again_meanwhile(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.put("a.dat")
    real = manifest_tree.digest_of

    def reopened(fd: int, read: object) -> tuple[str, int]:
        shelf.seal(segment=2, state="open")
        return real(fd, lambda count: None)

    monkeypatch.setattr(manifest_tree, "digest_of", reopened)
    refused = shelf.tried(shelf.order())
    assert isinstance(refused, Failed)
    assert refused.details["reason"] == "opened again"
    assert not list(shelf.folder.glob("*manifest*"))


MANY = """
import resource, sys
from pathlib import Path
from storage_service.doors.manifest_worker import carry_out
from tests.support.shelf import Shelf
shelf = Shelf(Path(sys.argv[1]))
shelf.tried(shelf.order())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(20_000):
    shelf.put(f"d{number % 40}/e{number % 3}/a-rather-long-name-of-a-file-of-data-{number}.dat", b"%d" % number)
done = shelf.tried(shelf.order())
assert (done.files, done.problems) == (20_001, 0), done
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_twenty_thousand_files_take_no_memory_to_speak_of(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    words = [sys.executable, "-c", MANY, str(tmp_path)]
    told = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) < 4_000  # KiB: the manifest itself has 4 MB
