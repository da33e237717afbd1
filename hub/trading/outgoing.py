"""What the trading domain hands to whoever publishes for it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Outgoing(NamedTuple):
    """A publication to be. `key` None leaves the choice to the message type (see `vocabulary.DEFAULT_KEYS`)."""

    channel: str
    type: str
    data: Any
    key: str | None = None


class Publish(Protocol):
    """Publishes one message. Raises HubError when it was refused; a `temporary` refusal may be tried again."""

    async def __call__(
        self, channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
    ) -> object: ...
