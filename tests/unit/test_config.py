"""The configuration: what is read from where, and the one sentence about what is wrong."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from storage_protocol.limits import Limits
from storage_service.config import KEYS, Config, ConfigError, load
from storage_service.mount_tables import Mount


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def from_text(text: str) -> Config:
    path = Path("given.toml")
    path.write_text(text)
    return load(path, {}, {})


def sentence(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        from_text(text)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_without_anything_given_the_defaults_start_at_the_working_directory(folder: Path) -> None:
    config = load(None, {"PATH": "/bin"}, {})
    assert config.state_dir == folder / "var"
    assert config.database_path == folder / "var" / "storage.db"
    assert config.mounts == {"file:///": Mount(folder / "data")}
    assert config.conversion.scripts_dir == folder / "conversions"
    assert (config.endpoints.commands, config.endpoints.events) == ("tcp://127.0.0.1:5570", "tcp://127.0.0.1:5571")
    assert config.conversion.retry_backoff_s == 2.0
    assert config.limits == Limits()
    assert config.warnings == ()


def test_reading_creates_nothing(folder: Path) -> None:
    load(None, {}, {})
    assert list(folder.iterdir()) == []


def test_the_file_of_the_working_directory_is_found(folder: Path) -> None:
    (folder / "storage.toml").write_text("conversion.max_parallel = 7")
    assert load(None, {}, {}).conversion.max_parallel == 7


def test_a_link_to_nowhere_in_place_of_the_file_is_not_taken_for_no_file(folder: Path) -> None:
    (folder / "storage.toml").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"storage\.toml: the configuration cannot be read: No such file"):
        load(None, {}, {})


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default() -> None:
    path = Path("given.toml")
    path.write_text("[conversion]\nmax_parallel = 3\nmax_attempts = 3\nmax_interruptions = 3")
    environ = {"STORAGE_SERVICE__CONVERSION__MAX_PARALLEL": "4", "STORAGE_SERVICE__CONVERSION__MAX_ATTEMPTS": "4"}
    conversion = load(path, environ, {"conversion.max_parallel": "5"}).conversion
    assert (conversion.max_parallel, conversion.max_attempts, conversion.max_interruptions) == (5, 4, 3)
    assert conversion.grace_s == 5


def test_relative_paths_start_at_the_file_wherever_they_are_given(folder: Path) -> None:
    path = folder / "etc" / "storage.toml"
    path.parent.mkdir()
    path.write_text('state_dir = "state"\nmounts = {"a://" = "x", "b://" = "/y"}\nendpoints.commands = "ipc://c"')
    environ = {
        "STORAGE_SERVICE__CONVERSION__SCRIPTS_DIR": "../scripts",
        "STORAGE_SERVICE__ENDPOINTS__EVENTS": "ipc:///e",
    }
    config = load(Path("etc/storage.toml"), environ, {})
    assert config.state_dir == folder / "etc" / "state"
    assert config.mounts == {"a://": Mount(folder / "etc" / "x"), "b://": Mount(Path("/y"))}
    assert config.conversion.scripts_dir == folder / "etc" / ".." / "scripts"
    assert config.endpoints.commands == f"ipc://{folder}/etc/c"
    assert config.endpoints.events == "ipc:///e"


def test_every_key_can_be_set_in_the_environment() -> None:
    given = {
        "state_dir": "/state",
        "database": "sqlite:///other.db",
        "endpoints.commands": "ipc://@commands",
        "endpoints.events": "tcp://*:6001",
        "endpoints.insecure": "true",
        "mounts": '{"nfs://server/export": {"path": "/mnt", "mounted": "nfs"}}',
        "conversion.scripts_dir": "/scripts",
        "conversion.remote": "scratch",
        "conversion.scratch_dir": "/scratch",
        "conversion.max_parallel": "3",
        "conversion.timeout_s": "0.5",
        "conversion.max_attempts": "4",
        "conversion.retry_backoff_s": "0",
        "conversion.max_interruptions": "5",
        "conversion.grace_s": "1.5",
        "conversion.log_bytes": "4096",
        "conversion.env": '{"A": "1"}',
        "conversion.pid_namespace": "true",
        "journal.keep_days": "30",
        "journal.keys_keep_days": "1",
        "trash.keep_days": "7",
        "space.min_free_bytes": "1",
        "space.low_free_bytes": "2",
        "space.min_free_bytes_of": '{"nfs://server/export": 3}',
        "space.low_free_bytes_of": '{"nfs://server/export": 4}',
        "space.look_s": "0.5",
        "manifest.processes": "2",
        "sources.timeout_s": "2.5",
        "sources.settle_s": "0",
        "sources.varmod": "daq1:9001",
        "sources.varmod_dialect": "2",
        "sources.varmod_id": "7",
        "sources.varmod_ns": "spiroc",
        "storages": (
            '{"a*": {"manifest": "off", "entries": "problems",'
            ' "config": {"file": "/etc/daq.xml", "name": "daq.xml"}}}'
        ),
        "logbooks": '{"main": {"url": "http://elog.example:8080"}}',
        "limits.frame_bytes": "1024",
        "limits.message_bytes": "2048",
        "limits.frames_per_message": "1",
        "limits.depth": "5",
        "limits.value_bytes": "256",
        "limits.params": "64",
        "limits.params_bytes": "256",
    }
    assert set(given) == set(KEYS)
    environ = {f"STORAGE_SERVICE__{key.upper().replace('.', '__')}": text for key, text in given.items()}
    config = load(None, environ, {})
    assert config == load(None, {}, given)
    assert config.limits == Limits(1024, 2048, 1, 5, 256, 64, 256, key_days=1)
    plain = msgspec.to_builtins(config, enc_hook=str)
    for key, text in given.items():
        value = plain
        for name in key.split("."):
            value = value[name]
        expected = text if isinstance(value, str) else json.loads(text)
        if key == "logbooks":  # the rest of a server has defaults
            value = {name: {each: server[each] for each in expected[name]} for name, server in value.items()}
        assert value == expected, key


def test_a_table_with_free_keys_is_taken_whole_from_the_first_that_names_it() -> None:
    path = Path("given.toml")
    path.write_text('[mounts]\n"a://" = "/a"\n[conversion.env]\nA = "1"')
    assert load(path, {}, {}).mounts == {"a://": Mount(Path("/a"))}
    environ = {"STORAGE_SERVICE__MOUNTS": '{"b://": "/b"}', "STORAGE_SERVICE__CONVERSION__ENV": "{}"}
    config = load(path, environ, {})
    assert config.mounts == {"b://": Mount(Path("/b"))}
    assert config.conversion.env == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("conversion.max_parallel = 'x'", "conversion.max_parallel is 'x'; it must be an int of at least 1."),
        ("conversion.max_parallel = '2'", "conversion.max_parallel is '2'; it must be an int of at least 1."),
        ("conversion.max_parallel = 0", "conversion.max_parallel is 0; it must be an int of at least 1."),
        ("conversion.max_parallel = 1.5", "conversion.max_parallel is 1.5; it must be an int of at least 1."),
        ("conversion.max_attempts = 0", "conversion.max_attempts is 0; it must be an int of at least 1."),
        (
            "conversion.max_interruptions = 0",
            "conversion.max_interruptions is 0; it must be an int of at least 1.",
        ),
        (
            "conversion.timeout_s = 0",
            "conversion.timeout_s is 0; it must be a number above 0 and at most 31622400.",
        ),
        ("conversion.timeout_s = inf", "conversion.timeout_s is inf; it must be a number above 0"),
        ("conversion.timeout_s = nan", "conversion.timeout_s is nan; it must be a number above 0"),
        ("conversion.grace_s = -1", "conversion.grace_s is -1; it must be a number of at least 0"),
        (
            "conversion.retry_backoff_s = 301",
            "conversion.retry_backoff_s is 301; it must be a number of at least 0",
        ),
        ("conversion.log_bytes = 4095", "conversion.log_bytes is 4095; it must be an int of at least 4096."),
        ("endpoints.insecure = 1", "endpoints.insecure is 1; it must be true or false."),
        ("endpoints = 3", "endpoints is 3; it must be a table."),
        ("mounts = 3", "mounts is 3; it must be a table."),
        ("mounts = {'file:///' = ''}", "mounts.\"file:///\" is ''; it must be the path of a folder, or a"),
        ("mounts = {'file:///' = 3}", 'mounts."file:///" is 3; it must be the path of a folder, or a'),
        ("mounts = {'' = '/x'}", "mounts.\"\" is '/x'; of the name of a mount point, it must be 1 to 1024"),
        ("state_dir = 2020-01-01", "state_dir is datetime.date(2020, 1, 1); it must be the path of a folder."),
        ("state_dir = ''", "state_dir is ''; it must be the path of a folder."),
        ('state_dir = "a\\u0000"', "state_dir is 'a\\x00'; it must be the path of a folder."),
        ("conversion.scripts_dir = ''", "conversion.scripts_dir is ''; it must be the path of a folder."),
        ("conversion.remote = 'copy'", "conversion.remote is 'copy'; it must be refuse or scratch."),
        ("journal.keys_keep_days = 0", "journal.keys_keep_days is 0; it must be an int of at least 1"),
        (
            "limits.frame_bytes = 1023",
            "limits.frame_bytes is 1023; it must be an int of at least 1024 and at most 83",
        ),
        ("limits.frame_bytes = 8388609", "limits.frame_bytes is 8388609; it must be an int of at least 1024"),
        (
            "limits.frames_per_message = 1025",
            "limits.frames_per_message is 1025; it must be an int of at least 1 and",
        ),
        (
            "limits.message_bytes = 2000",
            "limits.frame_bytes is 1048576; it must be at most limits.message_bytes, 2000.",
        ),
    ],
)
def test_a_wrong_value_is_told_by_key_value_and_what_would_be_right(text: str, expected: str) -> None:
    assert expected in sentence(text)


def test_a_sentence_begins_with_where_the_value_was_given() -> None:
    assert sentence("conversion.max_parallel = 0").startswith("given.toml: conversion.max_parallel is 0;")
    name = "STORAGE_SERVICE__CONVERSION__MAX_PARALLEL"
    with pytest.raises(ConfigError, match=rf"^{name}: conversion\.max_parallel is 'x'; it must be an int"):
        load(None, {name: "x"}, {})
    with pytest.raises(ConfigError, match=r"^command line: conversion\.max_parallel is 'x'; it must be an int"):
        load(None, {}, {"conversion.max_parallel": "x"})


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("conversion.max_paralel = 2", "conversion.max_paralel", "conversion.max_parallel"),
        ("max_parallel = 2", "max_parallel", "conversion.max_parallel"),
        ("[endpoint]\ncommands = 'ipc://c'", "endpoint", "endpoints"),
        ("'conversion.max_parallel' = 2", '"conversion.max_parallel"', "conversion.max_parallel"),
        ("warnings = []", "warnings", None),
        ("limits.key_days = 9", "limits.key_days", None),
    ],
)
def test_an_unknown_key_names_the_nearest(text: str, unknown: str, nearest: str | None) -> None:
    message = sentence(text)
    assert f"given.toml: {unknown} is not a known key; the nearest is " in message
    assert nearest is None or message.endswith(f" {nearest}.")


def test_an_unknown_variable_or_override_names_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"__COMANDS is not a known variable; .* STORAGE_SERVICE__ENDPOINTS__COMMANDS"
    ):
        load(None, {"STORAGE_SERVICE__ENDPOINTS__COMANDS": "ipc://c"}, {})
    with pytest.raises(ConfigError, match=r"endpoints\.comands is not a known key; .* endpoints\.commands"):
        load(None, {}, {"endpoints.comands": "ipc://c"})


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"a": "\\ud800"}', "[" * 100_000])
def test_a_table_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r'mounts is not usable; it must be one JSON object like {"file:///": "/data"}'
    ):
        load(None, {"STORAGE_SERVICE__MOUNTS": text}, {})


@pytest.mark.parametrize(
    "text",
    [
        "conversion.env = {PASSWORD = ['hunter2']}",
        "conversion.env = {ACQ_ID = 'hunter2'}",
        "conversion.env = 'hunter2'",
        "database = 'postgresql://me:hunt/hunter2@host/db'",
        "mounts = {'s3://bucket' = {secret = 'hunter2'}}",
        "mounts = {'sftp://me:hunter2@host/data' = {}}",
        "mounts = {'s3://bucket' = {endpoint_url = 'http://me:hunter2@host'}}",
    ],
)
def test_a_secret_is_not_in_the_sentence(text: str) -> None:
    assert "hunter2" not in sentence(text)


@pytest.mark.parametrize("name", ["ACQ_DIR", "CONVERSION_ATTEMPT", "STORAGE_CONVERSION_TOKEN", "A=B", ""])
def test_a_variable_that_scripts_cannot_be_given_is_refused(name: str) -> None:
    assert "must be" in sentence(f"conversion.env = {{'{name}' = 'x'}}")


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:1",
        "tcp://127.3.2.1:65535",
        "tcp://localhost:5",
        "tcp://[::1]:5",
        "ipc:///run/c",
        "ipc://@c",
    ],
)
def test_an_address_of_this_host_needs_no_leave(address: str) -> None:
    config = from_text(f"endpoints.commands = '{address}'")
    assert config.endpoints.commands == address
    assert config.warnings == ()


@pytest.mark.parametrize(
    "address",
    [
        *(
            "",
            "127.0.0.1:5570",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:0",
            "tcp://127.0.0.1:65536",
            "tcp://127.0.0.1:*",
        ),
        *("tcp://:5570", "tcp://::1:5570", "ipc://", "inproc://c", "udp://127.0.0.1:5570", "TCP://127.0.0.1:5570"),
        *("tcp://127.0.0.1:5570/", " tcp://127.0.0.1:5570", "tcp://0.0.0.0;127.0.0.1:5570"),
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    expected = f"endpoints.commands is '{address}'; it must be tcp://ADDRESS:PORT with a port of 1 to 65535, or ipc://PATH"
    assert expected in sentence(f"endpoints.insecure = true\nendpoints.commands = '{address}'")


def test_a_path_that_no_socket_can_have_is_refused() -> None:
    assert from_text(f"endpoints.commands = 'ipc:///{'x' * 106}'")
    assert "at most 107 bytes, and has 108" in sentence(f"endpoints.commands = 'ipc:///{'x' * 107}'")


def test_two_endpoints_cannot_have_one_address() -> None:
    text = "endpoints.events = 'tcp://127.0.0.1:5570'"
    assert "is 'tcp://127.0.0.1:5570'; it must not be that of endpoints.commands." in sentence(text)


@pytest.mark.parametrize(
    "address",
    ["tcp://0.0.0.0:5", "tcp://*:5", "tcp://192.0.2.1:5", "tcp://eth0:5", "tcp://[::]:5", "tcp://[2001:db8::1]:5"],
)
@pytest.mark.parametrize("key", ["commands", "events"])
def test_an_address_of_the_network_needs_leave_and_is_warned_of(key: str, address: str) -> None:
    message = sentence(f"endpoints.{key} = '{address}'")
    assert f"endpoints.{key} is '{address}'; nothing is encrypted" in message
    assert "endpoints.insecure = true" in message
    config = from_text(f"endpoints.{key} = '{address}'\nendpoints.insecure = true")
    (warning,) = config.warnings
    assert warning.startswith(f"endpoints.{key} is {address}, without encryption")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "trash.keep_days = -1",
            "trash.keep_days is -1; it must be an int of at least 0 and at most 36500.",
        ),
        (
            "trash.keep_days = 'a week'",
            "trash.keep_days is 'a week'; it must be an int of at least 0 and at most 36500.",
        ),
        (
            "mounts = {'file:///' = {}}",
            'mounts."file:///" is a table; it must be the path of a folder, or a table like { path = "/mnt',
        ),
        (
            "mounts = {'file:///' = {path = '/a', mountd = true}}",
            "mounts.\"file:///\" is a table; 'mountd' is not a known key of a folder's table; there are: path",
        ),
        (
            "mounts = {'file:///' = {path = 3}}",
            'mounts."file:///" is a table; its path must be the path of a folder.',
        ),
        (
            "mounts = {'nfs://a/b' = {path = '/a', mounted = 3}}",
            'mounts."nfs://a/b" is a table; its mounted must be true, false, or a type of file systems like "nf',
        ),
        ("database = 'postgresql://h/db'", "database is 'postgresql://h/db'; it must be sqlite:///NAME"),
        ("database = 'sqlite:////abs.db'", "database is 'sqlite:////abs.db'; it must be sqlite:///NAME"),
        ("database = 'sqlite:///../up.db'", "database is 'sqlite:///../up.db'; it must be sqlite:///NAME"),
        ("database = 'sqlite:///:memory:'", "database is 'sqlite:///:memory:'; it must be sqlite:///NAME"),
    ],
)
def test_what_this_version_cannot_do_is_refused(text: str, expected: str) -> None:
    assert expected in sentence(text)


def test_a_file_that_cannot_be_read_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: the configuration cannot be read: No such file"):
        load(Path("none.toml"), {}, {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(folder, {}, {})


@pytest.mark.parametrize(
    "content", [b"a = ", b"a = '\xff'", b"a = " + b"[" * 5000, b"a = " + b"9" * 5000, b"a=1\na=2"]
)
def test_a_file_that_is_no_toml_is_told(folder: Path, content: bytes) -> None:
    path = folder / "given.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"given\.toml: it is not TOML: "):
        load(path, {}, {})


def test_a_mount_point_may_have_bounds_of_its_own() -> None:
    path = Path("given.toml")
    path.write_text(
        '[mounts]\n"a://" = "a"\n"b://" = "b"\n[space]\nmin_free_bytes = 5\nmin_free_bytes_of = {"b://" = 7}'
    )
    space = load(path, {}, {}).space
    assert (space.bounds("a://"), space.bounds("b://")) == ((5, 0), (7, 0))


@pytest.mark.parametrize("value", ['{"b://" = 1}', '{"a://" = -1}', '{"a://" = "1"}', '{"a://" = 1.5}', "1"])
@pytest.mark.parametrize("key", ["min_free_bytes_of", "low_free_bytes_of"])
def test_bounds_of_what_is_no_mount_point_or_no_number_are_refused(key: str, value: str) -> None:
    path = Path("given.toml")
    path.write_text(f'mounts = {{"a://" = "a"}}\n[space]\n{key} = {value}')
    with pytest.raises(ConfigError, match=f"space.{key}"):
        load(path, {}, {})


def test_the_first_pattern_that_fits_a_storage_counts() -> None:
    path = Path("given.toml")
    path.write_text(
        '[storages."cal*"]\nmanifest = "sizes"\n[storages]\n"c*" = { manifest = "off" }\n"d?[0-9]" = {}\n'
    )
    config = load(path, {}, {})
    ids = ("calib", "cosmics", "dx1", "Calib", "other")
    assert [config.files_of(id).manifest for id in ids] == ["sizes", "off", "blake3", "blake3", "blake3"]
    environ = {"STORAGE_SERVICE__STORAGES": '{"*": {"manifest": "off"}}'}
    assert load(path, environ, {}).files_of("calib").manifest == "off"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[storages]\nx = { manifest = "md5" }',
            "storages.x is a table; its manifest must be one of blake3, sizes, off",
        ),
        ("[storages]\nx = { manifest = 1 }", "and is 1."),
        ('[storages]\nx = { manifests = "off" }', "'manifests' is not a known key of it; there are: manifest"),
        ("[storages]\nx = 3", 'it must be a table like { manifest = "sizes" }'),
        ('[storages]\n"a b" = {}', "its name must be a pattern of storage ids"),
        ("[manifest]\nprocesses = 0", "manifest.processes is 0; it must be an int of at least 1"),
    ],
)
def test_a_table_of_storages_says_what_is_wrong_with_it(text: str, said: str) -> None:
    path = Path("given.toml")
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(path, {}, {})
