"""The commands of the built-in variable store (SPEC 4.3)."""

from __future__ import annotations

from typing import ClassVar

from . import arguments as a
from .specs import Command


class SetVar(Command, frozen=True, kw_only=True):
    """Set a variable: a durable register without history."""

    CMD: ClassVar = "set_var"
    MUTATING: ClassVar = True
    name: a.ParamName
    value: a.AnyValue
    ns: a.Namespace = "default"


class AddVar(Command, frozen=True, kw_only=True):
    """Add to a variable that is a number, or to 0 where there is none, in one step."""

    CMD: ClassVar = "add_var"
    MUTATING: ClassVar = True
    name: a.ParamName
    delta: a.Delta
    ns: a.Namespace = "default"


class GetVar(Command, frozen=True, kw_only=True):
    """One variable."""

    CMD: ClassVar = "get_var"
    name: a.ParamName
    ns: a.Namespace = "default"


class ListVars(Command, frozen=True, kw_only=True):
    """The variables of a namespace, by name."""

    CMD: ClassVar = "list_vars"
    prefix: a.Short = ""
    ns: a.Namespace = "default"
