"""Keeps a market view informed by what is published, whoever publishes it: this node, another one, or a client.

Nothing is followed until somebody needs it: the traffic of all symbols is not for every node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from hub.clock import Clock
from hub.trading.market.view import MarketMessage, MarketView
from protocol.errors import HubError

LOOK_EVERY_S = 5.0  # how late at most the first price of a new symbol is heard when nobody names it
NAMESPACES = ("prices:", "trades:", "instruments:")
MAX_CHANNELS = 10_000

logger = logging.getLogger("krin.market")


class MarketFollower:
    """Finds the market's channels and follows them. `follow` must hand what it hears to `hear`."""

    def __init__(
        self,
        view: MarketView,
        *,
        follow: Callable[[str], Awaitable[None]],
        channels: Callable[[], Awaitable[list[str]]],
        depth: int,
        clock: Clock,
    ) -> None:
        self.view = view
        self._follow = follow
        self._channels = channels
        self._wanted = (*NAMESPACES, f"book:{depth}:")
        self._clock = clock
        self._followed: set[str] = set()
        self._needed = asyncio.Event()
        self._named: asyncio.Queue[str] = asyncio.Queue(MAX_CHANNELS)
        self._unreadable = False

    def hear(self, channel: str, message: Any) -> None:
        if isinstance(message, MarketMessage):
            self.view.hear(message)

    def name(self, channel: str) -> None:
        """Something was published there for the first time."""
        if self._needed.is_set() and not self._named.full():
            self._named.put_nowait(channel)

    async def need(self) -> None:
        """From here on the view is kept informed. On return it knows what is known now, if the broker is there."""
        self._needed.set()
        await self._look()

    async def run(self) -> NoReturn:
        await self._needed.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_again(), name="market channels")
            group.create_task(self._follow_named(), name="new market channels")
        raise AssertionError("the follower's tasks never return")

    async def _look_again(self) -> NoReturn:
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            await self._look()

    async def _follow_named(self) -> NoReturn:
        while True:
            channel = await self._named.get()
            try:
                await self._follow_new(channel)
            except HubError as failure:
                logger.info("%s cannot be read: %s", channel, failure)  # it is found with the next look

    async def _look(self) -> None:
        try:
            for channel in await self._channels():
                await self._follow_new(channel)
        except HubError as failure:
            if not self._unreadable:
                logger.info("the market's channels cannot be read: %s", failure)
            self._unreadable = True
        else:
            self._unreadable = False

    async def _follow_new(self, channel: str) -> None:
        """Follow it, if it is of the market and new."""
        wanted = channel.startswith(self._wanted) and channel not in self._followed
        if wanted and len(self._followed) < MAX_CHANNELS:
            self._followed.add(channel)
            try:
                await self._follow(channel)
            except BaseException:
                self._followed.discard(channel)
                raise
