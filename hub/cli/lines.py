"""A message as one line, for people and for programs; and lines as they come in."""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import AsyncIterator
from typing import BinaryIO

import msgspec

from hub.client import Message
from hub.observe.printable import printable

CHUNK_BYTES = 65_536
MAX_LINE_BYTES = 16 << 20  # no message is as long; whatever is, has no lines


def as_json_line(message: Message) -> str:
    fields = {name: value for name, value in msgspec.structs.asdict(message).items() if value is not None}
    return msgspec.json.encode(fields).decode()


def as_text(message: Message) -> str:
    """`12:30:00.123 prices:BTC-USD 41 PRICE_TICK BTC {"bid": ...}`: time of day (UTC), channel, offset, type, key."""
    moment = datetime.datetime.fromtimestamp(message.timestamp / 1000, datetime.UTC)
    return f"{moment:%H:%M:%S.%f}"[:12] + f" {message.channel} {message.offset} {content(message)}"


def content(message: Message) -> str:
    """Type, key and data."""
    key = f" {message.key}" if message.key else ""
    return printable(f"{message.type}{key} {msgspec.json.encode(message.data).decode()}")


async def read_lines(file: BinaryIO) -> AsyncIterator[bytes]:
    """The lines of a file, a pipe or a terminal, as they come, while the loop goes on. Raises OSError."""
    descriptor = file.fileno()
    rest = b""
    while True:
        await _readable(descriptor)
        chunk = os.read(descriptor, CHUNK_BYTES)
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > MAX_LINE_BYTES:
            raise OSError(f"a line is longer than {MAX_LINE_BYTES} bytes")
        if not chunk:
            if rest:
                yield rest
            return


async def _readable(descriptor: int) -> None:
    # Not by connect_read_pipe: it would make a terminal non-blocking, for standard output as well. Not by a thread:
    # one that waits for a person to type holds up the end of the program.
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:  # a file: it is always ready, and the selector will not have it
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
