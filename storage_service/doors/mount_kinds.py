"""Which door a mount point has: its name and its table say of which kind it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from storage_service.doors.folders import FolderMount
from storage_service.doors.remote_files import RemoteFiles
from storage_service.doors.remote_mount import RemoteMount
from storage_service.doors.s3_files import S3Files
from storage_service.doors.sftp_files import SftpFiles
from storage_service.mount_tables import Mount


def make_first_mount(roots: Mapping[str, Path], state_dir: Path) -> None:
    """At the very first start, make the folder of the default mount point where it lies beside the state.

    Only then: later, a folder that is not there is a disk that is not mounted.
    """
    root = roots.get("file:///")
    if root is not None and state_dir.parent in root.parents:
        with suppress(OSError):  # the start warns of a mount point that is not there
            root.mkdir(parents=True, exist_ok=True)


def door_of(mp: str, mount: Mount, scripts_dir: Path) -> FolderMount | RemoteMount:
    """The door of a mount point, which looks at nothing yet."""
    if mount.path is not None:
        return FolderMount(mp, mount.path, scripts_dir, mount.mounted)
    return RemoteMount(mp, remote_files(mp, mount))


def remote_files(mp: str, mount: Mount) -> RemoteFiles:
    """The files of a mount point elsewhere, by the scheme of its name."""
    return S3Files(mp, mount) if mp.startswith("s3://") else SftpFiles(mp, mount)
