"""A recording played back at its own pace or any other. The output is the same at every speed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from hub.clock import Clock
from hub.pace import Pace
from hub.trading.market.captures import (
    CaptureError,
    Parse,
    SourceName,
    binance_symbols,
    parser_for,
    recognise,
    split_line,
)
from hub.trading.market.consolidation import Rules
from hub.trading.market.desk import DOWN_AFTER_US, MarketDesk
from hub.trading.market.events import Candle, Event, Listed, TradePrint
from hub.trading.market.source import Role, SourceLost
from hub.trading.outgoing import Outgoing

LINES_AT_A_TIME = 256
MARKS = {"replayed": True}
DRAIN_US = 50_000  # how finely time passes between two messages
RULES = Rules(stale_after_us=60_000_000)  # thin markets, and a recording does not show that the line was alive
BOOK_INTERVAL_US = 100_000


async def replay(path: str | Path, speed: float, clock: Clock) -> AsyncGenerator[Outgoing]:
    """Publications in the order they were recorded. `speed` 1 is the recorded pace, 10 ten times that, 0 no pauses.

    Times stay those of the recording: `ts_event` the exchange's, `ts_recv` the recorder's; every message carries
    `ext: {"replayed": true}`. The exchange is recognised by the first line that tells. Binance's symbol names are
    looked up in `<name>_rest.txt` beside the recording where there is one, and guessed otherwise.
    Raises ValueError for a speed that is no number >= 0, CaptureError (with the line) for an unreadable recording.
    """
    if not math.isfinite(speed) or speed < 0:
        raise ValueError("speed must be 0 (no pauses) or more")
    pace = Pace(speed, clock)
    desk = MarketDesk(rules=RULES, book_interval_us=BOOK_INTERVAL_US, marks=MARKS)
    joined: SourceName | None = None
    now_us = 0
    async with aclosing(_recorded(Path(path))) as recorded:
        async for source, received_us, events in recorded:
            if joined is None:
                joined, now_us = source, received_us
                desk.join(source, role="PRIMARY", symbols=(), now_us=now_us)
                desk.connected(source, now_us)
            while now_us + DRAIN_US < received_us:
                now_us += DRAIN_US
                for out in await _told(desk, now_us, pace):
                    yield out
            now_us = max(now_us, received_us)  # the recorder's clock may have been set back
            await pace.until(now_us)
            for event in events:
                desk.take(source, event, now_us)
            for out in desk.drain(now_us):
                yield out
    if joined is not None:
        for out in desk.drain(now_us + BOOK_INTERVAL_US):  # the books still held back
            yield out
        desk.lost(joined, now_us, "end of the recording")
        for out in desk.drain(now_us + DOWN_AFTER_US):
            yield out


async def _told(desk: MarketDesk, now_us: int, pace: Pace) -> list[Outgoing]:
    if out := desk.drain(now_us):
        await pace.until(now_us)
    return out


class CaptureSource:
    """A recording as a source among others: its times are moved to now, and after its end it begins again."""

    marks = MARKS

    def __init__(
        self, name: str, path: str | Path, *, clock: Clock, speed: float = 1.0, role: Role = "PRIMARY"
    ) -> None:
        self.name = name
        self.role: Role = role
        self.symbols: Sequence[str] = ()
        self._path = Path(path)
        self._speed = speed
        self._clock = clock
        self._round = 0

    async def events(self) -> AsyncGenerator[Sequence[Event]]:
        pace = Pace(self._speed, self._clock)
        self._round += 1
        try:
            async with aclosing(_recorded(self._path)) as recorded:
                async for _, received_us, events in recorded:
                    await pace.until(received_us)
                    later_us = self._clock.now_us() - received_us
                    yield [_later(event, later_us, self._round) for event in events]
        except (CaptureError, OSError) as failure:
            raise SourceLost("the recording cannot be read") from failure
        raise SourceLost("end of the recording")

    async def resync(self, symbol: str) -> None:
        raise SourceLost("a recording has no other snapshot")


def _later(event: Event, by_us: int, round: int) -> Event:
    if isinstance(event, TradePrint) and round > 1:  # not the trade of the first round once more
        event = replace(event, trade_id=f"{event.trade_id}-{round}")
    if isinstance(event, Candle | Listed) or event.ts_event is None:
        return event
    return replace(event, ts_event=event.ts_event + by_us)


async def _recorded(path: Path) -> AsyncGenerator[tuple[SourceName, int, list[Event]]]:
    """(source, when received, events) of each line that holds a message."""
    source: SourceName | None = None
    parse: Parse | None = None
    number = 0
    with await asyncio.to_thread(path.open, "rb") as file:
        # Read in a thread, many lines at a time: it costs little, and lets the loop breathe when nothing else pauses.
        while lines := await asyncio.to_thread(_read, file):
            for line in lines:
                number += 1
                if source is None or parse is None:
                    if (source := recognise(line)) is None:
                        continue
                    parse = parser_for(source, await asyncio.to_thread(_symbols_beside, path, source))
                if (received := split_line(line)) is None:
                    continue
                try:
                    events = parse(received[1])
                except CaptureError as wrong:
                    raise CaptureError(f"{path.name}, line {number}: {wrong}") from wrong
                yield source, received[0], events
    if source is None:
        raise CaptureError(f"{path.name}: not a recording of an exchange we know")


def _read(file: BinaryIO) -> list[bytes]:
    return [line.rstrip(b"\r\n") for line in islice(file, LINES_AT_A_TIME)]


def _symbols_beside(path: Path, source: SourceName) -> dict[str, str]:
    beside = path.with_name(f"{path.stem}_rest.txt")
    if source != "binance_us" or not beside.is_file():
        return {}
    with beside.open("rb") as file:
        for address, body in _answers(file):
            if b"/exchangeInfo" in address:
                return binance_symbols(body)
    return {}


def _answers(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(address, body) of `<url> -> <seconds>: <body>` lines."""
    for line in file:
        address, arrow, rest = line.partition(b" -> ")
        if arrow and (answer := split_line(rest)) is not None:
            yield address, answer[1]
