"""What a command is, and what is known of it besides its struct: read once, at import, from its annotations."""

from __future__ import annotations

from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct


class Command(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client asks. `CMD` is its name on the wire; a mutating one changes state and may carry a key."""

    CMD: ClassVar[str] = ""
    MUTATING: ClassVar[bool] = False


class Argument(Struct, frozen=True):
    """One argument of a command, as `describe` tells it, and how it is read.

    optional  nil, and Pyrame's "undef", mean that it is not given
    rule      the rule of SPEC 3 that it keeps, a key of `names.RULES`; for a list, each of its items; for a
              map, each of its keys
    values    its value, or each value of the map, is a parameter's value
    read      brings other accepted forms into the one that is checked
    integer   an int
    where     conditions on parameters
    """

    name: str
    type: str
    required: bool
    default: Any
    optional: bool
    rule: str | None
    values: bool
    read: Any
    integer: bool
    where: bool

    @property
    def is_checked(self) -> bool:
        """Whether its value must be looked at beyond its type."""
        return bool(self.rule or self.values or self.integer or self.where)


class CommandSpec(Struct, frozen=True):
    """A command of the closed table: its type, and its arguments by name.

    required  the arguments that must be given
    special   those that have a `read`
    checked   those whose value is looked at beyond its type
    """

    command: type[Any]
    mutating: bool
    doc: str
    args: dict[str, Argument]
    required: frozenset[str]
    special: frozenset[str]
    checked: tuple[Argument, ...]


def _meta(annotation: Any) -> Meta:
    """The Meta of an annotation, also inside `X | None`."""
    for part in get_args(annotation):
        if isinstance(part, Meta):
            return part
    for part in get_args(annotation):
        if get_origin(part) is not None or hasattr(part, "__metadata__"):
            return _meta(part)
    raise TypeError(f"no Meta in {annotation}")


def spec_of(command: type[Any], mutating: bool) -> CommandSpec:
    """What the annotations of a command's struct say of it."""
    hints = get_type_hints(command, include_extras=True)
    args = {}
    for each in msgspec.structs.fields(command):
        meta = _meta(hints[each.name])
        extra = meta.extra or {}
        default = each.default_factory() if each.default is msgspec.NODEFAULT and not each.required else None
        args[each.name] = Argument(
            name=each.name,
            type=meta.description or "",
            required=each.required,
            default=None if each.required else default if each.default is msgspec.NODEFAULT else each.default,
            # `value` is a value even when it is nil or "undef" (SPEC 3).
            optional=not each.required,
            rule=extra.get("rule"),
            values=extra.get("values", False),
            read=extra.get("read"),
            integer=extra.get("integer", False),
            where=extra.get("where", False),
        )
    return CommandSpec(
        command=command,
        mutating=mutating,
        doc=(command.__doc__ or "").strip(),
        args=args,
        required=frozenset(name for name, arg in args.items() if arg.required),
        special=frozenset(name for name, arg in args.items() if arg.read is not None),
        checked=tuple(arg for arg in args.values() if arg.is_checked),
    )
