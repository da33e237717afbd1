"""Two nodes, one engine: orders are given at either, and the second takes over when the first is killed.

And one node without its Redis: the log of orders is in Postgres, so the engine begins all the same.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
from processes import HubProcess, running
from redis_server import redis_server

from hub.client import Client

SYMBOL = "BTC-USD"


async def quote(feed: Client) -> None:
    now_us = time.time_ns() // 1000
    listed = {"symbol": SYMBOL, "base": "BTC", "quote": "USD", "tick_size": "1", "lot_size": "1"}
    tick = {"symbol": SYMBOL, "bid": "99", "bid_size": "50", "ask": "101", "ask_size": "50", "mid": "100"}
    await feed.publish(f"instruments:{SYMBOL}", "INSTRUMENT", listed)
    await feed.publish(
        f"prices:{SYMBOL}", "PRICE_TICK", tick | {"state": "LIVE", "ts_event": now_us, "ts_recv": now_us}
    )


async def open_market(client: Client, feed: Client) -> None:
    async with asyncio.timeout(30):
        while True:
            await quote(feed)
            if (await client.orders.validate(SYMBOL, "BUY", 1, price=98)).result == "APPROVED":
                return
            await asyncio.sleep(0.05)


async def leads(hub: HubProcess) -> bool:
    async with httpx.AsyncClient() as http:
        return "krin_orders_leading 1.0" in (await http.get(f"{hub.url}/metrics")).text


async def test_orders_go_to_the_engine_wherever_it_is_and_survive_its_node(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with redis_server() as url, asyncio.timeout(100):
        with (
            running(data_dir, "--redis-url", url, "--node", "n1") as first,
            running(data_dir, "--redis-url", url, "--node", "n2") as second,
        ):
            assert await leads(first)
            assert not await leads(second)
            async with (
                Client(second.url, token=second.token("ann", "trader"), timeout_s=60) as ann,
                Client(second.url, token=second.token("feed", "feed")) as feed,
            ):
                await open_market(ann, feed)  # of the first node, asked at the second
                resting = await ann.orders.submit(SYMBOL, "BUY", 1, price=98, client_order_id="c-1")
                assert resting.ord_status == "PENDING_NEW"
                again = await ann.orders.submit(SYMBOL, "BUY", 1, price=98, client_order_id="c-1")
                assert (again.order_id, again.exec_type) == (resting.order_id, "ORDER_STATUS")

                first.kill()
                await open_market(ann, feed)  # the call is repeated until somebody leads
                assert await leads(second)
                assert (await ann.orders.status("c-1")).order_id == resting.order_id
                after = await ann.orders.submit(SYMBOL, "BUY", 1, price=97, client_order_id="c-2")
                assert after.order_id is not None
                assert after.order_id.partition("-")[0] > resting.order_id.partition("-")[0]  # another epoch
                async with ann.orders.reports(rewind=100) as reports:
                    await ann.orders.cancel("c-1")
                    await reports.until(resting, "CANCELED")


async def test_an_engine_begins_without_redis_and_the_log_says_once_that_it_is_away(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with asyncio.timeout(100):
        async with redis_server() as url:
            with running(data_dir, "--redis-url", url) as hub:
                async with (
                    Client(hub.url, token=hub.token("ann", "trader"), timeout_s=60) as ann,
                    Client(hub.url, token=hub.token("feed", "feed")) as feed,
                ):
                    await open_market(ann, feed)
                    resting = await ann.orders.submit(SYMBOL, "BUY", 1, price=98, client_order_id="c-1")
                hub.kill()
            hub.log.write_text("")
        with running(data_dir, "--redis-url", url) as hub:
            assert await leads(hub)
            async with (
                Client(hub.url, token=hub.token("ann", "trader"), timeout_s=60) as ann,
                ann.orders.reports(rewind=100) as reports,
            ):
                await ann.orders.cancel("c-1")
                await reports.until(resting, "CANCELED")
            while "statuses do not get through" not in hub.log.read_text():  # three of them, a second apart
                await asyncio.sleep(0.05)
            log = hub.log.read_text()
            assert await leads(hub)
        assert log.count("the order engine: this node leads") == 1
        assert log.count("the term is over") == 0
        assert log.count("Redis is away") == 1
        assert log.count("cannot be read") <= 1
