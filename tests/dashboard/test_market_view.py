"""The Market view in Chromium: one symbol in detail, from a feed of the test's own and from the demo."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from typing import Any

from .browser import Page
from .conftest import LIVE, Demo, Feed, ServeHub

CHOSEN = "document.getElementById('symbol-name').textContent"
DEPTH = "[...document.querySelectorAll('#depth tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
TAPE = "[...document.querySelectorAll('#trades tbody tr')].map((row) => [...row.cells].slice(1).map((cell) => cell.innerText))"
PAINTED = (
    "(({width, height}, canvas) => canvas.getContext('2d').getImageData(0, 0, width, height).data.some((value) => value))"
    "(document.querySelector('#symbol canvas'), document.querySelector('#symbol canvas'))"
)
BAR = "document.getElementById('symbol-bar').textContent"


def tick(symbol: str, **fields: Any) -> dict[str, Any]:
    return {"symbol": symbol, "bid": "10.10", "ask": "10.30", "mid": "10.20", "state": "LIVE", **fields}


def bar(symbol: str, interval: str, start_s: int, close: str, **fields: Any) -> dict[str, Any]:
    prices = {"open": "10", "high": "12", "low": "9", "close": close, "volume": "5"}
    start = start_s * 1_000_000
    return {"symbol": symbol, "interval": interval, "start": start, "end": start + 60_000_000, **prices, **fields}


def trade(symbol: str, name: str, price: str) -> dict[str, Any]:
    side = {"aggressor_side": "SELLER", "ts_event": 1_700_000_000_000_000}
    return {"symbol": symbol, "price": price, "size": "2", "source": "alpha", "trade_id": name, **side}


def choose(symbol: str) -> str:
    return f"[...document.querySelectorAll('#prices .symbol')].find((each) => each.textContent === '{symbol}').click()"


async def test_a_symbol_that_is_chosen_opens_its_candles_its_book_and_its_trades(
    hub: ServeHub, feed: AbstractAsyncContextManager[Feed], page: Page
) -> None:
    book = {"depth": 10, "bids": [["10.10", "0.5"], ["10.00", "2"]], "asks": [["10.30", "1.25"], ["10.40", "1"]]}
    quality = {"sources_ok": 2, "sources_total": 3, "bid_source": "alpha", "spread_bps": "196.08"}
    left_out = {"excluded": [{"source": "gamma", "reason": "OUTLIER"}]}
    async with feed as market:
        await market.publish_all(
            [
                ("prices:XMA", "PRICE_TICK", tick("XMA", quality=quality | left_out)),
                ("prices:XMB", "PRICE_TICK", tick("XMB")),
                ("book:10:XMA", "BOOK", {"symbol": "XMA", **book}),
                ("bars:1m:XMA", "BAR", bar("XMA", "1m", 1_700_000_040, "11")),
                ("bars:1m:XMA", "BAR", bar("XMA", "1m", 1_700_000_100, "11.5")),
                ("bars:1m:XMA", "BAR", bar("XMA", "1m", 1_700_000_100, "10.75", revision=1)),
                ("trades:XMA", "TRADE", trade("XMA", "t1", "10.20")),
                ("trades:XMB", "TRADE", trade("XMB", "t1", "99.99")),
            ]
        )
        await page.open(f"{hub.url}/#token={hub.token('ada')}", height=1400)
        await page.until("document.querySelectorAll('#prices .symbol').length >= 2")
        await page.evaluate(choose("XMA"))
        await page.until(f"{CHOSEN} === 'XMA' && {DEPTH}.length === 4 && {TAPE}.length === 1")

        assert await page.evaluate(DEPTH) == [
            ["10.40", "1", "2.25"],
            ["10.30", "1.25", "1.25"],
            ["10.10", "0.5", "0.5"],
            ["10.00", "2", "2.5"],
        ]
        assert await page.evaluate("document.querySelector('#depth .count').textContent") == "spread 0.20"
        assert await page.evaluate(TAPE) == [["S", "10.20", "2", "alpha"]]
        assert await page.evaluate("document.getElementById('symbol-sources').textContent") == (
            "2 of 3 sources agree · bid from alpha · spread 196.08 bps · without gamma (outlier)"
        )
        await page.until(f"{BAR}.includes('close 10.75')")
        assert await page.evaluate(PAINTED)
        assert await page.evaluate(
            "[...document.querySelectorAll('#intervals button')].map((each) => each.textContent)"
        ) == ["1m"]

        await market.publish_all(
            [
                ("bars:1m:XMA", "BAR", bar("XMA", "1m", 1_700_000_160, "11.25")),
                ("trades:XMA", "TRADE", trade("XMA", "t2", "10.40")),
                (
                    "trades:XMA",
                    "TRADE_BUST",
                    {"symbol": "XMA", "original_trade_id": "t1", "original_price": "10.20", "original_size": "2"}
                    | {"source": "alpha"},
                ),
            ]
        )
        await page.until(f"{BAR}.includes('close 11.25')")
        await page.until(
            f"JSON.stringify({TAPE}) === {json.dumps(json.dumps([['S', '10.40', '2', 'alpha']], separators=(',', ':')))}"
        )
        await page.evaluate(choose("XMB"))
        await page.until(f"{CHOSEN} === 'XMB' && {DEPTH}.length === 0 && {TAPE}[0]?.[1] === '99.99'")
    assert page.complaints == []


async def test_the_arrows_go_from_symbol_to_symbol_and_enter_opens_one(
    hub: ServeHub, feed: AbstractAsyncContextManager[Feed], page: Page
) -> None:
    async with feed as market:
        await market.publish_all([(f"prices:{each}", "PRICE_TICK", tick(each)) for each in ("XNA", "XNB", "XNC")])
    await page.open(f"{hub.url}/#token={hub.token('ada')}")
    await page.until("[...document.querySelectorAll('#prices .symbol')].some((each) => each.textContent === 'XNC')")
    await page.evaluate(choose("XNA"))
    await page.evaluate("document.querySelector('#prices [aria-current] .symbol').focus()")
    for key, code in (("ArrowDown", 40), ("ArrowDown", 40), ("ArrowUp", 38), ("Enter", 13)):
        press = {"key": key, "code": key, "windowsVirtualKeyCode": code, **({"text": "\r"} if key == "Enter" else {})}
        await page.command("Input.dispatchKeyEvent", type="keyDown", **press)
        await page.command("Input.dispatchKeyEvent", type="keyUp", **press)
    await page.until(f"{CHOSEN} === 'XNB'")

    reached = "[...document.querySelectorAll('#prices .symbol')].filter((each) => each.tabIndex === 0).map((each) => each.textContent)"
    assert await page.evaluate(reached) == ["XNB"]


async def test_the_demo_shows_a_symbol_without_being_asked_and_every_length_of_candle_that_it_has(
    demo: Demo, page: Page
) -> None:
    await page.open(f"{demo.url}/#token={demo.token()}", width=390, height=844)
    await page.until(f"{LIVE} && {DEPTH}.length >= 10 && {TAPE}.length >= 3 && {BAR}")
    await page.until("document.querySelectorAll('#intervals button').length >= 2")
    await page.evaluate("document.querySelectorAll('#intervals button')[1].click()")
    await page.until("document.querySelectorAll('#intervals button')[1].ariaPressed === 'true'")
    await page.until(f"{BAR} && {PAINTED}")

    day = await page.evaluate("document.getElementById('symbol-day').textContent")
    assert "high" in day and "volume" in day
    assert page.complaints == []


async def test_decimals_are_added_and_multiplied_exactly_and_axes_have_round_numbers(hub: ServeHub, page: Page) -> None:
    await page.open(hub.url)
    await page.until("document.readyState === 'complete'")
    answer = await page.evaluate(
        "(async () => {"
        " const { product, sum, profit, plain } = await import('./static/format.js');"
        " const { steps } = await import('./static/chart.js');"
        " return [product('0.1', '0.2'), product('64000.30', '0.5'), product('1.50', '2.00'), sum(['0.1', '0.2', '-1']),"
        " sum([]), profit('-1234.5'), profit('-0.001'), plain('0.000'), plain('100'), steps(9.7, 12.2, 5)]; })()"
    )
    assert answer == ["0.02", "32000.15", "3", "-0.7", "0", "−1,234.50", "0.00", "0", "100", [10, 10.5, 11, 11.5, 12]]


async def test_candles_zoom_and_their_lines_are_the_mean_of_twenty_and_the_price_of_an_average_piece(
    hub: ServeHub, feed: AbstractAsyncContextManager[Feed], page: Page
) -> None:
    start = 1_700_000_040
    bars = [bar("XZA", "1m", start + 60 * number, str(10 + number % 3)) for number in range(200)]
    async with feed as market:
        await market.publish_all([("prices:XZA", "PRICE_TICK", tick("XZA"))])
        await market.publish_all([("bars:1m:XZA", "BAR", each) for each in bars])
    await page.open(f"{hub.url}/#token={hub.token('ada')}")
    await page.until("[...document.querySelectorAll('#prices .symbol')].some((each) => each.textContent === 'XZA')")
    await page.evaluate(choose("XZA"))
    canvas = "document.querySelector('#symbol canvas')"
    shown = f"Number({canvas}.ariaLabel.match(/, (\\d+) shown/)[1])"
    await page.until(f"{BAR} && {shown} > 20")
    closes = [float(each["close"]) for each in bars][-20:]
    mean = await page.evaluate("document.getElementById('symbol-mean').textContent")
    assert float(mean.removeprefix("mean of 20 ")) == round(sum(closes) / 20)
    before = await page.evaluate(shown)

    await page.evaluate(f"{canvas}.focus()")
    await page.command("Input.dispatchKeyEvent", type="keyDown", key="+", text="+")
    await page.until(f"{shown} < {before}")
    for delta in (1, 1, 1, 1):  # turned away from oneself: further off
        await page.evaluate(f"{canvas}.dispatchEvent(new WheelEvent('wheel', {{ deltaY: {delta}, cancelable: true }}))")
    await page.until(f"{shown} > {before}")
    answer = await page.evaluate(
        "(async () => { const { means, vwaps } = await import('./static/chart.js');"
        " const bars = [...Array(21).keys()].map((n) => ({ high: '2', low: '2', close: String(n), volume: '1', vwap: String(n) }));"
        " return [means(bars).slice(18), vwaps(bars).slice(0, 3), vwaps([{ volume: '0', vwap: '1' }])]; })()"
    )
    assert answer == [[None, 9.5, 10.5], [0, 0.5, 1], [None]]
    assert page.complaints == []
