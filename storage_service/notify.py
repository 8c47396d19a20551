"""The door to the process that started the service: sd_notify(3), the datagrams that systemd understands."""

from __future__ import annotations

import os
import socket

import structlog

PATIENCE_S = 1.0  # a full queue of systemd's empties quickly, and the service does not wait for it longer

log = structlog.get_logger(__name__)


def notify(state: str) -> None:
    """Tell systemd a state: `READY=1`, `STOPPING=1` or `STATUS=...`. Without NOTIFY_SOCKET it does nothing.

    What cannot be sent is logged and never raised: the service works without being watched.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # A leading @ stands for the NUL byte of an abstract address.
    receiver = f"\0{address[1:]}" if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(PATIENCE_S)
            sender.sendto(state.encode(), receiver)
    except OSError as error:
        log.warning("the service manager could not be notified", state=state, address=address, reason=str(error))
