"""A typed method for the configuration that is saved beside the data (SPEC 4.3)."""

from __future__ import annotations

from storage_protocol import commands as c

from .calls import Calls, S


class Configuration(Calls[S]):
    """The command on configurations."""

    async def set_config(
        self, storage_id: str, document: str | bytes | None, *, name: str = "config.xml"
    ) -> str | S | None:
        """Hand in the configuration to be saved beside every later acquisition; its BLAKE3. None takes it back."""
        content = document.encode() if isinstance(document, str) else document
        command = c.SetConfig(storage_id=storage_id, document=content, name=name)
        return await self._change_to(command, lambda result: result["blake3"])
