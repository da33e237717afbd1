"""`krin tail`: follow channels on a terminal."""

from __future__ import annotations

import asyncio
import datetime
import sys
from collections.abc import Iterable

import msgspec

from hub.client.client import Client
from hub.client.subscription import Lost, Subscription
from hub.client.wire import Message


async def follow(
    channels: Iterable[str], *, url: str, token: str, as_json: bool = False, rewind: str | None = None
) -> None:
    """Print what the channels carry, a line a message, until interrupted. `rewind`: a count, or an age as "30s".

    Raises HubError when the hub refuses one of the channels, Disconnected.
    """
    start = int(rewind) if rewind is not None and rewind.isdecimal() else rewind
    line = as_json_line if as_json else as_text

    async def print_all(subscription: Subscription) -> None:
        async with subscription:
            async for message in subscription:
                print(line(message), flush=True)

    async with Client(url, token=token, name="tail") as krin, asyncio.TaskGroup() as group:
        for channel in dict.fromkeys(channels):
            group.create_task(print_all(krin.subscribe(channel, rewind=start, on_lost=_warn)), name=f"tail {channel}")


def as_json_line(message: Message) -> str:
    fields = {name: value for name, value in msgspec.structs.asdict(message).items() if value is not None}
    return msgspec.json.encode(fields).decode()


def as_text(message: Message) -> str:
    """`12:30:00.123 prices:BTC-USD 41 PRICE_TICK BTC {"bid": ...}`: time of day (UTC), channel, offset, type, key."""
    moment = datetime.datetime.fromtimestamp(message.timestamp / 1000, datetime.UTC)
    key = f" {message.key}" if message.key else ""
    data = msgspec.json.encode(message.data).decode()
    return f"{moment:%H:%M:%S.%f}"[:12] + f" {message.channel} {message.offset} {message.type}{key} {data}"


def _warn(lost: Lost) -> None:
    print(f"{lost.channel}: lost {lost.since} to {lost.resumed_at} ({lost.reason})", file=sys.stderr, flush=True)
