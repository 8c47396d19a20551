"""`storage-service spool`: what a client's spool file holds, also while the client has it open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from storage_client import Refused, Spooled, SpoolError, read_spool
from storage_service.cli.lines import brief
from storage_service.cli.session import REFUSED, complain, say

app = App(name="spool", help="Show what a client's spool file holds.")

# What a command is about: the first of these arguments that it has.
_ABOUT = ("acq_id", "run_name", "conversion_id", "storage_id", "name")

Json = Annotated[bool, Parameter(negative=(), help="One JSON document a line.")]


@app.command(name="list")
def list_waiting(file: Path, /, *, json: Json = False) -> int:
    """Show the commands that wait for the service, the oldest first.

    Parameters
    ----------
    file
        The spool file of a client.
    """
    try:
        waiting, _ = read_spool(file)
    except SpoolError as error:
        complain(error.message)
        return REFUSED
    for each in waiting:
        say(_document(each) if json else f"{_head(each)}  {brief(each.args)}")
    return 0


@app.command
def refused(file: Path, /, *, json: Json = False) -> int:
    """Show the commands that waited and were then refused.

    Parameters
    ----------
    file
        The spool file of a client.
    """
    try:
        _, found = read_spool(file)
    except SpoolError as error:
        complain(error.message)
        return REFUSED
    for each in found:
        say(_document(each) if json else f"{_head(each)}  {brief(each.args)}\n    {each.code}: {each.message}")
    return 0


def _head(command: Spooled | Refused) -> str:
    """Its place, since when it waits, its name and what it is about."""
    since = command.since[:23].replace("T", " ")
    about = next((command.args[name] for name in _ABOUT if command.args.get(name)), "-")
    return f"{command.id:>5}  {since}  {command.cmd:<26}  {about}"


def _document(command: Spooled | Refused) -> str:
    return msgspec.json.encode(command).decode()
