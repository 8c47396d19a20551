"""The configuration that a Pyrame cmod has put together, over TCP."""

from __future__ import annotations

from collections.abc import Mapping

from storage_protocol.errors import UNAVAILABLE, shown

from ...rules.work import Fault
from .interface import DOCUMENT_BYTES
from .pyrame import Module, request


class Cmod:
    """The cmod at `address` (`host:port`); see `Configurations` for what its methods do and raise."""

    def __init__(self, address: str) -> None:
        """Raises ValueError, with a sentence, for what is no address."""
        self._address = address
        self._module = Module("cmod", address, DOCUMENT_BYTES)

    @property
    def origin(self) -> str:
        return f"cmod:{self._address}"

    async def fetch(self, about: Mapping[str, str]) -> bytes:
        answer = await self._module.ask(request("gener_config_cmod"))
        if not answer.done:
            why = shown(answer.text, 200)
            raise Fault(UNAVAILABLE, f"{self._module.what} has no configuration: {why}.", reason=why)
        return answer.text

    async def close(self) -> None:
        await self._module.close()
