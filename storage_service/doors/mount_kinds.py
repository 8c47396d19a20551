"""Which door a mount point has: its configuration says of which kind it is."""

from __future__ import annotations

from pathlib import Path

from storage_service.doors.folders import FolderMount
from storage_service.mount_tables import Mount


def door_of(mp: str, mount: Mount, scripts_dir: Path) -> FolderMount:
    """The door of a mount point, which looks at nothing yet. ValueError: it has no path."""
    if mount.path is None:
        raise ValueError(f"the mount point {mp} has no path")
    return FolderMount(mp, mount.path, scripts_dir, mount.mounted)
