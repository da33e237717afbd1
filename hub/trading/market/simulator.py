"""A simulated market: invented prices from three invented sources. Every message says `ext: {"simulated": true}`.

Pure and deterministic: for a seed and a start the messages depend only on how far the time has been advanced, not on
how many calls it took. What a symbol does depends on the seed and its name, not on which other symbols there are.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

import msgspec
from msgspec.structs import replace

from hub.trading.decimals import EXACT, text
from hub.trading.market.bars import BarBuilder
from hub.trading.market.consolidation import Rules, SourceQuote, consolidate, outliers_of
from hub.trading.market.source_view import STATUS_CHANNEL, book_message
from hub.trading.outgoing import Outgoing
from protocol.trading import Level, PriceTick, Quality, SourceStatus, Trade

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
    role: Literal["PRIMARY", "SECONDARY"]
    latency_ms: int
    noise_bps: float
    half_spread_bps: float


DEFAULT_VENUES = (
    Venue(name="sim-alpha", role="PRIMARY", latency_ms=8, noise_bps=0.1, half_spread_bps=0.8),
    Venue(name="sim-beta", role="SECONDARY", latency_ms=25, noise_bps=0.2, half_spread_bps=1.2),
    Venue(name="sim-gamma", role="SECONDARY", latency_ms=60, noise_bps=0.3, half_spread_bps=1.8),
)

Fault = Literal["disconnected", "silent", "off_market"]


class _Source:
    """One venue's health. A fault begins and ends by its own dice; `common` is one that strikes all venues at once."""

    def __init__(self, venue: Venue, *, seed: int, start_us: int, fault_every_s: float, stale_after_us: int) -> None:
        self.venue = venue
        self.fault: Fault | None = None
        self._random = random.Random(f"{seed}:{venue.name}")
        self._fault_every_s = fault_every_s
        self._stale_after_us = stale_after_us
        self._state: Literal["CONNECTED", "RECONNECTING", "SUSPECT", "DOWN"] | None = None
        self._since_us = start_us
        self._until_us = 0
        self._next_us = start_us + self._pause()
        self._gaps = 0
        self._reconnects = 0

    def step(self, at_us: int, common_until_us: int) -> SourceStatus | None:
        """Begin or end a fault; answers the new status if it changed."""
        if self.fault is not None and at_us >= self._until_us:
            self._end(at_us)
        if self.fault is None and common_until_us > at_us:
            self._begin("disconnected", at_us, common_until_us)
        elif self.fault is None and at_us >= self._next_us:
            kind = self._random.choice(_FAULTS)
            self._begin(kind, at_us, at_us + round(self._random.uniform(4, 12) * SECOND_US))
        return self._status(at_us)

    def _begin(self, fault: Fault, at_us: int, until_us: int) -> None:
        self.fault = fault
        self._since_us = at_us
        self._until_us = until_us

    def _end(self, at_us: int) -> None:
        if self.fault == "disconnected":
            self._reconnects += 1
        if self.fault == "silent":
            self._gaps += 1
        self.fault = None
        self._next_us = at_us + self._pause()

    def _pause(self) -> int:
        return round(self._random.expovariate(1 / self._fault_every_s) * SECOND_US)

    def _status(self, at_us: int) -> SourceStatus | None:
        state, reason = self._health(at_us)
        if state == self._state:
            return None
        self._state = state
        return SourceStatus(
            source=self.venue.name,
            state=state,
            role=self.venue.role,
            last_ts_event=at_us if self.fault is None else self._since_us,
            gap_count=self._gaps,
            reconnects=self._reconnects,
            reason=reason,
            ext=SIMULATED,
        )

    def _health(self, at_us: int) -> tuple[Literal["CONNECTED", "RECONNECTING", "SUSPECT", "DOWN"], str | None]:
        lasting_us = at_us - self._since_us
        match self.fault:
            case "disconnected" if lasting_us < 3 * SECOND_US:
                return "RECONNECTING", "connection lost"
            case "disconnected":
                return "DOWN", "does not answer"
            case "silent" if lasting_us > self._stale_after_us:
                return "SUSPECT", "connected, but silent"
            case "off_market":
                return "SUSPECT", "quotes far from the other sources"
            case _:
                return "CONNECTED", None


_FAULTS: tuple[Fault, ...] = ("disconnected", "disconnected", "silent", "off_market")


