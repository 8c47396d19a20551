"""Tables of logbook servers in the configuration: what they may hold, and what is said of what they may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storage_service.config import ConfigError, load
from storage_service.config_logbooks import LogbookServer


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(text: str) -> LogbookServer:
    path = Path("given.toml")
    path.write_text(f"[logbooks.main]\n{text}\n")
    return load(path, {}, {}).logbooks["main"]


def test_a_server_needs_no_more_than_its_address() -> None:
    given = loaded('url = "https://elog.example/base"')
    assert given == LogbookServer("https://elog.example/base")
    assert (given.key_attribute, given.title_attribute, given.timeout_s) == ("Key", "Subject", 20.0)


def test_its_files_start_at_the_folder_of_the_configuration() -> None:
    given = loaded('url = "http://a:1"\nuser = "daq"\npassword_file = "secret"\nca_file = "/etc/ca.pem"')
    assert (given.password_file, given.ca_file) == (Path.cwd() / "secret", Path("/etc/ca.pem"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "its url must be http://HOST:PORT or https://HOST:PORT"),
        ('url = "elog:8080"', "its url must be"),
        ('url = "http://a:99999"', "its url must be"),
        ('url = "http://a/?x=1"', "its url must be"),
        ('url = "http://daq:hunter2@a"', "its url must hold no login; give user and password_file"),
        ('url = "http://a"\npassword = "hunter2"', "'password' is not a known key of it"),
        ('url = "http://a"\nuser = "daq"', "its user and its password_file go together"),
        ('url = "http://a"\npassword_file = "p"', "its user and its password_file go together"),
        ('url = "http://a"\nuser = "a;b"\npassword_file = "p"', "its user must be of printable ASCII"),
        ('url = "http://a"\nuser = "a"\npassword_file = ""', "must be paths of files"),
        ('url = "http://a"\ntimeout_s = 0', "its timeout_s must be above 0"),
        ('url = "http://a"\ntimeout_s = true', "its timeout_s is of the wrong type"),
        ('url = "http://a"\ncharset = "utf-99"', "its charset is not known"),
        ('url = "http://a"\nattributes = { Author = 1 }', "its attributes must be texts"),
        ('url = "http://a"\nattributes = { key = "x" }', "its attributes, title_attribute and key_attribute"),
        ('url = "http://a"\nattributes = { "edit id" = "x" }', "and no field of elogd's form"),
        ('url = "http://a"\nkey_attribute = "a:b"', "must be printable, without :"),
    ],
)
def test_what_is_wrong_is_said_and_what_is_secret_is_not(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    assert "logbooks.main" in str(caught.value)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_from_the_environment_nothing_of_it_is_shown() -> None:
    given = json.dumps({"main": {"url": "http://daq:hunter2@a"}})
    with pytest.raises(ConfigError) as caught:
        load(None, {"STORAGE_SERVICE__LOGBOOKS": given}, {})
    assert "hunter2" not in str(caught.value)


def test_which_entries_a_storage_gets_is_said_by_its_pattern() -> None:
    path = Path("given.toml")
    path.write_text('[storages]\n"test*" = { entries = "off" }\n"cosmics" = { entries = "problems" }\n')
    config = load(path, {}, {})
    assert [config.files_of(id).entries for id in ("test1", "cosmics", "daq")] == ["off", "problems", "run"]
    path.write_text('[storages]\nx = { entries = "all" }\n')
    with pytest.raises(ConfigError, match="its entries must be one of run, acquisition, problems, off"):
        load(path, {}, {})
