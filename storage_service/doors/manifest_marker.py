"""The marker file of an acquisition in its manifests: what of it stays, and what the service itself may change.

An acquisition may be sealed once more for the same segment (SPEC 7.27), and its marker file then tells of newer
warnings and conversions. So the manifest has two digests of it: of its bytes, and of what a seal makes final.
"""

from __future__ import annotations

import json
import os

from blake3 import blake3

from storage_service.doors.markers import LIMIT_BYTES

PASSING = ("warnings", "conversion", "location", "storage_id")
"""The keys of `acquisition.json` that the service may write otherwise after the seal."""


def marker_digest(content: bytes) -> str | None:
    """The BLAKE3 of what lasts of a marker file; None when it is no JSON object.

    It is taken of the object without the keys that pass, as JSON with sorted keys and without spaces, in UTF-8.
    """
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    lasting = {name: value for name, value in said.items() if name not in PASSING}
    text = json.dumps(lasting, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return blake3(text.encode(errors="surrogatepass")).hexdigest()


def read_marker(folder: int, name: bytes | str) -> bytes:
    """The marker file in the folder of this descriptor, no link followed. Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(fd, "rb") as file:
        return file.read(LIMIT_BYTES + 1)
