"""Lock files of conversions: whatever lives of an attempt holds its conversion's, since it inherited it.

The lock is a flock(2), which belongs to the open file that a runner, its script and all below share: it is free
when the last of them has ended or closed it, however that came about, and no file tells of locks after a crash.
Only the service takes locks and takes the files away, and one service is all that a state folder has.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Locks:
    """The lock files in `folder`, one a conversion, named by its id. The folder is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.realpath(folder))

    def take(self, conversion_id: str) -> int:
        """Lock a conversion; the descriptor, to be closed here once the runner has inherited it.

        Raises BlockingIOError while something of an earlier attempt holds it, OSError when there can be no file.
        """
        path = self.path(conversion_id)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def is_free(self, conversion_id: str) -> bool:
        """Whether nobody holds it; its file is gone then. What cannot be found out is not free."""
        path = self.path(conversion_id)
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def held(self) -> list[str]:
        """The conversions whose lock somebody holds. The files of the others are gone then."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        return [name for name in names if not self.is_free(name)]

    def path(self, conversion_id: str) -> Path:
        """The file as links in /proc name it."""
        return self._folder / conversion_id
