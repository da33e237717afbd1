"""A simulated market: invented prices from four invented sources. Every message says `ext: {"simulated": true}`.

Pure and deterministic: for a seed and a start the events depend only on how far the time has been advanced, not on how
many calls it took. What a symbol does depends on the seed and its name, not on which other symbols there are.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from hub.clock import Clock
from hub.trading.decimals import EXACT, text
from hub.trading.market.events import BookSnapshot, BookUpdate, Event, Listed, Quote, TradePrint
from hub.trading.market.source import Role, SourceLost
from protocol import trading
from protocol.trading import Level, Side

SIMULATED = {"simulated": True}
BOOK_DEPTH = 10
BOOK_INTERVAL_US = 250_000
MAX_CATCH_UP_US = 2_000_000
SECOND_US = 1_000_000


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """`price` is where the walk starts and what it is drawn back to; `volatility_bps` its step per second."""

    symbol: str
    tick_size: str
    lot_size: str
    price: str
    typical_size: str
    volatility_bps: float = 2.0

    def price_at(self, ticks: int) -> str:
        return text(EXACT.multiply(Decimal(self.tick_size), Decimal(ticks)))

    def size_of(self, lots: int) -> str:
        return text(EXACT.multiply(Decimal(self.lot_size), Decimal(lots)))

    def listing(self, *, halted: bool) -> trading.Instrument:
        base, _, quote = self.symbol.partition("-")
        return trading.Instrument(
            symbol=self.symbol,
            base=base,
            quote=quote or "USD",
            tick_size=self.tick_size,
            lot_size=self.lot_size,
            min_qty=self.lot_size,
            status="HALT" if halted else "TRADING",
            reason="volatility pause" if halted else None,
        )

    @property
    def start_ticks(self) -> int:
        return int(Decimal(self.price) / Decimal(self.tick_size))

    @property
    def typical_lots(self) -> int:
        return int(Decimal(self.typical_size) / Decimal(self.lot_size))


DEFAULT_INSTRUMENTS = (
    Instrument(symbol="BTC-USD", tick_size="0.01", lot_size="0.0001", price="64250.00", typical_size="0.2500"),
    Instrument(symbol="ETH-USD", tick_size="0.01", lot_size="0.001", price="3120.00", typical_size="4.000"),
    Instrument(symbol="SOL-USD", tick_size="0.01", lot_size="0.01", price="148.50", typical_size="60.00"),
    Instrument(symbol="AAPL", tick_size="0.01", lot_size="1", price="228.40", typical_size="100"),
    Instrument(symbol="EUR-USD", tick_size="0.00001", lot_size="1000", price="1.08450", typical_size="250000"),
)


def instruments(count: int) -> tuple[Instrument, ...]:
    """That many instruments: the well-known ones, then SIM006-USD and so on."""
    more = (
        Instrument(
            symbol=f"SIM{n:03}-USD", tick_size="0.01", lot_size="0.1", price=f"{20 + 7 * n}.00", typical_size="25.0"
        )
        for n in range(len(DEFAULT_INSTRUMENTS) + 1, count + 1)
    )
    return (*DEFAULT_INSTRUMENTS[:count], *more)


class Venue(msgspec.Struct, frozen=True, kw_only=True):
    """A simulated source: how late it is, how far it strays from the common price, how wide it quotes."""

    name: str
    role: Role
    latency_ms: int
    noise_bps: float
    half_spread_bps: float


DEFAULT_VENUES = (
    Venue(name="sim-alpha", role="PRIMARY", latency_ms=8, noise_bps=0.1, half_spread_bps=0.8),
    Venue(name="sim-beta", role="PRIMARY", latency_ms=25, noise_bps=0.2, half_spread_bps=1.2),
    Venue(name="sim-gamma", role="PRIMARY", latency_ms=60, noise_bps=0.3, half_spread_bps=1.8),
    Venue(name="sim-delta", role="SECONDARY", latency_ms=90, noise_bps=0.4, half_spread_bps=2.5),
)

Fault = Literal["disconnected", "silent", "off_market", "lossy"]
FAULTS: tuple[Fault, ...] = ("disconnected", "disconnected", "silent", "off_market", "lossy")
LOSSY_S = 0.5  # long enough to lose an update of every book


class _Health:
    """One venue's faults. Each begins and ends by its own dice; a common one strikes all venues at once."""

    def __init__(self, venue: Venue, *, seed: int, start_us: int, fault_every_s: float) -> None:
        self.fault: Fault | None = None
        self._random = random.Random(f"{seed}:{venue.name}")
        self._fault_every_s = fault_every_s
        self._until_us = 0
        self._next_us = start_us + self._pause()

    def step(self, at_us: int, common_until_us: int) -> None:
        if self.fault is not None and at_us >= self._until_us:
            self.fault = None
            self._next_us = at_us + self._pause()
        if self.fault is None and common_until_us > at_us:
            self.fault, self._until_us = "disconnected", common_until_us
        elif self.fault is None and at_us >= self._next_us:
            self.fault = self._random.choice(FAULTS)
            lasts_s = LOSSY_S if self.fault == "lossy" else self._random.uniform(4, 12)
            self._until_us = at_us + round(lasts_s * SECOND_US)

    def _pause(self) -> int:
        return round(self._random.expovariate(1 / self._fault_every_s) * SECOND_US)


