"""The folder of a demo: a service's configuration, its state, data, conversion script and logs."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

CONVERT_SCRIPT = "convert.py"

_MADE_HERE = "# Made by `storage-service demo`."
_CONFIG = f"""{_MADE_HERE}
# To look around in it again: storage-service serve --config THIS_FILE, then storage-service call list_nodes.

state_dir = "var"

[mounts]
"file:///" = "data"

[conversion]
scripts_dir = "conversions"
"""
_LONGEST_SHEBANG = 127  # bytes that every Linux reads of it


class FolderError(Exception):
    """The folder cannot be that of a demo. The message is one sentence."""


class Folder:
    """Where everything of one demo is.

    keep  a folder that is not there yet, is empty or was an earlier demo's; None: a new temporary one

    Raises FolderError when `keep` is something else, and OSError when it cannot be written.
    """

    def __init__(self, keep: Path | None) -> None:
        self.temporary = keep is None
        if keep is not None:
            _check(keep)
        self.path = Path(tempfile.mkdtemp(prefix="storage-demo-")) if keep is None else keep.absolute()
        self.config = self.path / "storage.toml"
        self.service_log = self.path / "service.log"
        self.producers_log = self.path / "producers.log"
        scripts = self.path / "conversions"
        for folder in (self.path / "data", scripts):
            folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(_CONFIG)
        script = scripts / CONVERT_SCRIPT
        source = Path(__file__).with_name("convert.py").read_text(encoding="utf-8")
        script.write_text(f"{shebang(sys.executable)}\n{source}", encoding="utf-8")
        script.chmod(0o755)


def shebang(python: str) -> str:
    """The first lines of a script that this interpreter runs, wherever it lies.

    The kernel takes a path up to its first blank, and cuts a long one: then a shell starts it, in two lines that
    Python reads as a text.
    """
    if not set(python) & set(" \t") and len(python.encode()) + 2 <= _LONGEST_SHEBANG:
        return f"#!{python}"
    return f"""#!/bin/sh\n'''exec' "{python}" "$0" "$@"\n' '''"""


def _check(folder: Path) -> None:
    taken = "--keep takes a folder that is new, empty or an earlier demo's"
    config = folder / "storage.toml"
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"{folder} is no folder; {taken}.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (config.is_file() and config.read_text(errors="replace").startswith(_MADE_HERE)):
        raise FolderError(f"{folder} is not empty and was no earlier demo's; {taken}.")
