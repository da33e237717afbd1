"""Channels as insights use them: through the hub's own door, with the rights of the hub itself."""

from __future__ import annotations

from typing import Any

import msgspec

from hub.caller import SYSTEM
from hub.dispatch import Dispatcher
from protocol.messages import History, HistoryResult, Publish


class ChannelDoor:
    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def newest(self, channel: str, limit: int) -> list[dict[str, Any]]:
        """The newest messages, the newest first. Raises HubError."""
        command = History(id=1, channel=channel, limit=limit, reverse=True)
        result: HistoryResult = await self._dispatcher.answer(command, SYSTEM)
        return [msgspec.json.decode(message, type=dict[str, Any]) for message in result.messages]

    async def tell(self, channel: str, type: str, data: Any, *, key: str) -> None:
        """Publish, once for each type and key. Raises HubError."""
        message = msgspec.Raw(msgspec.json.encode({"type": type, "data": data}))
        command = Publish(id=1, channel=channel, message=message, key=key, idempotency_key=f"{type}:{key}")
        await self._dispatcher.answer(command, SYSTEM)
