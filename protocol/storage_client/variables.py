"""A typed method for every command of the built-in variable store (SPEC 4.3)."""

from __future__ import annotations

from storage_protocol import commands as c
from storage_protocol.names import Value

from .calls import Calls, S
from .replies import VariableList


class Variables(Calls[S]):
    """The commands on variables."""

    async def set_var(self, name: str, value: Value, *, ns: str = "default") -> Value | S:
        """Set a variable; the value that it has now."""
        return await self._change_to(c.SetVar(ns=ns, name=name, value=value), lambda result: result["value"])

    async def add_var(self, name: str, delta: int | float, *, ns: str = "default") -> int | float | S:
        """Add to a variable that is a number, or to 0 where there is none, in one step; the sum."""
        return await self._change_to(c.AddVar(ns=ns, name=name, delta=delta), lambda result: result["value"])

    async def get_var(self, name: str, *, ns: str = "default") -> Value:
        """The value of a variable. Raises NotFoundError where there is none."""
        value: Value = (await self.call(c.GetVar(ns=ns, name=name)))["value"]
        return value

    async def list_vars(self, prefix: str = "", *, ns: str = "default") -> VariableList:
        """The variables whose name begins so."""
        return await self._ask(c.ListVars(ns=ns, prefix=prefix), VariableList)
