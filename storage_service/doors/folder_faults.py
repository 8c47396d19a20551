"""What is said of folders that cannot be used as asked, whatever kind their mount point is."""

from __future__ import annotations

from storage_service.doors.markers import Marker
from storage_service.rules.work import Fault


def belongs_to(mp: str, marker: Marker, path: tuple[str, ...]) -> Fault:
    """A folder is another's, or nobody knows whose."""
    place = f"The folder {'/'.join(path)} below {mp}" if path else f"The mount point {mp} itself"
    return Fault("already_exists", f"{place} belongs to {marker}.", what="folder", id=marker.id)


def in_the_way(mp: str, path: tuple[str, ...], kind: str, wanted: str) -> Fault:
    """Something of this kind stands where a `wanted` has to be."""
    place = "/".join(path)
    if kind == "link":
        message = f"{place} below {mp} is a symbolic link, and none is followed there."
        return Fault("invalid_name", message, field="path", rule="symlink")
    message = f"{place} below {mp} is a {kind}, where a {wanted} has to be."
    return Fault("already_exists", message, what=kind, id=place)


def no_folder(mp: str, path: tuple[str, ...]) -> Fault:
    """There is no such folder."""
    place = "/".join(path)
    return Fault("not_found", f"There is no folder {place} below {mp}.", what="folder", id=place)


def unavailable(mp: str, reason: str) -> Fault:
    """The mount point cannot be used as asked."""
    return Fault("unavailable", f"The mount point {mp} cannot be used as asked: {reason}.", reason=reason)
