"""Tells one webhook what its channels say: one message at a time, each until it was taken.

Rule: a position moves only with what the receiver has taken, so nothing is left out; what was sent and whose answer got
lost is sent again, under the same id.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from hub.caller import Caller
from hub.clock import Clock
from hub.guard.outbound import Answer, Outbound
from hub.observe.metrics import Tally
from hub.webhooks.backoff import wait_s
from hub.webhooks.messages import Message, of_loss, of_publication
from hub.webhooks.reach import Reach
from hub.webhooks.signing import headers
from protocol.errors import HubError
from protocol.positions import Position
from storage.webhooks import Delivery, Webhook, Webhooks

logger = logging.getLogger("krin.webhooks")

LOOK_S = 0.5  # how often a webhook's channels are looked at
RETRY_S = 5.0  # after something of ours failed
GONE = 410

Tell = Callable[[Webhook, str], Awaitable[None]]
"""Alert operators that a webhook gets nothing any more, and why. May be called again for the same."""


REVOKED = "its owner's rights were revoked"


class Closed(Exception):
    """The owner may not read this channel any more."""


class Ended(Exception):
    """This webhook gets nothing any more; the text says why."""


class Courier:
    def __init__(
        self,
        webhook: Webhook,
        *,
        caller: Caller,
        keys: Callable[[], Sequence[bytes]],
        table: Webhooks,
        reach: Reach,
        outbound: Outbound,
        tell: Tell,
        outcomes: Tally,
        first_wait_s: float,
        max_failures: int,
        clock: Clock,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """`keys` sign: asked each time, because old ones end."""
        self._dice = dice
        self._webhook = webhook
        self._caller = caller
        self._keys = keys
        self._table = table
        self._reach = reach
        self._outbound = outbound
        self._tell = tell
        self._outcomes = outcomes
        self._first_wait_s = first_wait_s
        self._max_failures = max_failures
        self._clock = clock

    async def run(self) -> None:
        """Until the webhook is disabled. Raises StorageError."""
        try:
            positions = await self._table.positions(self._webhook.id)
            while True:
                try:
                    await self._round(positions)
                except HubError as failure:
                    logger.warning("webhook %s waits: %s", self._webhook.id, failure)
                    await self._clock.sleep(RETRY_S)
                await self._clock.sleep(LOOK_S)
        except Ended as end:
            reason = str(end)
        while not await self._told(reason):
            await self._clock.sleep(RETRY_S)
        await self._table.disable(self._webhook.id, reason)

    async def _told(self, reason: str) -> bool:
        """Before it is written down: whoever takes over in between tells it again."""
        logger.warning("webhook %s is disabled: %s", self._webhook.id, reason)
        try:
            await self._tell(self._webhook, reason)
        except HubError as failure:
            logger.warning("operators cannot be told of it: %s", failure)
            return False
        return True

    async def _round(self, positions: dict[str, Position]) -> None:
        """Everything there is. Raises Ended, StorageError, HubError(not_available)."""
        try:
            channels = await self._reach.channels(self._caller, self._webhook.channels)
        except HubError as refused:
            if refused.code.temporary:
                raise
            raise Ended(REVOKED) from None
        for channel in channels:
            try:
                while await self._channel(channel, positions):
                    pass
            except Closed:
                continue

    async def _channel(self, channel: str, positions: dict[str, Position]) -> bool:
        """A page of a channel; whether there is more."""
        after = positions.get(channel, Position("", 0))
        page = await self._reach.page(self._caller, channel, after)
        if page.lost is not None:
            now_ms = self._clock.now_ms()
            await self._deliver(of_loss(self._webhook.id, channel, page.lost, now_ms), positions)
            self._outcomes.add("lost")
        for publication in page.messages:
            await self._deliver(of_publication(self._webhook.id, publication, page.epoch), positions)
        return page.more

    async def _deliver(self, message: Message, positions: dict[str, Position]) -> None:
        """Raises Ended."""
        while True:
            self._require(message.channel)
            answer = await self._send(message)
            self._outcomes.add("delivered" if answer.good else "failed")
            if answer.good:
                await self._table.delivered(self._webhook.id, self._noted(message, answer), message.to)
                positions[message.channel] = message.to
                return
            failures = await self._table.failed(self._webhook.id, self._noted(message, answer))
            if answer.status == GONE:
                raise Ended("the receiver answered 410: it is gone for good")
            if failures >= self._max_failures:
                raise Ended(f"{failures} attempts in a row have failed, the last one with: {answer.error}")
            dice = self._dice()
            wait = wait_s(max(failures, 1), first_s=self._first_wait_s, asked_s=answer.retry_after_s, dice=dice)
            await self._clock.sleep(wait)

    def _require(self, channel: str) -> None:
        """What its owner may read can change while a receiver is away. Raises Ended, Closed."""
        try:
            if not self._reach.allows(self._caller, channel):
                raise Closed
        except HubError:
            raise Ended(REVOKED) from None

    async def _send(self, message: Message) -> Answer:
        now_s = self._clock.now_ms() // 1000
        signed = headers(message.id, now_s, message.body, keys=self._keys())
        return await self._outbound.post(self._webhook.url, message.body, signed)

    def _noted(self, message: Message, answer: Answer) -> Delivery:
        return Delivery(
            id=message.id,
            channel=message.channel,
            offset=message.to.offset,
            delivered=answer.good,
            status=answer.status,
            error=answer.error,
            at=datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC),
        )
