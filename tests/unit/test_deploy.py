"""The files that an installation starts from."""

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from storage_service.config import KEYS, Config, load
from storage_service.mount_tables import folders

DEPLOY = Path(__file__).parents[2] / "deploy"
EXAMPLE = DEPLOY / "storage.example.toml"
UNIT = DEPLOY / "storage-service.service"

OF_THE_HOST = {
    "state_dir",
    "mounts",
    "conversion.scripts_dir",
    "conversion.scratch_dir",
}  # not the defaults in the example


def settings() -> dict[str, str]:
    """What the unit file sets, by name. No name comes twice."""
    lines = [line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#"]
    found = dict(lines)
    assert len(found) == len(lines)
    return found


def value_at(table: dict[str, Any], key: str) -> Any:
    value: Any = table
    for name in key.split("."):
        value = value[name]
    return value


def test_the_example_loads_as_it_is() -> None:
    config = load(EXAMPLE, {}, {})
    assert folders(config.mounts) == {"file:///": Path("/srv/data")}
    assert config.warnings == ()


def test_the_example_names_every_key_with_its_default() -> None:
    example = tomllib.loads(EXAMPLE.read_text())
    defaults = msgspec.to_builtins(Config(), enc_hook=str)
    for key in KEYS:
        assert value_at(example, key) == value_at(defaults, key) or key in OF_THE_HOST, key


def test_every_key_of_the_example_has_a_comment() -> None:
    above = ""
    for line in EXAMPLE.read_text().splitlines():
        if "=" in line and not line.startswith(("#", "events")):  # one comment for both endpoints
            assert above.startswith(("#", "[mounts]")), line
        above = line


def test_the_unit_lets_the_service_write_where_the_example_has_it_write() -> None:
    config, unit = load(EXAMPLE, {}, {}), settings()
    writable = [Path(folder.removeprefix("-")) for folder in unit["ReadWritePaths"].split()]
    for root in folders(config.mounts).values():
        assert any(root.is_relative_to(folder) for folder in writable), root
    assert config.state_dir == Path("/var/lib") / unit["StateDirectory"] == Path(unit["WorkingDirectory"])
    assert config.conversion.grace_s + 10 <= int(unit["TimeoutStopSec"])


def test_the_unit_restarts_what_can_be_restarted() -> None:
    unit = settings()
    expected = {
        "Type": "notify",
        "Restart": "always",
        "RestartPreventExitStatus": "2",
        "StartLimitIntervalSec": "0",
        "KillMode": "mixed",
        "OOMPolicy": "continue",
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
    }
    assert {name: unit.get(name) for name in expected} == expected
    assert int(unit["RestartSec"]) > 0
    assert unit["MemoryMax"]
    assert unit["User"] != "root"


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    analyze, program = shutil.which("systemd-analyze"), shutil.which("true")
    if analyze is None or program is None:
        pytest.skip("systemd-analyze is not installed")
    start = settings()["ExecStart"]
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(start.split()[0], program))
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, complaints) == (0, [])


def test_the_unit_and_the_image_start_the_same_command() -> None:
    command = settings()["ExecStart"].split()
    image = (DEPLOY / "Containerfile").read_text()
    quoted = ", ".join(f'"{word}"' for word in command[1:])
    assert f'ENTRYPOINT ["{command[0]}"]' in image
    assert f"CMD [{quoted}]" in image
    assert image.index("USER storage") < image.index("ENTRYPOINT")
