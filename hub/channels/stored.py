"""What is kept of a channel, wherever its class of message is kept."""

from __future__ import annotations

from hub.brokers.base import Broker, Recovered
from hub.channels.durable import DurableChannels
from hub.namespaces import Namespace


class StoredMessages:
    def __init__(self, broker: Broker, durable: DurableChannels) -> None:
        self._broker = broker
        self._durable = durable

    async def read(
        self, channel: str, namespace: Namespace, *, after: int, limit: int, reverse: bool = False
    ) -> Recovered:
        """See `hub.brokers.base.Broker.history`. Raises HubError(not_available)."""
        if namespace.durable:
            return await self._durable.history(channel, after=after, limit=limit, reverse=reverse)
        found = self._broker.history(channel, namespace, after=after, limit=limit, reverse=reverse)
        return found if isinstance(found, Recovered) else await found
