"""The market as the whole hub has it: feeds by configuration, channels, view."""

from __future__ import annotations

import asyncio
import inspect
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from hub.bootstrap import Hub, open_hub
from hub.bootstrap.market import make_sources
from hub.caller import SYSTEM
from hub.clock import SystemClock
from hub.config import ExchangeFeed, Feed, ReplayFeed, Settings, SimulatedFeed, load
from hub.unusable import ConfigError
from protocol.errors import HubError
from protocol.messages import Call
from protocol.trading import RiskDecision


def settings(folder: Path, feeds: dict[str, Feed]) -> Settings:
    return msgspec.structs.replace(load(data_dir=str(folder), port=0), feeds=feeds)


ORDER = {
    "account": "ann",
    "client_order_id": "1",
    "symbol": "BTC-USD",
    "side": "BUY",
    "order_type": "LIMIT",
    "price": "64000",
    "qty": "0.01",
}


async def decision(hub: Hub) -> RiskDecision:
    """What the risk checks say of an order, with the market they saw. Raises HubError while there is no engine."""
    found = hub.dispatcher.handle(Call(id=1, method="orders.validate", params=ORDER), SYSTEM)
    return msgspec.convert(msgspec.to_builtins(await found if inspect.isawaitable(found) else found), RiskDecision)


async def test_a_configured_feed_is_published_and_known_to_the_trading_side(tmp_path: Path) -> None:
    given = settings(tmp_path, {"sim": SimulatedFeed(rate=50.0, symbols=2)})
    async with open_hub(given) as hub:
        market = None
        expected = {"sources:all", "prices:BTC-USD", "prices:ETH-USD", "instruments:BTC-USD"}
        async with asyncio.timeout(30):
            while market is None or not expected <= {*await hub.delivery.broker.channels()}:
                await asyncio.sleep(0.05)
                with suppress(HubError):
                    market = (await decision(hub)).market
        assert market.mid is not None
        assert (market.age_us or 0) < 30_000_000
        assert "krin_feed_here 1.0" in (await hub.exposition(""))[0].decode()


async def test_without_a_feed_there_is_no_market(tmp_path: Path) -> None:
    async with open_hub(settings(tmp_path, {})) as hub:
        assert not [each for each in await hub.delivery.broker.channels() if each.startswith(("prices:", "sources:"))]
        assert "krin_feed_here" not in (await hub.exposition(""))[0].decode()


def test_two_feeds_with_the_same_sources_are_refused(tmp_path: Path) -> None:
    given = settings(tmp_path, {"one": SimulatedFeed(), "two": SimulatedFeed()})
    with pytest.raises(ConfigError, match="same name"):
        make_sources(given, clock=SystemClock())


def test_each_kind_of_feed_becomes_sources(tmp_path: Path) -> None:
    given = settings(tmp_path, {"tape": ReplayFeed(file="x.txt", role="SECONDARY"), "sim": SimulatedFeed()})
    sources = make_sources(given, clock=SystemClock())
    assert [(source.name, source.role) for source in sources][:2] == [("tape", "SECONDARY"), ("sim-alpha", "PRIMARY")]


def test_an_exchange_that_ccxt_does_not_know_is_one_line_at_the_start(tmp_path: Path) -> None:
    pytest.importorskip("ccxt")
    given = settings(tmp_path, {"x": ExchangeFeed(exchange="atlantis", symbols=("BTC-USD",))})
    with pytest.raises(ConfigError, match="atlantis"):
        make_sources(given, clock=SystemClock())


def test_without_the_extra_an_exchange_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "ccxt"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "hub.trading.market.exchanges", raising=False)
    monkeypatch.setitem(sys.modules, "ccxt", None)
    given = settings(tmp_path, {"x": ExchangeFeed(exchange="kraken", symbols=("BTC-USD",))})
    with pytest.raises(ConfigError, match=r"krin-hub\[feeds\]"):
        make_sources(given, clock=SystemClock())
