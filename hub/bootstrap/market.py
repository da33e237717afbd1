"""Prices: the feed of the configured sources, and what the trading side knows of the market."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client.core import Metric

from hub.bootstrap.channels import Channels
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.room import Room
from hub.channels.listening import InsideListener
from hub.clock import Clock
from hub.config import ExchangeFeed, MarketSettings, ReplayFeed, Settings, SimulatedFeed
from hub.observe.metrics import counter, gauge
from hub.trading.market.consolidation import Rules
from hub.trading.market.desk import MarketDesk
from hub.trading.market.following import MarketFollower
from hub.trading.market.replay import CaptureSource
from hub.trading.market.service import MarketFeed
from hub.trading.market.simulator import SimulatedMarket, instruments, simulated_sources
from hub.trading.market.source import Source
from hub.trading.market.turn import FeedTurn
from hub.trading.market.view import MarketView
from hub.trading.outgoing import Publish
from hub.unusable import ConfigError
from storage.feed_lock import FeedLock

NEW_CHANNEL = "market-channel"  # what the feed announces, so that nobody must look for it


class Market(Room, frozen=True, kw_only=True):
    """The follower's view is empty until the follower is told that it is needed."""

    follower: MarketFollower


def open_market(ground: Ground, delivery: Delivery, channels: Channels) -> Market:
    """Raises ConfigError for a feed that cannot be made."""
    settings, clock = ground.settings, ground.clock
    listener = InsideListener(
        delivery.fanout,
        delivery.broker,
        namespaces=channels.namespaces,
        hear=lambda channel, message: follower.hear(channel, message),
    )
    follower = MarketFollower(
        MarketView(clock=clock),
        follow=listener.follow,
        channels=delivery.broker.channels,
        depth=settings.market.book_depth,
        clock=clock,
    )
    delivery.broker.listen(NEW_CHANNEL, lambda payload: follower.name(payload.decode()))
    tasks = {"market view": follower.run}
    if not settings.feeds:
        return Market(follower=follower, tasks=tasks)

    async def publish(
        channel: str, type: str, data: Any, key: str | None = None, coordination: dict[str, Any] | None = None
    ) -> object:
        published = await ground.dispatcher.publish(channel, type, data, key=key, coordination=coordination)
        if channel not in named:
            named.add(channel)
            delivery.broker.announce(NEW_CHANNEL, channel.encode())
        return published

    named: set[str] = set()  # as many as the feed has channels
    make_sources(settings, clock=clock)  # what is wrong with them should be said at the start
    turn = FeedTurn(lambda: make_feed(settings, publish, clock=clock), FeedLock(ground.database), clock=clock)
    return Market(
        follower=follower,
        metrics=lambda: _measure(turn.feed),
        tasks=tasks,
        work={"market feed": turn.run},
    )


def make_feed(settings: Settings, publish: Publish, *, clock: Clock) -> MarketFeed:
    """Raises ConfigError."""
    sources = make_sources(settings, clock=clock)
    marks = {name: mark for source in sources for name, mark in (source.marks or {}).items()}
    market: MarketSettings = settings.market
    desk = MarketDesk(
        rules=Rules(
            stale_after_us=market.stale_after_ms * 1000,
            outlier_bps=market.outlier_bps,
            dwell_us=round(market.dwell_s * 1_000_000),
        ),
        stale_after_us={symbol: limit_ms * 1000 for symbol, limit_ms in market.stale_after_ms_of.items()},
        depth=market.book_depth,
        marks=marks,
    )
    return MarketFeed(sources, desk, publish, clock=clock)


def make_sources(settings: Settings, *, clock: Clock) -> list[Source]:
    """Raises ConfigError."""
    sources: list[Source] = []
    for name, feed in settings.feeds.items():
        match feed:
            case SimulatedFeed():
                market = SimulatedMarket(
                    feed.seed, start_us=clock.now_us(), instruments=instruments(feed.symbols), rate=feed.rate
                )
                sources += simulated_sources(market, clock=clock)
            case ReplayFeed():
                sources.append(CaptureSource(name, feed.file, clock=clock, speed=feed.speed, role=feed.role))
            case ExchangeFeed():
                sources.append(_exchange(name, feed))
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise ConfigError("[feeds] two sources have the same name")
    return sources


def _exchange(name: str, feed: ExchangeFeed) -> Source:
    try:
        from hub.trading.market.exchanges import ExchangeSource, UnknownExchange
    except ModuleNotFoundError:
        raise ConfigError(f"[feeds.{name}] needs ccxt: install krin-hub[feeds]") from None
    try:
        return ExchangeSource(name, feed.exchange, feed.symbols, role=feed.role, options=feed.options)
    except UnknownExchange as failure:
        raise ConfigError(f"[feeds.{name}] {failure}") from None


def _measure(feed: MarketFeed | None) -> Iterable[Metric]:
    yield gauge("krin_feed_here", "1 on the node that runs the market feed.", float(feed is not None))
    if feed is not None:
        yield counter("krin_feed_published", "Market messages published.", feed.published)
        yield counter("krin_feed_refused", "Market messages dropped because the hub refused them.", feed.refused)
        yield counter("krin_feed_gaps", "Books that missed an update.", feed.desk.gaps)
        yield counter("krin_late_trades", "Trades that came too late for their bars.", feed.desk.late_trades)
