"""What `describe` tells of this service."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from storage_protocol import PROTOCOL_VERSION
from storage_protocol.commands import described

from .config import Config


def description(config: Config, service_id: str, journal_id: str) -> dict[str, Any]:
    return {
        "service": "storage-service",
        "version": version("storage-service"),
        "protocol": PROTOCOL_VERSION,
        "service_id": service_id,
        "journal_id": journal_id,
        "events_endpoint": config.endpoints.events,
        "limits": config.limits,
        "commands": described(),
    }
