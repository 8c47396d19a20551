"""Imports point down: the contracts in pyproject.toml hold, and each of them would notice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]

# One line that breaks a contract, and where it would stand.
PLANTS = {
    "floors": ("storage_service/rules/barrier.py", "from storage_service.desk import messages"),
    "pure": ("storage_service/desk/peers.py", "import time"),
    "protocol": ("protocol/storage_client/clock.py", "from storage_service import config"),
    "client": ("protocol/storage_protocol/codec.py", "import storage_client"),
    "zmq": ("storage_service/doors/markers.py", "import zmq"),
    "apsw": ("storage_service/desk/batch.py", "import apsw"),
    "aioca": ("storage_service/doors/markers.py", "import aioca"),
    "elsewhere": ("storage_service/doors/markers.py", "import s3fs"),
    "http": ("storage_service/doors/logbook.py", "import httpx2"),
    "store": ("storage_service/mounts.py", "from storage_service.store import sqlite"),
}

# What a package imports besides the standard library and itself.
ALLOWED = {
    "storage_protocol": {"msgpack", "msgspec"},
    "storage_client": {"storage_protocol", "msgspec", "zmq", "s3fs", "sshfs"},
    "storage_service.rules": {"storage_protocol", "msgspec", "blake3"},
    "storage_service.desk": {"storage_protocol", "storage_service.rules", "msgspec"},
}


def lint(folder: Path, contract: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages in a folder."""
    tool = Path(sys.executable).with_name("lint-imports")
    chosen = ["--contract", contract] if contract else []
    return subprocess.run(
        [tool, "--no-cache", *chosen],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(folder / "protocol")))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_contract_holds() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_contract_has_its_plant() -> None:
    assert {contract["id"] for contract in CONTRACTS} == set(PLANTS)


@pytest.mark.parametrize("contract", PLANTS)
def test_a_planted_import_breaks_its_contract(tmp_path: Path, contract: str) -> None:
    skip = shutil.ignore_patterns("__pycache__", "vectors", "*.md")
    for package in ("storage_service", "protocol"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert lint(tmp_path, contract).returncode == 0
    file, line = PLANTS[contract]
    with (tmp_path / file).open("a") as source:
        source.write(f"\n\n{line}\n")
    result = lint(tmp_path, contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_nothing_but_what_it_may(package: str) -> None:
    graph = grimp.build_graph(
        "storage_service", "storage_protocol", "storage_client", include_external_packages=True, cache_dir=None
    )
    allowed = {package, *ALLOWED[package]}
    strangers = {
        f"{module} imports {imported}"
        for module in {package, *graph.find_descendants(package)}
        for imported in graph.find_modules_directly_imported_by(module)
        if imported not in sys.stdlib_module_names
        and not any(f"{imported}.".startswith(f"{each}.") for each in allowed)
    }
    assert strangers == set()
