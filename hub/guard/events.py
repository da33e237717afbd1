"""Security events: what happened, to whom, from where. One vocabulary for audit, threat detection and metrics.

Names follow the OWASP logging vocabulary. Rule: an event never holds a secret, a token or a message's content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from hub.caller import Caller

Severity = Literal["INFO", "WARN", "CRITICAL"]


class SecurityEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`target` is what the event is about: a channel, a user, a client, a token family. `allowed` False: an attempt
    that was denied."""

    name: str
    user: str = ""
    address: str = ""
    target: str = ""
    allowed: bool = True
    severity: Severity = "INFO"
    detail: dict[str, Any] = {}


def denied(
    name: str, address: str, target: str = "", *, user: str = "", detail: Mapping[str, Any] | None = None
) -> SecurityEvent:
    """An attempt that was denied."""
    return SecurityEvent(
        name=name,
        user=user,
        address=address,
        target=target,
        allowed=False,
        severity="WARN",
        detail=dict(detail or {}),
    )


def not_permitted(caller: Caller, target: str, **detail: Any) -> SecurityEvent:
    """Somebody whom we know tried what they may not do."""
    return denied("authz_fail", caller.address, target, user=caller.user, detail=detail)


Report = Callable[[SecurityEvent], None]
"""How a part tells: takes an event, never waits, never raises."""


class SecurityEvents:
    """Hands each event to everyone who listens. Listeners are added once, at start."""

    def __init__(self) -> None:
        self._listeners: list[Report] = []

    def listen(self, listener: Report) -> None:
        self._listeners.append(listener)

    def report(self, event: SecurityEvent) -> None:
        for listener in self._listeners:
            listener(event)
