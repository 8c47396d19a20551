"""Whether a conversion script that a client names can be run."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from storage_service.rules.work import Fault


def runnable_script(scripts_dir: Path, name: str) -> Path:
    """The absolute path, without links, of the script that a client names by its path below the scripts folder.

    Raises `Fault`: `invalid_name` (field `convert_script`) when it leads out of that folder (rule `inside`), is no
    plain file (`file`) or may not be executed (`executable`); `not_found` when it is not there; `unavailable` when
    the folder cannot be read. A link that stays inside the folder is followed.
    """
    try:
        folder = scripts_dir.resolve()
        # realpath and not resolve(): a circle of links is nothing that is there, and no error of ours.
        script = Path(os.path.realpath(folder / name))
        if not name or ".." in Path(name).parts or Path(name).is_absolute() or not script.is_relative_to(folder):
            raise _script_fault("inside", f"The script {name!r} is not below the scripts folder.")
        if not stat.S_ISREG(script.stat().st_mode):
            raise _script_fault("file", f"The script {name} is not a plain file.")
        if not os.access(script, os.X_OK):
            raise _script_fault("executable", f"The script {name} may not be executed: chmod +x is missing.")
    except ValueError as error:  # a NUL, or half a surrogate pair
        raise _script_fault("inside", f"{name!r} cannot be the path of a script.") from error
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            message = f"There is no script {name} in the scripts folder."
            raise Fault("not_found", message, what="script", id=name) from error
        reason = error.strerror or type(error).__name__
        raise Fault("unavailable", f"The script {name} cannot be read: {reason}.", reason=reason) from error
    return script


def _script_fault(rule: str, message: str) -> Fault:
    return Fault("invalid_name", message, field="convert_script", rule=rule)
