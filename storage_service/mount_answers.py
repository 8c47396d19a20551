"""What is said in the place of a mount point that cannot be asked, or did not answer."""

from __future__ import annotations

from .rules.work import Failed, Fault, Order, ReachMount

NO_ANSWER = "no answer"
"""The reason of what is told in the place of an answer."""


def away(what: str) -> Fault:
    """Of a conversion that is not begun."""
    return Fault("unavailable", f"{what} does not answer; try again when it does.", reason=NO_ANSWER)


def does_not_answer(mp: str) -> Failed:
    """Of an order that came too late, or was not begun."""
    message = f"The mount point {mp} does not answer; try again when it does."
    return Failed("unavailable", message, {"reason": NO_ANSWER})


def not_configured(order: Order) -> Failed:
    """Of an order for a mount point that is not in the configuration."""
    if isinstance(order, ReachMount):
        message = f"The mount point {order.mp!r} is not configured; the service's [mounts] must name it."
        return Failed("not_found", message, {"what": "mount", "id": order.mp})
    message = f"The mount point {order.mp!r} is not configured any more; nothing can be done there until it is."
    return Failed("unavailable", message, {"reason": "mount point not configured"})
