"""Mount points elsewhere: what is wrong with them is told in a sentence, and what was begun is gone on with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from storage_client import MountError, Mounts
from storage_protocol.records import Location
from storage_service.doors import s3_files
from storage_service.doors.mount_kinds import door_of, remote_files
from storage_service.doors.remote_files import NotThere, RemoteFiles
from storage_service.doors.remote_mount import RemoteMount
from storage_service.doors.remote_trash import RemoteTrash
from storage_service.doors.s3_files import S3Files
from storage_service.mount_tables import Mount
from storage_service.rules.trash_work import LookIntoTrash, RestoreFolder, Seen
from storage_service.rules.work import ACQ_MARKER, RUN_MARKER, TRASH, Done, Failed, Fault, ReachMount, Taken
from tests.support.kinds import S3Site, SftpSite, Site
from tests.support.place import ACQ, RUN, make_acq, make_run, marker_of, write_acq
from tests.support.s3_server import S3Server, refusing_s3
from tests.support.sftp_server import SftpServer

ELSEWHERE = pytest.mark.parametrize("site", ["s3", "sftp"], indirect=True)


def told(mp: str, table: Mount, order: Any = None) -> str:
    door = door_of(mp, table, Path("/nowhere"))
    try:
        result = door.carry_out(order or ReachMount(mp))
        assert isinstance(result, Failed), result
        assert result.code == "unavailable"
        assert result.message.startswith(f"The mount point {mp} cannot be used as asked: ")
        assert "hunter2" not in str(result)
        return str(result.details["reason"])
    finally:
        door.close()


# What is wrong --------------------------------------------------------------------------------------------------


def test_a_bucket_that_does_not_exist_is_told(s3: S3Server, tmp_path: Path) -> None:
    site = S3Site(s3, tmp_path)
    assert told("s3://nowhere/x", site.table) == "the bucket nowhere does not exist"
    assert told("s3://nowhere/x", site.table, make_run()) == "the bucket nowhere does not exist"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("InvalidAccessKeyId", 403, "its credentials are not accepted (InvalidAccessKeyId)"),
        ("SignatureDoesNotMatch", 403, "its credentials are not accepted (SignatureDoesNotMatch)"),
        ("AccessDenied", 403, "access to the bucket data is forbidden (AccessDenied)"),
        ("XMinioStorageFull", 507, "it is full (XMinioStorageFull)"),
        ("SlowDown", 503, "it is too busy (SlowDown)"),
    ],
)
def test_what_s3_refuses_is_told_in_our_words(code: str, status: int, said: str, tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    (tmp_path / "secret").write_text("hunter2")
    with refusing_s3(code, status) as url:
        table = Mount(endpoint_url=url, key_file=tmp_path / "secret", secret_file=tmp_path / "secret", timeout_s=5)
        assert told("s3://data", table) == said


def test_better_credentials_are_read_when_the_old_ones_were_not_accepted(tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    (tmp_path / "secret").write_text("hunter2")
    with refusing_s3("InvalidAccessKeyId", 403) as url:
        table = Mount(endpoint_url=url, key_file=tmp_path / "secret", secret_file=tmp_path / "secret", timeout_s=5)
        door = door_of("s3://data", table, Path("/nowhere"))
        for content, said in ((None, "not accepted"), (b"\xff", "secret is not UTF-8")):
            if content is not None:
                (tmp_path / "secret").write_bytes(content)
            failed = door.carry_out(ReachMount("s3://data"))
            assert isinstance(failed, Failed)
            assert said in failed.message
        door.close()


def test_credentials_that_cannot_be_read_are_told_without_them(tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    table = Mount(endpoint_url="http://127.0.0.1:1", key_file=tmp_path / "no", secret_file=tmp_path / "no")
    assert told("s3://data", table) == f"its key_file {tmp_path / 'no'} cannot be read: No such file or directory"


def test_a_wrong_host_key_login_key_or_folder_is_told(sftp: SftpServer, tmp_path: Path) -> None:
    site = SftpSite(sftp)
    other = tmp_path / "other_hosts"
    other.write_text(sftp.line(sftp.another_key()))
    assert "the host key of 127.0.0.1 is not the one in known_hosts" in told(
        site.mp, replace(site.table, known_hosts=other)
    )
    (tmp_path / "empty").write_text("")
    assert "host key" in told(site.mp, replace(site.table, known_hosts=tmp_path / "empty"))
    assert "cannot be read: No such file" in told(site.mp, replace(site.table, known_hosts=tmp_path / "none"))
    (tmp_path / "password").write_text("hunter22")
    wrong = replace(site.table, password_file=tmp_path / "password")
    assert told(site.mp, wrong) == "127.0.0.1 does not accept the login"
    keys = replace(site.table, password_file=None, client_keys=(sftp.client_key,))
    assert door_of(site.mp, keys, tmp_path).carry_out(ReachMount(site.mp)) == Done()
    assert "cannot be used: No such file" in told(site.mp, replace(keys, client_keys=(tmp_path / "none",)))
    assert told(f"{site.mp}/none", site.table) == f"the folder /{site.root.name}/none does not exist on 127.0.0.1"


@pytest.mark.parametrize(
    ("mp", "library", "extra"), [("s3://data", "s3fs", "s3"), ("sftp://h/x", "asyncssh", "sftp")]
)
def test_an_extra_that_is_not_installed_is_told(
    mp: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert told(mp, Mount()) == f"it takes the extra {extra}, as in pip install 'storage-service[{extra}]'"
    monkeypatch.setitem(sys.modules, "sshfs", None)
    with pytest.raises(MountError, match=f"takes the extra {extra}"):
        Mounts({mp: {"known_hosts": "/x"} if extra == "sftp" else {}}).resolve(Location(mp, "a"))


def test_nothing_of_it_is_loaded_before_it_is_used() -> None:
    words = "import sys, storage_service.shell, storage_client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=60, check=True)
    assert not {"fsspec", "s3fs", "sshfs", "asyncssh", "aiohttp", "botocore"} & set(done.stdout.split())


def test_a_connection_that_was_cut_is_made_anew(sftp: SftpServer) -> None:
    site = SftpSite(sftp)
    assert site.door.carry_out(make_run()) == Done()
    sftp.cut()
    results = [site.door.carry_out(make_acq()) for _ in range(2)]  # the first may still meet what was cut
    assert results[1] == Done()
    site.door.close()


@ELSEWHERE
def test_there_is_no_path_and_no_descriptor_of_what_lies_elsewhere(site: Site) -> None:
    assert isinstance(site.door, RemoteMount)
    for ask in (lambda: site.door.open_log(("a",), "log"), lambda: site.door.local_path(("a",))):
        with pytest.raises(Fault, match="lies elsewhere"):
            ask()


# What is interrupted --------------------------------------------------------------------------------------------


class Stopped(Exception):
    """The process ended here."""


class Stopping:
    """Files that end the process before their n-th change."""

    def __init__(self, files: RemoteFiles, left: int) -> None:
        self._files, self.left = files, left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._files, name)
        if name not in ("replace", "publish", "move", "remove", "make_folder", "_copy", "_delete", "_rename"):
            return found

        def stopping(*args: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Stopped
            return found(*args)

        return stopping


def old_run(site: Site) -> None:
    site.put("beam/run_1/run.json", marker_of(RUN_MARKER, RUN, "u0"))
    site.put("beam/run_1/acq_1/acquisition.json", marker_of(ACQ_MARKER, ACQ, "a0"))
    for number in range(3):
        site.put(f"beam/run_1/acq_1/data_{number}.raw", b"old")


OLD = {"run.json", "acq_1/acquisition.json", *(f"acq_1/data_{number}.raw" for number in range(3))}
ENDED = {f"{TRASH}/u0/{path}" for path in OLD} | {"beam/run_1/run.json"}
RESTORED = {f"beam/run_1/{path}" for path in OLD} | {f"{TRASH}/u1/run.json"}


def lives(site: Site, order: Any, is_over: Callable[[int], bool]) -> int:
    """Carry out an order in lives each of which ends one change later; how many there were."""
    for life in range(100):
        door = RemoteMount(site.mp, Stopping(remote_files(site.mp, site.table), life))  # type: ignore[arg-type]
        try:
            assert door.carry_out(order) == Done()
            return life
        except Stopped:
            assert is_over(life)
        finally:
            door.close()
    raise AssertionError("it never came to its end")


@ELSEWHERE
def test_setting_aside_and_bringing_back_go_on_after_whatever_step_they_ended(site: Site) -> None:
    old_run(site)

    def nothing_is_lost(life: int) -> bool:
        names = {path.removeprefix(f"{TRASH}/u0/").removeprefix("beam/run_1/") for path in site.files()}
        return names >= OLD

    assert lives(site, make_run(set_aside="u0"), nothing_is_lost) >= 5
    assert set(site.files()) == ENDED
    order = RestoreFolder("", "u0", ("beam", "run_1"), RUN_MARKER, RUN, "u0", set_aside="u1")
    assert lives(site, order, nothing_is_lost) >= 5
    assert set(site.files()) == RESTORED
    assert site.door.carry_out(order) == Done()


def test_a_copy_that_was_interrupted_in_the_middle_is_gone_on_with_and_seen_by_nobody(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = S3Site(s3, tmp_path)
    old_run(site)
    real_copy, real_delete = S3Files._copy, S3Files._delete
    copied: list[str] = []

    def copy(self: S3Files, key: str, to: str) -> None:
        if len(copied) == 3:
            raise NotThere("the network is gone")
        copied.append(key)
        real_copy(self, key, to)

    monkeypatch.setattr(S3Files, "_copy", copy)
    assert isinstance(site.door.carry_out(make_run(set_aside="u0")), Failed)
    assert {f"beam/run_1/{path}" for path in OLD} < set(site.files())  # all of it is still there
    assert site.door.carry_out(LookIntoTrash(site.mp)) == Seen(())

    def delete(self: S3Files, keys: list[str]) -> None:
        real_delete(self, keys[:2])
        raise NotThere("the network is gone")

    monkeypatch.setattr(S3Files, "_copy", real_copy)
    monkeypatch.setattr(S3Files, "_delete", delete)
    assert isinstance(site.door.carry_out(make_run(set_aside="u0")), Failed)
    site.put("beam/run_1/acq_1/late.raw", b"written by a producer that does not know")
    monkeypatch.undo()
    assert site.door.carry_out(make_run(set_aside="u0")) == Done()
    assert set(site.files()) == {*ENDED, f"{TRASH}/u0/acq_1/late.raw"}
    site.door.close()


def test_a_large_folder_is_moved_in_several_tries_between_which_others_have_their_turn(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = S3Site(s3, tmp_path)
    old_run(site)
    names = {f"acq_1/more_{number:02}.raw" for number in range(30)}
    for name in names:
        site.put(f"beam/run_1/{name}", name.encode())
    monkeypatch.setattr(s3_files, "MOVE_S", 0.0)
    tries = 0
    while isinstance(failed := site.door.carry_out(make_run(set_aside="u0")), Failed):
        tries += 1
        assert "are still to be moved, which is gone on with" in failed.message
        assert {f"beam/run_1/{name}" for name in names} < set(site.files())
        assert site.door.carry_out(make_run(f"beam/other_{tries}", f"root/other_{tries}", "u9")) == Done()
    assert tries >= 3
    assert {f"{TRASH}/u0/{name}" for name in names} < set(site.files())
    assert not [path for path in site.files() if path.startswith("beam/run_1/acq_1")]
    site.door.close()


def test_what_is_written_anew_while_it_is_moved_is_moved_as_it_is_then(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = S3Site(s3, tmp_path)
    old_run(site)
    real, newer = S3Files._copy, list[str]()

    def copy(self: S3Files, key: str, to: str) -> None:
        real(self, key, to)
        if key.endswith("data_0.raw") and not newer:
            newer.append(key)
            site.put("beam/run_1/acq_1/data_0.raw", b"newer")

    monkeypatch.setattr(S3Files, "_copy", copy)
    assert site.door.carry_out(make_run(set_aside="u0")) == Done()
    assert set(site.files()) == ENDED
    assert site.files()[f"{TRASH}/u0/acq_1/data_0.raw"] == b"newer"
    site.door.close()


# Links ----------------------------------------------------------------------------------------------------------


def test_a_link_behind_sftp_is_never_followed(sftp: SftpServer) -> None:
    site = SftpSite(sftp)
    outside = sftp.root / "outside"
    outside.mkdir(exist_ok=True)
    (site.root / "beam").symlink_to(outside)
    for order in (make_run(), make_acq(), write_acq(), make_run(fresh=True)):
        failed = site.door.carry_out(order)
        assert isinstance(failed, Failed | Taken), order
        if isinstance(failed, Failed) and order != write_acq():
            assert (failed.code, failed.details["rule"]) == ("invalid_name", "symlink")
    (site.root / "beam").unlink()
    (site.root / "beam/run_1").mkdir(parents=True)
    (outside / "run.json").write_bytes(marker_of(RUN_MARKER, RUN, "u0"))
    (site.root / "beam/run_1/run.json").symlink_to(outside / "run.json")
    assert isinstance(site.door.carry_out(make_run()), Failed)
    assert [each.name for each in outside.iterdir()] == ["run.json"]
    site.door.close()


@ELSEWHERE
def test_entries_that_somebody_put_into_the_trash_count_from_when_the_sweep_saw_them(site: Site) -> None:
    site.put(f"{TRASH}/by-hand/run.json", marker_of(RUN_MARKER, RUN, "u0"))
    trash = site.door.trash
    assert isinstance(trash, RemoteTrash)
    assert [each.uid for _, each in trash.page(None, 10)[0]] == ["by-hand"]
    site.door.sweep(0.0, lambda entries: None).sweep(expire=False)
    with trash.open() as folder:
        assert folder is not None
        assert any(name == ".here-by-hand.json" for name in folder.names())
