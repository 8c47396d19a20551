"""One talk of the command line with the service: connect, do, and say in one sentence what went wrong."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

from cyclopts import Parameter

from storage_client import COMMANDS_ENDPOINT, ServiceUnreachableError, StorageClient, StorageError
from storage_protocol.commands import Ping

REFUSED = 1
WRONG_USAGE = 2
NO_SERVICE = 3

_PATIENCE_S = 1.0

Endpoint = Annotated[
    str,
    Parameter(
        env_var="STORAGE_SERVICE__ENDPOINTS__COMMANDS",
        help="Where the service takes commands.",
    ),
]
DEFAULT_ENDPOINT = COMMANDS_ENDPOINT


def talk(endpoint: str, use: Callable[[StorageClient], Awaitable[int]]) -> int:
    """Do `use` with a client, if the service is there; the exit code, 0 when all went well."""
    # A service that is bound to every address is on this one too.
    endpoint = endpoint.replace("://*:", "://127.0.0.1:")
    try:
        return asyncio.run(_talk(endpoint, use))
    except ServiceUnreachableError as error:
        complain(f"{error.message} Start one with `storage-service serve`, or name another with --endpoint.")
        return NO_SERVICE
    except StorageError as error:
        complain(str(error))
        return REFUSED


async def _talk(endpoint: str, use: Callable[[StorageClient], Awaitable[int]]) -> int:
    async with StorageClient(endpoint) as client:
        await client.call(Ping(), deadline_s=_PATIENCE_S)
        return await use(client)


def say(line: str) -> None:
    """A line of output, at once: it may go into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def complain(line: str) -> None:
    """A line for the person at the terminal, away from the output."""
    sys.stderr.write(line + "\n")
