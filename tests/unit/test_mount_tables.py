"""What may stand in the table of a mount point, and the sentence about what may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage_service.config import ConfigError, load
from storage_service.mount_tables import Mount, folders, mount
from storage_service.rules.state import Places

S3 = "s3://bucket/beam/2026"
SFTP = "sftp://archive.example:2222/data/beam"
LOGIN = {"known_hosts": "known_hosts", "client_keys": ["id_ed25519"]}


def loaded(tmp_path: Path, text: str) -> dict[str, Mount]:
    path = tmp_path / "given.toml"
    path.write_text(f"[mounts]\n{text}")
    return load(path, {}, {}).mounts


def test_a_bucket_is_given_by_a_table_whose_files_start_at_the_configurations_folder(tmp_path: Path) -> None:
    text = f'"{S3}" = {{ endpoint_url = "http://127.0.0.1:9000", key_file = "key", secret_file = "/etc/secret" }}'
    expected = Mount(
        endpoint_url="http://127.0.0.1:9000", key_file=tmp_path / "key", secret_file=Path("/etc/secret")
    )
    assert loaded(tmp_path, text) == {S3: expected}
    assert folders({S3: expected, "file:///": Mount(tmp_path)}) == {"file:///": tmp_path}


def test_a_server_of_sftp_is_given_by_a_table_with_whom_it_believes(tmp_path: Path) -> None:
    text = f'"{SFTP}" = {{ username = "daq", client_keys = ["a", "/b"], known_hosts = "known", timeout_s = 2 }}'
    keys = (tmp_path / "a", Path("/b"))
    assert loaded(tmp_path, text) == {
        SFTP: Mount(username="daq", client_keys=keys, known_hosts=tmp_path / "known", timeout_s=2.0)
    }


def test_amazons_own_needs_nothing(tmp_path: Path) -> None:
    assert loaded(tmp_path, '"s3://bucket" = {}') == {"s3://bucket": Mount()}


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        (S3, "/data", "it lies elsewhere, so it must be a table with some of endpoint_url, region, key_file,"),
        (SFTP, 3, "it lies elsewhere, so it must be a table with some of username, password_file,"),
        (S3, {"secret": "x"}, "'secret' is not a known key of its table; there are: endpoint_url, region"),
        (
            SFTP,
            {"password": "x"},
            "'password' is not a known key of its table; there are: username",
        ),
        (S3, {"known_hosts": "x"}, "'known_hosts' is not a known key of its table"),
        (S3, {"endpoint_url": "ftp://x"}, "its endpoint_url must be http://HOST:PORT or https://HOST:PORT"),
        (S3, {"endpoint_url": "http://me:pw@x"}, "its endpoint_url must be http://HOST:PORT"),
        (S3, {"region": ""}, "its region must be a text of 1 to 256 printable characters"),
        (S3, {"key_file": "x"}, "it must have both of key_file and secret_file, or neither"),
        (S3, {"key_file": 3}, "its key_file must be the path of a file"),
        (S3, {"timeout_s": 0}, "its timeout_s must be a number above 0 and at most 60"),
        (S3, {"timeout_s": True}, "its timeout_s must be a number above 0 and at most 60"),
        ("s3://B", {}, "its name must be s3://BUCKET or s3://BUCKET/PREFIX"),
        ("s3://bucket//x", {}, "its name must be s3://BUCKET or s3://BUCKET/PREFIX"),
        ("s3://bucket/a/../b", {}, "its name must be s3://BUCKET or s3://BUCKET/PREFIX"),
        ("S3://bucket", {}, "its name must be s3://BUCKET or s3://BUCKET/PREFIX"),
        ("sftp://host", LOGIN, "its name must be sftp://HOST/PATH or sftp://HOST:PORT/PATH"),
        ("sftp://me@host/x", LOGIN, "its name must be sftp://HOST/PATH or sftp://HOST:PORT/PATH; who logs in"),
        ("sftp://host:99999/x", LOGIN, "its name must be sftp://HOST/PATH"),
        ("sftp://host/x/..", LOGIN, "its name must be sftp://HOST/PATH"),
        (SFTP, {"client_keys": ["x"]}, "it must have known_hosts, the file of the host keys that are believed"),
        (SFTP, {"known_hosts": "x"}, "it must have one of password_file and client_keys"),
        (SFTP, {"known_hosts": "x", "client_keys": "x"}, "its client_keys must be a list of paths of files"),
        (SFTP, {"known_hosts": "x", "client_keys": []}, "its client_keys must be a list of paths of files"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_sentence(name: str, value: Any, wrong: str, tmp_path: Path) -> None:
    said = mount(name, value)
    assert said is not None
    assert wrong in said


def test_a_password_in_a_name_is_not_in_the_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, '"sftp://me:hunter2@host/data" = {}')
    assert "hunter2" not in str(raised.value)


def test_a_location_elsewhere_has_a_url_and_no_path_of_this_host() -> None:
    places = Places({S3: None, "sftp://host/": None, "file:///": "/data"})
    assert places.location(S3, "a/b").url == f"{S3}/a/b"
    assert places.location(S3, "a/b").local_path is None
    assert places.location(S3, "").url == S3
    assert places.location("sftp://host/", "a").url == "sftp://host/a"
    assert places.location("file:///", "a").local_path == "/data/a"
    assert places.location("gone://", "a").url is None
