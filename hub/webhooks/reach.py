"""Which channels a webhook is told of, and what there is to tell: what its owner may read, as they count now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from hub.audit.reads import Reads
from hub.brokers.base import Broker
from hub.caller import Caller
from hub.channels.access import Access
from hub.channels.durable import DurableChannels
from hub.channels.stored import StoredMessages
from hub.namespaces import Namespaces
from hub.publication import Publication
from protocol.channels import matches, split_channel
from protocol.errors import ErrorCode, HubError
from protocol.positions import Position

PAGE = 50

LostReason = Literal["epoch_changed", "offset_too_old"]


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel no longer holds: what comes next is after `to`."""

    reason: LostReason
    after: Position
    to: Position


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel says after a position. `lost` comes before the messages."""

    epoch: str
    lost: Lost | None
    messages: Sequence[Publication]
    more: bool


class Reach:
    def __init__(
        self,
        broker: Broker,
        durable: DurableChannels,
        *,
        judge: Callable[[Caller], Caller],
        namespaces: Namespaces,
        access: Access,
        reads: Reads,
    ) -> None:
        """`judge`: a caller as they count now; it raises HubError(token_invalid) for one whose rights were revoked."""
        self._broker = broker
        self._durable = durable
        self._stored = StoredMessages(broker, durable)
        self._judge = judge
        self._namespaces = namespaces
        self._access = access
        self._reads = reads

    def check(self, caller: Caller, patterns: Iterable[str]) -> None:
        """Raises HubError for what can never be told, or a channel that the caller may not read."""
        for pattern in patterns:
            any_name = pattern.endswith("*")
            channel = f"{pattern[:-1]}x" if any_name else pattern
            split_channel(channel)
            namespace, _ = self._namespaces.of(channel)
            if namespace.promise == "latest":
                raise HubError(
                    ErrorCode.SCHEMA_INVALID, "such a channel is about its newest values only", path="$.channels"
                )
            if not any_name:
                self._access.require(caller, "subscribe", channel)

    async def channels(self, caller: Caller, patterns: Sequence[str]) -> list[str]:
        """Those of the patterns that the caller may read now, by name; of a prefix, those that were written to.

        Raises HubError(token_invalid, not_available).
        """
        now = self._judge(caller)
        names = {each for each in patterns if not each.endswith("*")}
        if prefixes := [each for each in patterns if each.endswith("*")]:
            written = {*await self._broker.channels(), *await self._durable.channels()}
            names |= {each for each in written if any(matches(prefix, each) for prefix in prefixes)}
        return sorted(each for each in names if self._may_read(now, each))

    def allows(self, caller: Caller, channel: str) -> bool:
        """Raises HubError(token_invalid)."""
        return self._may_read(self._judge(caller), channel)

    async def head(self, channel: str) -> Position:
        """Raises HubError(not_available)."""
        namespace, _ = self._namespaces.of(channel)
        found = await self._stored.read(channel, namespace, after=0, limit=1, reverse=True)
        return Position(found.epoch, found.offset)

    async def page(self, caller: Caller, channel: str, after: Position) -> Page:
        """Raises HubError(not_available)."""
        namespace, _ = self._namespaces.of(channel)
        found = await self._stored.read(channel, namespace, after=after.offset, limit=PAGE)
        lost: LostReason | None = None
        start = after.offset
        if found.epoch != after.epoch and found.epoch:
            found = await self._stored.read(channel, namespace, after=0, limit=PAGE)
            lost, start = ("epoch_changed" if after.offset else None), 0
        first = found.messages[0].offset if found.messages else found.offset + 1
        if first > start + 1:
            lost = lost or "offset_too_old"
        if namespace.audit_reads:
            self._reads.read(caller, channel, offsets=[each.offset for each in found.messages])
        gap = None if lost is None else Lost(reason=lost, after=after, to=Position(found.epoch, first - 1))
        return Page(epoch=found.epoch, lost=gap, messages=found.messages, more=not found.complete)

    def _may_read(self, caller: Caller, channel: str) -> bool:
        try:
            return (
                self._namespaces.of(channel)[0].promise != "latest"
                and self._access.decide(caller, "subscribe", channel).allowed
            )
        except HubError:  # of a namespace that is no longer configured
            return False
