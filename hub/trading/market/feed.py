"""Feeds a recording into the hub."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

from hub.clock import Clock
from hub.trading.market.replay import replay
from hub.trading.outgoing import Publish


async def feed_replay(publish: Publish, path: str | Path, speed: float, clock: Clock) -> int:
    """Publish a recording to its end; answers how many messages that were.

    Raises what `replay` raises, and what `publish` raises: a refusal ends the feed.
    """
    published = 0
    async with aclosing(replay(path, speed, clock)) as messages:
        async for channel, kind, data, key in messages:
            await publish(channel, kind, data, key)
            published += 1
    return published
