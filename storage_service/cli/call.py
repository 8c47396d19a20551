"""`storage-service call`: any command of the protocol, from a shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from storage_client import StorageClient
from storage_service.cli.session import DEFAULT_ENDPOINT, WRONG_USAGE, Endpoint, complain, say, talk


def call(
    cmd: str,
    /,
    *arguments: str,
    key: Annotated[str | None, Parameter(help="Idempotency key; a fresh one if none is given.")] = None,
    compact: Annotated[bool, Parameter(negative=(), help="The result on one line.")] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
) -> int:
    """Send one command, show its result as JSON.

    Parameters
    ----------
    cmd
        The command's name, such as get_status; describe tells them all.
    arguments
        name=value: JSON where it is valid JSON, text otherwise. Quotes inside make it text: run_name='"12"'.
        name=@FILE is what a file has, such as document=@setup.xml.
    """
    args: dict[str, Any] = {}
    for text in arguments:
        name, equals, value = text.partition("=")
        if not (name and equals):
            complain(f"{text!r} is no argument; one looks like name=value.")
            return WRONG_USAGE
        if name in args:
            complain(f"{name} is given twice.")
            return WRONG_USAGE
        try:
            args[name] = _content(Path(value[1:])) if value.startswith("@") else _value(value)
        except (OSError, ValueError) as error:
            complain(f"{value[1:]!r} cannot be read: {getattr(error, 'strerror', None) or error}.")
            return WRONG_USAGE

    async def use(client: StorageClient) -> int:
        result = msgspec.json.encode(await client.call_named(cmd, args, key=key))
        say((result if compact else msgspec.json.format(result, indent=2)).decode())
        return 0

    return talk(endpoint, use)


def _content(path: Path) -> str | bytes:
    """What a file has: text where it is UTF-8."""
    content = path.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text


def _no_number(text: str) -> None:
    """NaN and the infinities are no JSON, though Python reads them."""
    raise ValueError(text)
