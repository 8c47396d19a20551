"""`storage-service serve`: run the service in the foreground."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from .. import logs
from ..bus.endpoint import BindError
from ..config import ConfigError, load
from ..shell import Service
from ..store.interface import StoreError, StoreFaultError

CANNOT_START = 2
CANNOT_BIND = 1
# sysexits.h EX_TEMPFAIL: a supervisor tries again, and one day the disk is well.
TRY_AGAIN = 75


def serve(
    *,
    config: Path | None = None,
    set: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=False)] = (),
    log_level: Literal["debug", "info", "warning", "error"] = "info",
) -> None:
    """Run the service in the foreground; SIGTERM or Ctrl-C ends it.

    Parameters
    ----------
    config
        The configuration file. Without it, storage.toml in the working directory, else the defaults.
    set
        One key of the configuration, as KEY=VALUE; goes before the environment and the file. May be repeated.
    log_level
        What is logged to standard error, as JSON lines, or for people on a terminal.
    """
    logs.configure(log_level)
    overrides = dict(each.partition("=")[::2] for each in set)
    try:
        service = Service(load(config, os.environ, overrides))
    except StoreFaultError as error:
        _say(error)
        sys.exit(TRY_AGAIN)
    except (ConfigError, StoreError) as error:
        _say(error)
        sys.exit(CANNOT_START)
    # What is alive now stays alive, and what comes later is seldom part of a cycle: looking for cycles every 700
    # objects, which is the default, would cost a tenth of the loop.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    try:
        asyncio.run(service.run())
    except BindError as error:
        _say(error)
        sys.exit(CANNOT_BIND)
    sys.stderr.flush()
    # Threads that hang in a mount point must not keep a stopped service from ending.
    os._exit(0)


def _say(error: Exception) -> None:
    sys.stderr.write(f"storage-service: {error}\n")