class _Line:
    """What one venue says of one symbol, and what of it is still on its way."""

    def __init__(self) -> None:
        self.travelling: deque[tuple[int, Event]] = deque()  # (when it arrives, event)
        self.levels: dict[Side, dict[str, str]] = {"BUY": {}, "SELL": {}}  # its book as last said
        self.lots: dict[tuple[Side, int], int] = {}  # (side, price in ticks) -> size, of that book
        self.book_due_us = 0
        self.book_id = 0
        self.snapshot = True  # the next book is said whole


class _Symbol:
    """One instrument's market. All prices in ticks, all sizes in lots, until they are written down."""

    def __init__(
        self,
        instrument: Instrument,
        *,
        venues: Sequence[Venue],
        seed: int,
        start_us: int,
        rate: float,
        halt_every_s: float,
    ) -> None:
        self.instrument = instrument
        self.halted = False
        self.lines = {venue.name: _Line() for venue in venues}
        self._venues = venues
        self._random = random.Random(f"{seed}:{instrument.symbol}")
        self._halts = random.Random(f"{seed}:{instrument.symbol}:halts")
        self._halt_every_s = halt_every_s
        self._halt_change_us = start_us + self._until_halt()
        self._rate = rate
        self._start_us = start_us  # in the trade ids: two runs must not share them
        self._value = float(instrument.start_ticks)  # what the thing is worth; the venues quote around it
        self._trades = 0

    def step(self, at_us: int, faults: dict[str, Fault | None]) -> None:
        if at_us >= self._halt_change_us:
            self._halt_or_resume(at_us)
        self._move()
        trading_venue = self._random.randrange(len(self._venues))
        for number, venue in enumerate(self._venues):
            line = self.lines[venue.name]
            said = self._say(venue, line, at_us, faults[venue.name], trades=number == trading_venue)
            latency_us = round(venue.latency_ms * 1000 * self._random.uniform(0.7, 1.8))
            if faults[venue.name] == "disconnected":
                line.travelling.clear()
                line.snapshot = True
            elif faults[venue.name] != "silent" and not self.halted:
                line.travelling.extend((at_us + latency_us, event) for event in said)

    def arrived(self, venue: str, at_us: int) -> list[Event]:
        travelling = self.lines[venue].travelling
        found: list[Event] = []
        while travelling and travelling[0][0] <= at_us:
            found.append(travelling.popleft()[1])
        return found

    def _until_halt(self) -> int:
        return round(self._halts.expovariate(1 / self._halt_every_s) * SECOND_US)

    def _halt_or_resume(self, at_us: int) -> None:
        self.halted = not self.halted
        lasts_us = round(self._halts.uniform(5, 10) * SECOND_US) if self.halted else self._until_halt()
        self._halt_change_us = at_us + lasts_us
        for line in self.lines.values():
            line.travelling.append((at_us, Listed(self.instrument.listing(halted=self.halted))))
            line.snapshot = True

    def _move(self) -> None:
        anchor = self.instrument.start_ticks
        step = anchor * self.instrument.volatility_bps / 10_000 / self._rate**0.5
        self._value += self._random.gauss(0, step) + (anchor - self._value) * 0.002 / self._rate
        self._value = max(self._value, anchor * 0.2)

    def _say(self, venue: Venue, line: _Line, at_us: int, fault: Fault | None, *, trades: bool) -> list[Event]:
        """What a venue says now, heard or not: a fault changes no later throw of the dice."""
        dice = self._random
        noise = dice.gauss(0, venue.noise_bps) + (120 if fault == "off_market" else 0)
        width = venue.half_spread_bps * dice.uniform(0.8, 1.2)
        bid_lots, ask_lots = self._lots(), self._lots()
        speaks = dice.random() < 0.8
        trade = (dice.random(), dice.random() < 0.5, max(1, self._lots() // 4))
        if not speaks:
            return []
        mid = self._value * (1 + noise / 10_000)
        half = mid * width / 10_000
        bid = max(1, int(mid - half))
        ask = max(bid + 1, int(mid + half) + 1)
        price, size = self.instrument.price_at, self.instrument.size_of
        symbol = self.instrument.symbol
        said: list[Event] = [
            Quote(
                symbol=symbol,
                bid=price(bid),
                bid_size=size(bid_lots),
                ask=price(ask),
                ask_size=size(ask_lots),
                ts_event=at_us,
            )
        ]
        if at_us >= line.book_due_us:
            line.book_due_us = at_us + BOOK_INTERVAL_US
            said += self._book(line, (bid, bid_lots), (ask, ask_lots), at_us, lost=fault == "lossy")
        chance, buys, lots = trade
        if trades and chance < 1.5 / self._rate:
            self._trades += 1
            said.append(
                TradePrint(
                    symbol=symbol,
                    price=price(ask if buys else bid),
                    size=size(lots),
                    trade_id=f"sim-{self._start_us:x}-{self._trades}",
                    aggressor="BUYER" if buys else "SELLER",
                    ts_event=at_us,
                )
            )
        return said

    def _lots(self) -> int:
        return max(1, round(self.instrument.typical_lots * self._random.lognormvariate(0, 0.6)))

    def _book(
        self, line: _Line, bid: tuple[int, int], ask: tuple[int, int], at_us: int, *, lost: bool
    ) -> list[BookSnapshot | BookUpdate]:
        """The whole book, or what changed since it was last said. `lost`: nobody hears it."""
        lots: dict[tuple[Side, int], int] = {}
        levels: dict[Side, dict[str, str]] = {
            "BUY": dict(self._side("BUY", bid, line.lots, lots)),
            "SELL": dict(self._side("SELL", ask, line.lots, lots)),
        }
        before, line.levels = line.levels, levels
        line.lots = lots  # what fell out of sight is forgotten
        line.book_id += 1
        symbol = self.instrument.symbol
        if lost:
            return []
        if line.snapshot:
            line.snapshot = False
            bids, asks = [*levels["BUY"].items()], [*levels["SELL"].items()]
            return [BookSnapshot(symbol=symbol, bids=bids, asks=asks, last_id=line.book_id, ts_event=at_us)]
        return [
            BookUpdate(
                symbol=symbol,
                bids=_changes(before["BUY"], levels["BUY"]),
                asks=_changes(before["SELL"], levels["SELL"]),
                first_id=line.book_id,
                last_id=line.book_id,
                ts_event=at_us,
            )
        ]

    def _side(
        self, side: Side, best: tuple[int, int], known: dict[tuple[Side, int], int], kept: dict[tuple[Side, int], int]
    ) -> list[Level]:
        """The best level as quoted, and behind it levels on a fixed grid, most of which keep their size."""
        price, lots = best
        grid = max(1, round(price * 0.3 / 10_000))
        levels: list[Level] = [(self.instrument.price_at(price), self.instrument.size_of(lots))]
        for n in range(BOOK_DEPTH - 1):
            ticks = ((price - 1) // grid - n) * grid if side == "BUY" else (price // grid + 1 + n) * grid
            if ticks < 1:
                break
            behind = known.get((side, ticks))
            if behind is None or self._random.random() < 0.1:
                behind = self._lots() * (n + 2)
            kept[side, ticks] = behind
            levels.append((self.instrument.price_at(ticks), self.instrument.size_of(behind)))
        return levels


def _changes(before: dict[str, str], after: dict[str, str]) -> list[Level]:
    gone = [(price, "0") for price in before if price not in after]
    return gone + [(price, size) for price, size in after.items() if before.get(price) != size]


class SimulatedMarket:
    """Several symbols at several venues. `rate` is how often a second the market moves.

    `fault_every_s` is how long a venue lasts on average before it fails; all fail together four times as rarely.
    `halt_every_s` is how long a symbol trades on average before it is halted for a few seconds.
    """

    def __init__(
        self,
        seed: int,
        *,
        start_us: int,
        instruments: Sequence[Instrument] = DEFAULT_INSTRUMENTS,
        venues: Sequence[Venue] = DEFAULT_VENUES,
        rate: float = 10.0,
        fault_every_s: float = 60.0,
        halt_every_s: float = 1800.0,
    ) -> None:
        if not 0 < rate <= 1000:
            raise ValueError("rate must be above 0 and at most 1000 steps per second")
        self.period_us = round(SECOND_US / rate)
        self.venues = venues
        self.symbols = [instrument.symbol for instrument in instruments]
        self._next_us = start_us
        self._now_us = start_us
        self._random = random.Random(f"{seed}:common")
        self._common_every_s = 4 * fault_every_s
        self._common_until_us = 0
        self._common_next_us = start_us + self._common_pause()
        self._health = {
            venue.name: _Health(venue, seed=seed, start_us=start_us, fault_every_s=fault_every_s) for venue in venues
        }
        self._markets = {
            instrument.symbol: _Symbol(
                instrument, venues=venues, seed=seed, start_us=start_us, rate=rate, halt_every_s=halt_every_s
            )
            for instrument in instruments
        }

    def step(self, now_us: int) -> None:
        """Let happen what happens up to now. After a long pause (a suspended machine) the market goes on from now
        instead of catching up. Time that goes back makes nothing happen."""
        if now_us - self._next_us > max(MAX_CATCH_UP_US, 2 * self.period_us):
            self._next_us = now_us
        while self._next_us <= now_us:
            self._now_us = self._next_us
            self._step(self._next_us)
            self._next_us += self.period_us

    def reachable(self, venue: str) -> bool:
        return self._health[venue].fault != "disconnected"

    def arrived(self, venue: str) -> list[Event]:
        """What has arrived from a venue by the last step and was not fetched yet."""
        return [event for market in self._markets.values() for event in market.arrived(venue, self._now_us)]

    def greet(self, venue: str) -> list[Event]:
        """What a venue says first to who connects; its books follow whole."""
        for symbol, market in self._markets.items():
            market.lines[venue].travelling.clear()
            self.resync(venue, symbol)
        return [Listed(market.instrument.listing(halted=market.halted)) for market in self._markets.values()]

    def resync(self, venue: str, symbol: str) -> None:
        """The venue's next book of the symbol is whole."""
        self._markets[symbol].lines[venue].snapshot = True

    def _step(self, at_us: int) -> None:
        if at_us >= self._common_next_us:
            self._common_until_us = at_us + round(self._random.uniform(3, 6) * SECOND_US)
            self._common_next_us = self._common_until_us + self._common_pause()
        for health in self._health.values():
            health.step(at_us, self._common_until_us)
        faults = {name: health.fault for name, health in self._health.items()}
        for market in self._markets.values():
            market.step(at_us, faults)

    def _common_pause(self) -> int:
        return round(self._random.expovariate(1 / self._common_every_s) * SECOND_US)


class SimulatedSource:
    """One venue of a simulated market as a source. The sources of one market share it."""

    marks = SIMULATED

    def __init__(self, market: SimulatedMarket, venue: Venue, *, clock: Clock) -> None:
        self.name = venue.name
        self.role = venue.role
        self.symbols = market.symbols
        self._market = market
        self._clock = clock

    async def events(self) -> AsyncGenerator[Sequence[Event]]:
        market = self._market
        market.step(self._clock.now_us())
        self._check()
        yield market.greet(self.name)
        began, turn = self._clock.monotonic(), 0
        period_s = market.period_us / SECOND_US
        while True:
            # To the next moment of a fixed grid: how long handling took does not slow the market down.
            turn = max(turn, int((self._clock.monotonic() - began) / period_s)) + 1
            await self._clock.sleep(max(0.0, began + turn * period_s - self._clock.monotonic()))
            market.step(self._clock.now_us())
            self._check()
            if events := market.arrived(self.name):
                yield events

    async def resync(self, symbol: str) -> None:
        self._market.resync(self.name, symbol)

    def _check(self) -> None:
        if not self._market.reachable(self.name):
            raise SourceLost("connection lost")


def simulated_sources(market: SimulatedMarket, *, clock: Clock) -> list[SimulatedSource]:
    return [SimulatedSource(market, venue, clock=clock) for venue in market.venues]
