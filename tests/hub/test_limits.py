"""How much anybody may ask for: the buckets, the limits over connections, and what nodes tell each other of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from clock import ManualClock
from hypothesis import given
from hypothesis import strategies as st
from redis_server import redis_server
from scene import Client, Scene

from hub.caller import Caller
from hub.guard.addresses import networks
from hub.guard.buckets import Buckets, TokenBucket
from hub.guard.events import SecurityEvent
from hub.guard.limits import SPREAD_S, Kind, Limit, Limits, history_cost, too_fast
from hub.guard.sharing import RedisCounters, Sharing
from hub.namespaces import Namespace
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode, HubError
from protocol.messages import History
from storage.database import Database

SOMEWHERE = "198.51.100.7"
TABLE: dict[Kind, Limit] = {
    "connect": Limit(20, 20),
    "login": Limit(2, 10, closed=True),
    "request": Limit(10, 20),
    "subscribe": Limit(10, 20),
    "read": Limit(10, 100),
    "publish": Limit(10, 10),
    "channel": Limit(1, 1),
}


def limits(clock: ManualClock, events: list[SecurityEvent] | None = None, **fields: Any) -> Limits:
    return Limits(
        TABLE,
        exempt=networks(["127.0.0.0/8"]),
        address_connections=3,
        user_connections=2,
        report=(events if events is not None else []).append,
        clock=clock,
        chance=lambda: 0.0,
        **fields,
    )


def refused(made: Limits, kind: Kind, who: str = "ann", *, address: str = SOMEWHERE, cost: float = 1.0) -> bool:
    try:
        made.spend(kind, who, address=address, user=who, cost=cost)
    except HubError as error:
        assert error.code is ErrorCode.RATE_LIMITED
        assert error.retry_after_ms is not None and error.retry_after_ms > 0
        return True
    return False


# --- the bucket


@given(
    rate=st.floats(0.5, 1000),
    burst=st.floats(1, 1000),
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 20)), min_size=1, max_size=60),
)
def test_a_bucket_never_lets_through_more_than_its_burst_and_its_rate(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    bucket, now, passed = TokenBucket(rate, now=0.0, burst=burst), 0.0, 0.0
    for pause, cost in steps:
        now += pause
        if not bucket.take(now=now, cost=cost):
            passed += min(cost, burst)
    assert passed <= burst + rate * now + 1e-6


@given(rate=st.floats(0.5, 1000), cost=st.floats(0.1, 50), debt=st.floats(0, 1000))
def test_who_waits_as_long_as_told_is_let_through(rate: float, cost: float, debt: float) -> None:
    bucket = TokenBucket(rate, now=0.0)
    bucket.debit(debt)
    wait_s = bucket.take(now=0.0, cost=cost)
    assert wait_s == 0.0 or bucket.take(now=wait_s * 1.000001 + 1e-6, cost=cost) == 0.0


def test_buckets_are_bounded_and_forget_the_one_unused_for_longest() -> None:
    buckets = Buckets(size=3)
    for key in ("a", "b", "c", "a", "d"):
        buckets.of(key, 1, now=0.0).take(now=0.0)
    assert len(buckets) == 3
    assert buckets.find("b") is None
    assert [key for key, _ in buckets.recent(2)] == ["d", "a"]


# --- limits over connections


def test_c23_the_twenty_first_new_connection_in_a_second_is_refused_and_later_ones_are_not() -> None:
    clock = ManualClock()
    made = limits(clock)
    assert [refused(made, "connect") for _ in range(21)] == [False] * 20 + [True]
    clock.advance(1.0)
    assert not refused(made, "connect")
    assert not refused(made, "connect", "bob")


def test_c23_a_whole_ipv6_network_is_one_party() -> None:
    made = limits(ManualClock())
    for number in range(20):
        made.spend_address("connect", f"2001:db8::{number:x}")
    with pytest.raises(HubError):
        made.spend_address("connect", "2001:db8::ffff")
    made.spend_address("connect", "2001:db8:0:1::1")


def test_c67_the_operators_own_addresses_are_not_limited() -> None:
    made = limits(ManualClock())
    assert not any(refused(made, "login", address="127.0.0.1") for _ in range(1000))
    made.admit_address("127.0.0.1", 10_000)
    made.admit_user("ann", "127.0.0.1", 10_000)
    assert made.publishing("ann", "127.0.0.1") is None


def test_c23_sockets_are_counted_per_address_and_user() -> None:
    made = limits(ManualClock())
    made.admit_address(SOMEWHERE, 2)
    with pytest.raises(HubError) as at_the_door:
        made.admit_address(SOMEWHERE, 3)
    made.admit_user("ann", SOMEWHERE, 1)
    with pytest.raises(HubError) as at_connect:
        made.admit_user("ann", SOMEWHERE, 2)
    assert (at_the_door.value.code, at_connect.value.code) == (ErrorCode.RATE_LIMITED, ErrorCode.LIMIT_EXCEEDED)


def test_c68_reading_costs_what_it_costs_the_hub() -> None:
    clock = ManualClock()
    made = limits(clock)
    pages = made.guarded("read", lambda command, caller, codec: "page", cost=history_cost)
    ann = Caller(user="ann", roles=frozenset(), transport="websocket", address=SOMEWHERE)
    whole, small = History(id=1, channel="custom:a", limit=1000), History(id=1, channel="custom:a", limit=100)
    for _ in range(9):  # 9 times 11 of 100
        assert pages(whole, ann, None) == "page"
    with pytest.raises(HubError):
        pages(small, ann, None)
    clock.advance(0.1)
    assert pages(small, ann, None) == "page"


def test_c67_a_refusal_is_reported_with_who_and_what() -> None:
    events: list[SecurityEvent] = []
    made = limits(ManualClock(), events)
    assert refused(made, "publish", cost=100.0) is False  # a cost above the burst takes all of it
    assert refused(made, "publish")
    [event] = events
    assert (event.name, event.user, event.address, event.target, event.allowed) == (
        "excess_rate_limit_exceeded", "ann", SOMEWHERE, "publish", False,
    )  # fmt: skip
    assert made.refused == {"publish": 1}


def test_whoever_is_slowed_down_has_half_of_everything() -> None:
    made = limits(ManualClock())
    made.slow_by(lambda address, user: 2.0 if user == "mallory" else 1.0)
    assert [refused(made, "connect", "mallory") for _ in range(11)] == [False] * 10 + [True]
    bucket = made.publishing("mallory", SOMEWHERE)
    assert bucket is not None
    for _ in range(10):
        bucket.take(now=1000.0)
    assert bucket.take(now=1000.0) == pytest.approx(0.2)


def test_c70_a_thousand_clients_refused_together_do_not_come_back_together() -> None:
    """Chi-square against the uniform distribution, ten bins: 21.67 is exceeded by chance once in a hundred times."""
    import random

    chances = random.Random(70)
    waits = [too_fast(1.0, "", spread_s=SPREAD_S, chance=chances.random()).retry_after_ms or 0 for _ in range(1000)]
    assert min(waits) >= 1000 and max(waits) <= 1000 + SPREAD_S * 1000
    bins = [0] * 10
    for wait in waits:
        bins[min(9, int((wait - 1000) / (SPREAD_S * 100)))] += 1
    assert sum((count - 100) ** 2 / 100 for count in bins) < 21.67


# --- one connection


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    slow = {"slow": Namespace(publish=("*",), subscribe=("*",), rate_per_s=5),
            "room": Namespace(publish=("*",), subscribe=("*",), channel_rate_per_s=5)}  # fmt: skip
    async with Scene(database, namespaces=slow).running() as running:
        yield running


async def refusals(client: Client, channel: str, count: int) -> list[int]:
    """The waits told to a client that publishes `count` messages at once."""
    message = {"type": "NOTE", "data": {}}
    commands = [client.command("publish", channel=channel, message=message) for _ in range(count)]
    client.send(*commands)
    replies = [await client.reply(each["id"]) for each in commands]
    return [each["error"]["retry_after_ms"] for each in replies if "error" in each]


async def test_c67_who_does_not_wait_is_told_three_times_and_then_sent_away_with_4103(scene: Scene) -> None:
    """Twice the rate for as long as it is let."""
    client = await scene.client()
    told = 0
    for _ in range(100):
        if not client.connection.open:
            break
        client.send(client.command("publish", channel="slow:a", message={"type": "NOTE", "data": {}}))
        scene.clock.advance(0.1)
        told = sum(each["type"] == "reply" and "error" in each for each in client.messages)
    [goodbye] = [each for each in client.messages if each["type"] == "disconnect"]
    assert (goodbye["code"], goodbye["reconnect"]) == (CloseCode.RATE_LIMITED, True)
    assert goodbye["retry_after_ms"] > 0
    assert told >= 3


async def test_c67_who_waits_as_long_as_told_is_never_sent_away(scene: Scene) -> None:
    client = await scene.client()
    for _ in range(30):
        waits = await refusals(client, "slow:a", 6)
        scene.clock.advance(max(waits, default=0) / 1000 + 1.0)
    assert client.connection.open


async def test_a_single_burst_is_refused_in_part_and_is_no_reason_to_go(scene: Scene) -> None:
    client = await scene.client()
    assert len(await refusals(client, "slow:a", 200)) == 195
    assert client.connection.open


async def test_c67_a_channel_has_one_rate_for_all_its_publishers(scene: Scene) -> None:
    clients = [await scene.client(name) for name in ("ann", "bob", "eve")]
    assert sum([len(await refusals(each, "room:a", 3)) for each in clients]) == 4
    assert await refusals(clients[0], "room:b", 5) == []


async def test_c69_a_publisher_is_bounded_by_the_deliveries_it_causes_and_others_are_not(scene: Scene) -> None:
    from hub.channels.publishing import Amplification

    scene.publisher._amplification = Amplification(100, lambda channel: 40 if channel == "custom:full" else 1)
    loud, quiet = await scene.client("ann"), await scene.client("bob")
    assert len(await refusals(loud, "custom:full", 5)) == 3
    assert await refusals(quiet, "custom:empty", 20) == []


async def test_more_bytes_than_agreed_for_three_seconds_end_the_connection(scene: Scene) -> None:
    scene.limits.bytes_per_s = 100_000
    client = await scene.client()
    for _ in range(3):
        assert client.connection.open
        for _ in range(3):
            client.send(
                client.command("publish", channel="custom:a", message={"type": "N", "data": {"t": "x" * 50_000}})
            )
        await scene.tick()
    assert client.socket.closed is not None


# --- between nodes


class TwoNodes:
    """The limits of two nodes that share a Redis."""

    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self.limits = [limits(self.clock), limits(self.clock)]
        self.counters = [RedisCounters(url), RedisCounters(url)]
        self.sharing = [
            Sharing(made, counters, clock=self.clock) for made, counters in zip(self.limits, self.counters, strict=True)
        ]

    async def exchange(self) -> None:
        for _ in range(2):  # what the second node adds the first one learns in its next round
            for each in self.sharing:
                await each.exchange()


async def test_c67_nodes_share_what_they_let_through_and_each_holds_alone_when_redis_is_gone() -> None:
    async with redis_server() as url:
        nodes = TwoNodes(url)
        one, two = nodes.limits
        for _ in range(20):
            assert not refused(one, "connect")
            assert not refused(two, "connect")
        await nodes.exchange()
        nodes.clock.advance(1.0)  # a second's worth for all nodes together, which each of them still owes the other
        assert refused(one, "connect")
        assert refused(two, "connect")
        nodes.clock.advance(1.5)
        assert not refused(one, "connect")
        assert not one.blind
    for each in nodes.sharing:
        await each.exchange()
    assert one.blind and two.blind
    nodes.clock.advance(10.0)
    assert [refused(one, "connect") for _ in range(21)] == [False] * 20 + [True]  # open: as a node alone
    passed = sum(not refused(two, "login") for _ in range(10))
    assert passed == 2  # closed: as if all other nodes let as much through
    for counters in nodes.counters:
        await counters.aclose()


async def test_sharing_recovers_when_redis_does() -> None:
    clock = ManualClock()
    made = limits(clock)
    async with redis_server() as url:
        counters = RedisCounters(url)
        sharing = Sharing(made, counters, clock=clock)
        made.blind = True
        await sharing.exchange()
        assert not made.blind
        await counters.aclose()
