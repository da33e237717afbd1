"""One answer for what a channel holds, whichever door asks."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from hub.audit.reads import Reads
from hub.brokers.base import Broker, Recovered
from hub.caller import Caller
from hub.channels.access import Access
from hub.channels.durable import DurableChannels
from hub.channels.stored import StoredMessages
from hub.guard.events import Report, SecurityEvent
from hub.presence.service import PresenceService
from hub.shared_reading import SharedReading
from protocol.codec import JSON, Codec
from protocol.errors import ErrorCode, HubError
from protocol.messages import History, HistoryResult, Presence, PresenceResult

MAX_PAGE_BYTES = 256 * 1024  # a page of history is full after so many rows or so many bytes
BULK_ROWS = 500  # a page of as many is a step of somebody who reads everything
MAX_READING = 4  # pages under way at once: each may hold a thousand long messages until it is cut


class _Asked(NamedTuple):
    """Which page."""

    channel: str
    after: int
    limit: int
    reverse: bool


class ChannelReader:
    """History, presence and the list of channels, for those who may subscribe."""

    def __init__(
        self,
        broker: Broker,
        durable: DurableChannels,
        presence: PresenceService,
        *,
        access: Access,
        reads: Reads,
        signal: Report,
    ) -> None:
        """`signal` hears of large pages."""
        self._broker = broker
        self._stored = StoredMessages(broker, durable)
        self._durable = durable
        self._presence = presence
        self._access = access
        self._reads = reads
        self._signal = signal
        self._turns = asyncio.Semaphore(MAX_READING)
        # Whoever comes back after a failure of the network comes with all the others, for the same pages.
        self._durable_pages = SharedReading(self._durable_page, turns=self._turns)
        self._durable_names: SharedReading[None, list[str]] = SharedReading(
            lambda _: durable.channels(), turns=asyncio.Semaphore(1)
        )

    async def history(self, command: History, caller: Caller, codec: Codec = JSON) -> HistoryResult:
        """Messages after `since`, oldest first; reversed: before it, newest first."""
        namespace = self._access.require(caller, "subscribe", command.channel)
        after = command.since.offset if command.since else 0
        if namespace.durable:
            recovered = await self._durable_pages.of(_Asked(command.channel, after, command.limit, command.reverse))
        else:
            async with self._turns:
                recovered = _cut(
                    await self._stored.read(
                        command.channel, namespace, after=after, limit=command.limit, reverse=command.reverse
                    )
                )
        self._access.require(caller.now, "subscribe", command.channel)  # rights may have been taken while we read
        messages = [msgspec.Raw(publication.encoded(codec)) for publication in recovered.messages]
        if command.since is not None and command.since.epoch not in ("", recovered.epoch):
            raise HubError(
                ErrorCode.UNRECOVERABLE_POSITION, "the channel's history has another epoch", path="$.since.epoch"
            )
        if len(messages) >= BULK_ROWS:
            self._signal(
                SecurityEvent(name="bulk_read", user=caller.user, address=caller.address, target=command.channel)
            )
        if namespace.audit_reads:
            offsets = [publication.offset for publication in recovered.messages]
            self._reads.read(caller, command.channel, offsets=offsets)
        return HistoryResult(
            channel=command.channel,
            epoch=recovered.epoch,
            offset=recovered.offset,
            messages=messages,
            more=not recovered.complete,
        )

    async def _durable_page(self, asked: _Asked) -> Recovered:
        return _cut(
            await self._durable.history(asked.channel, after=asked.after, limit=asked.limit, reverse=asked.reverse)
        )

    def presence(self, command: Presence, caller: Caller, codec: Codec = JSON) -> PresenceResult:
        namespace = self._access.require(caller, "subscribe", command.channel)
        if not namespace.presence:
            raise HubError(ErrorCode.BAD_REQUEST, "this namespace keeps no presence", path="$.channel")
        return PresenceResult(channel=command.channel, members=self._presence.members(command.channel))

    async def channels(self, caller: Caller) -> list[str]:
        """The channels that hold something and that this caller may read, by name."""
        names = {*await self._broker.channels(), *await self._durable_names.of(None)}
        return sorted(name for name in names if self._may_read(caller, name))

    def _may_read(self, caller: Caller, channel: str) -> bool:
        try:
            return self._access.decide(caller, "subscribe", channel).allowed
        except HubError:  # a channel of a namespace that is no longer configured
            return False


def _cut(page: Recovered) -> Recovered:
    """A page that is full at `MAX_PAGE_BYTES`."""
    size = 0
    for count, publication in enumerate(page.messages):
        if size >= MAX_PAGE_BYTES:
            return msgspec.structs.replace(page, messages=page.messages[:count], complete=False)
        size += len(publication.body)
    return page
