"""docs/client.md: its examples run as they stand, one after the other, and it knows every error."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import storage_client
from tests.support.service import Service

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


async def test_the_examples_of_the_page_run_as_they_stand(
    own_service: Callable[..., Service],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = own_service()
    monkeypatch.chdir(tmp_path)
    shared: dict[str, Any] = {}
    async with asyncio.timeout(60):
        for number, text in enumerate(EXAMPLES, 1):
            source = text.replace("tcp://127.0.0.1:5570", service.commands)
            code = compile(source, f"example {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, shared)
            if inspect.isawaitable(running):
                await running
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "finished"
    assert [line.split()[1] for line in said[1:] if line[0].isdigit()][-1] == "acquisition.finished"
    assert "True acquisition.sealed" in said
    assert "root/first_tests/calibration_1" in said
    assert "{'daq': 'configured', 'second': 'ready'}" in said
    assert said[-2] == "calibration_2"
    assert said[-1].endswith("root/first_tests/never")
    assert "1 {'hv.target_V': 1450.0}" in said
    assert "usable: ['threshold_200']" in said
    assert len(EXAMPLES) == 10


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in storage_client.__all__
        if inspect.isclass(kind := getattr(storage_client, name)) and issubclass(kind, storage_client.StorageError)
    ],
)
def test_the_page_knows_every_error(name: str) -> None:
    assert f"`{name}`" in PAGE
