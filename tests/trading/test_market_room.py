"""The market as the whole hub has it: feeds by configuration, channels, view."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest

from hub.bootstrap import open_hub
from hub.bootstrap.market import make_sources
from hub.clock import SystemClock
from hub.config import ConfigError, ExchangeFeed, Feed, ReplayFeed, Settings, SimulatedFeed, load


def settings(folder: Path, feeds: dict[str, Feed]) -> Settings:
    return msgspec.structs.replace(load(data_dir=str(folder), port=0), feeds=feeds)


async def test_a_configured_feed_is_published_and_known_to_the_trading_side(tmp_path: Path) -> None:
    given = settings(tmp_path, {"sim": SimulatedFeed(rate=50.0, symbols=2)})
    async with open_hub(given) as hub:
        heard = asyncio.Event()
        view = hub.market.view
        view.listen(lambda message: heard.set() if view.book("BTC-USD") and view.tick("ETH-USD") else None)
        async with asyncio.timeout(30):
            while not heard.is_set():
                await hub.market.need()
                await asyncio.sleep(0.02)
        reference = view.reference("BTC-USD")
        assert reference is not None and reference.mid is not None
        assert (reference.age_us or 0) < 30_000_000
        listing = view.instrument("BTC-USD")
        assert listing is not None and (listing.base, listing.quote, listing.tick_size) == ("BTC", "USD", "0.01")
        assert "sources:all" in await hub.broker.channels()
        text = hub.metrics.exposition().decode()
        assert "krin_feed_here 1.0" in text


async def test_without_a_feed_there_is_none(tmp_path: Path) -> None:
    async with open_hub(settings(tmp_path, {})) as hub:
        await hub.market.need()
        assert [*hub.market.view.symbols()] == []


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
