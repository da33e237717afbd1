"""`krin replay`: what a channel has kept, or a file of messages, published once more."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from hub.cli.lines import read_lines
from hub.cli.parameters import Channel, Number
from hub.cli.shared import hub_client, hub_options, progress, run, say
from hub.client import Client, Message
from hub.clock import Clock, SystemClock
from protocol.channels import split_channel
from protocol.errors import HubError
from protocol.positions import Position

PAGE = 1000

Counted = AsyncIterator[tuple[Message, int | None]]
"""Each message, and of how many, as far as it is known."""


@click.command()
@click.argument("source")
@click.argument("target", type=Channel())
@click.option("--speed", type=Number(0), default=1.0, show_default=True, help="times the pace; 0: no waiting")
@hub_options
def replay(source: str, target: str, speed: float, url: str, token_: str) -> None:
    """Publish what the channel SOURCE has kept to the channel TARGET, in its order and at its pace.

    SOURCE may also be a file that krin history --json or krin tail --json wrote (with a : in its name: ./a:b), or - for
    standard input. Each message goes under an idempotency key made of where it was: repeating a replay that was
    interrupted publishes the rest, as long as TARGET remembers keys.
    """
    if source == target:
        raise click.UsageError("a channel cannot be replayed to itself")

    async def go() -> None:
        async with hub_client(url, token_, name="replay") as krin:
            await _replay(krin, _messages(krin, source), target, speed, SystemClock())

    run(go())


async def _replay(krin: Client, messages: Counted, target: str, speed: float, clock: Clock) -> None:
    """One after the other: sent together, one that is refused for a moment would come after those behind it."""
    began, first_ms = clock.monotonic(), None
    done = repeats = 0
    try:
        with progress(f"to {target}") as show:
            async for message, total in messages:
                if speed:
                    first_ms = message.timestamp if first_ms is None else first_ms
                    due_s = began + (message.timestamp - first_ms) / 1000 / speed
                    await clock.sleep(max(0.0, due_s - clock.monotonic()))
                placed = await krin.publish(
                    *(target, message.type, message.data),
                    key=message.key,
                    idempotency_key=key_of(message),
                    coordination=message.coordination,
                )
                done += 1
                repeats += placed.duplicate
                show(done, total)
    finally:
        was_there = f", {repeats} of them were there already" if repeats else ""
        say(f"{done} messages are in {target}{was_there}")


def key_of(message: Message) -> str:
    """The same for the same message, wherever it was read."""
    place = f"{message.channel}\n{message.epoch}\n{message.offset}"
    return f"replay:{hashlib.sha256(place.encode()).hexdigest()[:32]}"


def _messages(krin: Client, source: str) -> Counted:
    if source == "-":
        return _written(sys.stdin.buffer, "standard input")
    try:
        split_channel(source)
    except HubError:
        path = Path(source)
        if not path.is_file():
            raise click.UsageError(f"{source} is neither a channel (namespace:name) nor a file") from None
        return _opened(path)
    return _kept(krin, source)


async def _kept(krin: Client, channel: str) -> Counted:
    """Up to the message that is the newest now."""
    page = await krin.history(channel, None, PAGE)
    end, total = page.offset, page.offset - page.messages[0].offset + 1 if page.messages else 0
    while True:
        for message in page.messages:
            if message.offset <= end:
                yield message, total
        if not page.more or not page.messages or page.messages[-1].offset >= end:
            return
        page = await krin.history(channel, Position(page.epoch, page.messages[-1].offset), PAGE)


async def _opened(path: Path) -> Counted:
    with path.open("rb") as file:
        total = sum(1 for _ in file)
        file.seek(0)
        async for message, _ in _written(file, path.name):
            yield message, total


async def _written(file: BinaryIO, name: str) -> Counted:
    number = 0
    async for line in read_lines(file):
        number += 1
        try:
            yield msgspec.json.decode(line, type=Message), None
        except msgspec.MsgspecError as failure:
            raise click.ClickException(f"line {number} of {name} is no message: {failure}") from None