class _Symbol:
    """One instrument's market. All prices in ticks, all sizes in lots, until they are written down."""

    def __init__(
        self, instrument: Instrument, *, venues: Sequence[Venue], seed: int, start_us: int, rate: float, rules: Rules
    ) -> None:
        self._instrument = instrument
        self._venues = venues
        self._random = random.Random(f"{seed}:{instrument.symbol}")
        self._rules = rules
        self._rate = rate
        self._start_us = start_us  # in the trade ids: two runs must not share them
        self._value = float(instrument.start_ticks)  # what the thing is worth; the sources quote around it
        self._travelling: dict[str, deque[SourceQuote]] = {venue.name: deque() for venue in venues}
        self._arrived: dict[str, SourceQuote] = {}
        self._tick: PriceTick | None = None  # as last published
        self._seq = self._trade_seq = self._book_seq = 0
        self._depths: dict[tuple[str, int], int] = {}  # (side, price in ticks) -> lots
        self._book_due_us = start_us
        self._second_us = start_us
        symbol = instrument.symbol
        self._seconds = BarBuilder(symbol, "1s", source="consolidated", ext=SIMULATED)
        self._minutes = BarBuilder(symbol, "1m", source="consolidated", ext=SIMULATED)

    def step(self, at_us: int, faults: dict[str, Fault]) -> list[Outgoing]:
        self._move()
        for venue in self._venues:
            self._quote(venue, at_us, faults.get(venue.name))
        out = self._bars(at_us)
        out += self._price(at_us, faults)
        if self._tick is not None and self._tick.state != "STALE":
            out += self._trade(at_us, self._tick)
            out += self._book(at_us, self._tick)
        return out

    def _move(self) -> None:
        anchor = self._instrument.start_ticks
        step = anchor * self._instrument.volatility_bps / 10_000 / self._rate**0.5
        self._value += self._random.gauss(0, step) + (anchor - self._value) * 0.002 / self._rate
        self._value = max(self._value, anchor * 0.2)

    def _quote(self, venue: Venue, at_us: int, fault: Fault | None) -> None:
        """Let a venue speak, and let arrive what it said a latency ago. A fault changes no later throw of the dice."""
        dice = self._random
        noise = dice.gauss(0, venue.noise_bps) + (120 if fault == "off_market" else 0)
        width = venue.half_spread_bps * dice.uniform(0.8, 1.2)
        bid_lots, ask_lots = self._lots(), self._lots()
        latency_us = round(venue.latency_ms * 1000 * dice.uniform(0.7, 1.8))
        speaks = dice.random() < 0.8
        travelling = self._travelling[venue.name]
        if fault == "disconnected":
            travelling.clear()
        elif speaks and fault != "silent":
            mid = self._value * (1 + noise / 10_000)
            half = mid * width / 10_000
            bid = max(1, int(mid - half))
            ask = max(bid + 1, int(mid + half) + 1)
            travelling.append(
                SourceQuote(
                    source=venue.name,
                    bid=self._instrument.price_at(bid),
                    bid_size=self._instrument.size_of(bid_lots),
                    ask=self._instrument.price_at(ask),
                    ask_size=self._instrument.size_of(ask_lots),
                    ts_event=at_us,
                    ts_recv=at_us + latency_us,
                )
            )
        while travelling and travelling[0].ts_recv <= at_us:
            self._arrived[venue.name] = travelling.popleft()

    def _lots(self) -> int:
        return max(1, round(self._instrument.typical_lots * self._random.lognormvariate(0, 0.6)))

    def _price(self, at_us: int, faults: dict[str, Fault]) -> list[Outgoing]:
        quotes = [replace(quote, connected=faults.get(name) != "disconnected") for name, quote in self._arrived.items()]
        if not quotes:
            return []
        before = self._tick
        tick = consolidate(
            self._instrument.symbol,
            quotes,
            now_us=at_us,
            rules=self._rules,
            sources=[venue.name for venue in self._venues],
            outliers=outliers_of(before) if before is not None else (),
        )
        if tick is None:
            if before is None or before.state == "STALE":
                return []  # said once: an old price must not look like news
            tick = self._gone_stale(before, at_us)
        elif before is not None and _same_price(before, tick):
            return []
        self._seq += 1
        self._tick = replace(tick, seq=self._seq, ext=SIMULATED)
        return [Outgoing(f"prices:{tick.symbol}", "PRICE_TICK", self._tick)]

    def _gone_stale(self, last: PriceTick, at_us: int) -> PriceTick:
        quality = Quality(
            sources_ok=0,
            sources_total=len(self._venues),
            age_us=max(0, at_us - (last.ts_event or at_us)),
        )
        return replace(last, state="STALE", quality=quality)

    def _trade(self, at_us: int, tick: PriceTick) -> list[Outgoing]:
        if self._random.random() >= 1.5 / self._rate or tick.bid is None or tick.ask is None:
            return []
        buys = self._random.random() < 0.5
        self._trade_seq += 1
        trade = Trade(
            symbol=tick.symbol,
            price=tick.ask if buys else tick.bid,
            size=self._instrument.size_of(max(1, self._lots() // 4)),
            source="consolidated",
            trade_id=f"sim-{self._start_us:x}-{self._trade_seq}",
            aggressor_side="BUYER" if buys else "SELLER",
            seq=self._trade_seq,
            ts_event=at_us,
            ts_recv=at_us,
            ext=SIMULATED,
        )
        self._seconds.add(trade)
        self._minutes.add(trade)
        return [Outgoing(f"trades:{trade.symbol}", "TRADE", trade)]

    def _bars(self, at_us: int) -> list[Outgoing]:
        """Finished bars, and once a second the unfinished minute."""
        bars = [self._seconds.close(at_us), self._minutes.close(at_us)]
        if at_us - self._second_us >= SECOND_US:
            self._second_us = at_us
            bars.append(self._minutes.update())
        return [Outgoing(f"bars:{bar.interval}:{bar.symbol}", "BAR", bar) for bar in bars if bar is not None]

    def _book(self, at_us: int, tick: PriceTick) -> list[Outgoing]:
        crossed = tick.quality is not None and tick.quality.crossed
        if at_us < self._book_due_us or crossed or tick.bid is None or tick.ask is None:
            return []
        self._book_due_us = at_us + BOOK_INTERVAL_US
        self._book_seq += 1
        depths: dict[tuple[str, int], int] = {}
        bids = self._side("bid", tick.bid, tick.bid_size or "0", depths)
        asks = self._side("ask", tick.ask, tick.ask_size or "0", depths)
        self._depths = depths  # what fell out of sight is forgotten
        book = book_message(
            tick.symbol,
            bids,
            asks,
            depth=BOOK_DEPTH,
            source="consolidated",
            seq=self._book_seq,
            ts_event=tick.ts_event,
            ts_recv=at_us,
            ext=SIMULATED,
        )
        return [Outgoing(f"book:{BOOK_DEPTH}:{tick.symbol}", "BOOK", book)]

    def _side(
        self, side: Literal["bid", "ask"], price: str, size: str, depths: dict[tuple[str, int], int]
    ) -> list[Level]:
        """The best level as quoted, and behind it levels on a fixed grid, most of which keep their size."""
        best = int(Decimal(price) / Decimal(self._instrument.tick_size))
        grid = max(1, round(best * 0.3 / 10_000))
        levels: list[Level] = [(price, size)]
        for n in range(BOOK_DEPTH - 1):
            ticks = ((best - 1) // grid - n) * grid if side == "bid" else (best // grid + 1 + n) * grid
            if ticks < 1:
                break
            lots = self._depths.get((side, ticks))
            if lots is None or self._random.random() < 0.1:
                lots = self._lots() * (n + 2)
            depths[side, ticks] = lots
            levels.append((self._instrument.price_at(ticks), self._instrument.size_of(lots)))
        return levels


def _same_price(one: PriceTick, other: PriceTick) -> bool:
    return (one.bid, one.bid_size, one.ask, one.ask_size, one.state) == (
        other.bid,
        other.bid_size,
        other.ask,
        other.ask_size,
        other.state,
    )


class SimulatedMarket:
    """Several symbols at several sources. `rate` is how often a second the market moves.

    `fault_every_s` is how long a source lasts on average before it fails; all fail together four times as rarely.
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
        rules: Rules = Rules(),  # frozen: one does for all
    ) -> None:
        if not 0 < rate <= 1000:
            raise ValueError("rate must be above 0 and at most 1000 steps per second")
        self._period_us = round(SECOND_US / rate)
        self._next_us = start_us
        self._random = random.Random(f"{seed}:common")
        self._common_every_s = 4 * fault_every_s
        self._common_until_us = 0
        self._common_next_us = start_us + self._common_pause()
        self._sources = [
            _Source(
                venue, seed=seed, start_us=start_us, fault_every_s=fault_every_s, stale_after_us=rules.stale_after_us
            )
            for venue in venues
        ]
        self._symbols = [
            _Symbol(instrument, venues=venues, seed=seed, start_us=start_us, rate=rate, rules=rules)
            for instrument in instruments
        ]

    def step(self, now_us: int) -> list[Outgoing]:
        """Everything that happened up to now. After a long pause (a suspended machine) the market goes on from now
        instead of catching up. Time that goes back makes nothing happen."""
        if now_us - self._next_us > max(MAX_CATCH_UP_US, 2 * self._period_us):
            self._next_us = now_us
        out: list[Outgoing] = []
        while self._next_us <= now_us:
            out += self._step(self._next_us)
            self._next_us += self._period_us
        return out

    def _step(self, at_us: int) -> list[Outgoing]:
        if at_us >= self._common_next_us:
            self._common_until_us = at_us + round(self._random.uniform(3, 6) * SECOND_US)
            self._common_next_us = self._common_until_us + self._common_pause()
        out = []
        for source in self._sources:
            if (status := source.step(at_us, self._common_until_us)) is not None:
                out.append(Outgoing(STATUS_CHANNEL, "SOURCE_STATUS", status, status.source))
        faults = {source.venue.name: source.fault for source in self._sources if source.fault is not None}
        for symbol in self._symbols:
            out += symbol.step(at_us, faults)
        return out

    def _common_pause(self) -> int:
        return round(self._random.expovariate(1 / self._common_every_s) * SECOND_US)
