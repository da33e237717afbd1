"""Listening to channels from inside the hub: what clients hear, as typed messages, without a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from hub.brokers.base import Broker, Recovered
from hub.channels.fanout import Fanout, Listener
from hub.channels.shaping import Shaper
from hub.connections.outbox import Outbox
from hub.namespaces import Namespaces
from hub.publication import Publication
from protocol.vocabulary import DATA_TYPES

Hear = Callable[[str, Any], None]
"""(channel, data). Called within the turn in which the message is delivered: it must not block."""


class _Ear(Shaper):
    """In the place of a connection's shaper: is offered each publication by itself."""

    __slots__ = ("_hear",)

    def __init__(self, hear: Callable[[Publication], None]) -> None:
        self._hear = hear

    def offer(self, publication: Publication) -> None:
        self._hear(publication)

    def close(self) -> None:
        pass


class InsideListener:
    """One part of the hub that follows recoverable and latest channels. Types without a schema are not heard.

    A gap is not mended: whoever needs every message wants a durable channel, and reads it from Postgres.
    """

    def __init__(self, fanout: Fanout, broker: Broker, *, namespaces: Namespaces, hear: Hear) -> None:
        self._fanout = fanout
        self._broker = broker
        self._namespaces = namespaces
        self._hear = hear
        self._listeners: dict[str, Listener] = {}

    async def follow(self, channel: str) -> None:
        """Hear the newest values, if the channel keeps them, and everything from then on. Nothing if it is followed.

        Raises HubError(not_available, unknown_channel, bad_request).
        """
        if channel in self._listeners:
            return
        namespace, _ = self._namespaces.of(channel)
        # The outbox is never used: a listener with a shaper is offered publications instead of shared batches.
        listener = self._listeners[channel] = Listener(cast(Outbox, None), _Ear(self._on_publication))
        self._fanout.add(channel, listener)
        try:
            if (joined := self._broker.subscribe(channel, namespace)) is not None:
                await joined
            recovered = self._broker.recover(channel, namespace, epoch=None, offset=0, limit=namespace.max_keys)
            if not isinstance(recovered, Recovered):
                recovered = await recovered
        except BaseException:
            self.leave(channel)
            raise
        buffered = self._fanout.go_live(channel, listener, recovered.epoch)
        later = [live for live in buffered if live.epoch != recovered.epoch or live.offset > recovered.offset]
        for publication in (*recovered.messages, *later):
            self._on_publication(publication)

    def leave(self, channel: str) -> None:
        if (listener := self._listeners.pop(channel, None)) is not None and self._fanout.remove(channel, listener):
            self._broker.unsubscribe(channel)

    @property
    def channels(self) -> frozenset[str]:
        return frozenset(self._listeners)

    def _on_publication(self, publication: Publication) -> None:
        decoder = _DECODERS.get(publication.type)
        if decoder is not None:
            self._hear(publication.channel, decoder.decode(b"{" + publication.body + b"}").data)


_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(msgspec.defstruct(f"Heard{name.title().replace('_', '')}", [("data", data)]))
    for name, data in DATA_TYPES.items()
}
