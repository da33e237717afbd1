"""hub.client.subscription against a hub that follows a script: what an application sees of one channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from fake_hub import FakeHub, Peer, joined, publication, refusal, soon

from hub.client import Client, HubError, Lost, Message, Position, Subscription
from protocol.messages import PresenceDiff
from protocol.trading import PriceTick


@asynccontextmanager
async def connected(fake: FakeHub, **options: Any) -> AsyncIterator[tuple[Client, Peer]]:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **{"token": "t1", "backoff_s": (0.0, 0.0), **options}) as krin:
        yield krin, await soon(script)


async def ready(subscription: Subscription, peer: Peer, **result: Any) -> dict[str, Any]:
    """Let a subscription begin, with this result. Returns the command."""
    waiting = asyncio.create_task(subscription.ready())
    command = await peer.accept_subscribe(**result)
    await soon(waiting)
    return command


async def offsets(subscription: Subscription, count: int) -> list[int]:
    return [(await soon(anext(subscription))).offset for _ in range(count)]


async def test_options_go_to_the_hub_and_messages_come_back_whole(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        prices = krin.subscribe("prices:BTC-USD", max_rate=10, filter={"keys": ["BTC-USD"]})
        command = await ready(prices, peer, promise="latest", offset=6)
        assert (command["max_rate"], command["filter"]) == (10, {"keys": ["BTC-USD"]})
        tick = {"symbol": "BTC-USD", "bid": "100.1", "ask": "100.2"}
        await peer.send(
            {
                "type": "PRICE_TICK",
                "channel": "prices:BTC-USD",
                "offset": 9,
                "timestamp": 17,
                "data": tick,
                "key": "BTC-USD",
                "publisher": "feed",
                "skipped": 2,
                "trace": "00-aa",
                "coordination": {"next": "x"},
                "from_the_future": 1,
            }
        )
        message = await soon(anext(prices))
        assert (message.type, message.channel, message.offset, message.epoch) == (
            "PRICE_TICK",
            "prices:BTC-USD",
            9,
            "e1",
        )
        assert (message.timestamp, message.data, message.key, message.publisher) == (17, tick, "BTC-USD", "feed")
        assert (message.skipped, message.trace, message.coordination) == (2, "00-aa", {"next": "x"})
        assert message.typed() == PriceTick(symbol="BTC-USD", bid="100.1", ask="100.2")
        assert prices.position == message.position == Position("e1", 9)


def test_data_is_a_struct_on_request() -> None:
    class Greeting(msgspec.Struct):
        text: str

    note = Message("NOTE", "custom:a", 1, "e1", 17, {"text": "hi"})
    assert note.typed() == {"text": "hi"}
    assert note.typed(Greeting).text == "hi"
    with pytest.raises(msgspec.ValidationError):
        note.typed(PriceTick)


async def test_leaving_the_loop_unsubscribes(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):

        async def first() -> int:
            async for message in krin.subscribe("custom:a"):
                return message.offset
            return 0

        reading = asyncio.create_task(first())
        await peer.accept_subscribe()
        await peer.send(publication(1), publication(2))
        assert await soon(reading) == 1
        await peer.expect("unsubscribe", channel="custom:a")


async def test_an_error_in_the_loop_unsubscribes_too(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):

        async def fail() -> None:
            async for message in krin.subscribe("custom:a"):
                raise KeyError(message.offset)

        reading = asyncio.create_task(fail())
        await peer.accept_subscribe()
        await peer.send(publication(1))
        with pytest.raises(KeyError):
            await soon(reading)
        await peer.expect("unsubscribe", channel="custom:a")


async def test_a_subscription_that_is_kept_outlives_its_loops(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        entering = asyncio.create_task(_enter_and_read_twice(krin))
        await peer.accept_subscribe()
        await peer.send(publication(1))
        await peer.send(publication(2))
        assert await soon(entering) == [1, 2]
        await peer.expect("unsubscribe")


async def _enter_and_read_twice(krin: Client) -> list[int]:
    seen = []
    async with krin.subscribe("custom:a") as subscription:
        for _ in range(2):
            async for message in subscription:
                seen.append(message.offset)
                break
    return seen


async def test_closing_ends_the_loop_of_another_task(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        subscription = krin.subscribe("custom:a")

        async def read() -> int:
            return sum([1 async for _ in subscription])

        reading = asyncio.create_task(read())
        await peer.accept_subscribe()
        await subscription.aclose()
        assert await soon(reading) == 0
        await peer.expect("unsubscribe")
        await peer.send(publication(1))  # too late, and harmless

        again = krin.subscribe("custom:a")
        await ready(again, peer, offset=4)
        assert again.position == Position("e1", 4)


async def test_a_client_subscribes_once_to_a_channel(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        first = krin.subscribe("custom:a")
        await ready(first, peer)
        with pytest.raises(HubError, match="already_subscribed"):
            await krin.subscribe("custom:a").ready()


@pytest.mark.parametrize(
    ("channel", "options"),
    [
        ("nonsense", {}),
        ("custom:a", {"max_rate": 0}),
        ("custom:a", {"rewind": "yesterday"}),
        ("custom:a", {"filter": {"keys": []}}),
    ],
)
async def test_a_wrong_subscription_never_gets_into_connect(channel: str, options: dict[str, Any]) -> None:
    with pytest.raises((HubError, ValueError)):
        Client("http://hub", token="t").subscribe(channel, **options)


async def test_what_changes_while_the_hub_has_not_answered_connect_is_made_good_after_it(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        given_up = krin.subscribe("custom:a")
        await ready(given_up, peer)
        peer.cut()
        peer = await fake.accept()
        connect = await peer.expect("connect", subscriptions={"custom:a": {"recover": {"epoch": "e1", "offset": 0}}})
        await given_up.aclose()
        wanted = krin.subscribe("custom:a", rewind=1)
        waiting = asyncio.create_task(wanted.ready())
        await asyncio.sleep(0)
        await peer.welcome(connect, subscriptions={"custom:a": joined(offset=4, recovered=True)})
        await peer.expect("unsubscribe", channel="custom:a")
        await peer.send(publication(5))  # of the subscription that nobody wants any more
        await peer.accept_subscribe(offset=5, messages=[publication(5)])
        await soon(waiting)
        await peer.send(publication(6))
        assert await offsets(wanted, 2) == [5, 6]


async def test_a_refused_subscription_leaves_the_others_alone(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        good, bad = krin.subscribe("custom:a"), krin.subscribe("orders:b")
        waiting = asyncio.gather(good.ready(), bad.ready(), return_exceptions=True)
        await peer.accept_subscribe()
        await peer.refuse(await peer.expect("subscribe"), 1003)
        outcome = await soon(waiting)
        assert outcome[0] is None
        assert isinstance(outcome[1], HubError)
        await peer.send(publication(1))
        assert await offsets(good, 1) == [1]
        with pytest.raises(HubError, match="permission_denied"):
            await soon(anext(bad))


async def test_one_that_may_no_longer_be_read_ends_on_reconnect(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        good, bad = krin.subscribe("custom:a"), krin.subscribe("custom:b")
        await ready(good, peer)
        await ready(bad, peer)
        peer.cut()
        peer = await fake.accept()
        results = {"custom:a": joined(recovered=True), "custom:b": {"error": refusal(1003)}}
        await peer.welcome(subscriptions=results)
        with pytest.raises(HubError, match="permission_denied"):
            await soon(anext(bad))
        await peer.send(publication(1))
        assert await offsets(good, 1) == [1]


async def test_a_subscription_refused_for_now_is_asked_for_again(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        subscription = krin.subscribe("orders:a", recover=Position("e1", 3))
        waiting = asyncio.create_task(subscription.ready())
        await peer.refuse(await peer.expect("subscribe"), 1008, temporary=True, retry_after_ms=1)
        await peer.accept_subscribe(offset=3, recovered=True)
        await soon(waiting)


async def test_patience_with_a_first_subscribe_ends(fake: FakeHub) -> None:
    async with connected(fake, timeout_s=0.2) as (krin, peer):
        waiting = asyncio.create_task(krin.subscribe("orders:a").ready())

        async def refuse_all() -> None:
            while True:
                await peer.refuse(await peer.expect("subscribe"), 1008, temporary=True, retry_after_ms=20)

        refusing = asyncio.create_task(refuse_all())
        with pytest.raises(HubError, match="not_available"):
            await soon(waiting)
        refusing.cancel()


async def test_what_the_hub_ended_ends_here(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        subscription = krin.subscribe("custom:a")
        await ready(subscription, peer)
        await peer.send(publication(1), {"type": "unsubscribed", "channel": "custom:a", "code": 1003, "reason": "role"})
        assert await offsets(subscription, 1) == [1]
        with pytest.raises(HubError, match="permission_denied: role"):
            await soon(anext(subscription))


async def test_what_the_hub_ended_for_now_is_subscribed_again_from_where_it_stood(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        subscription = krin.subscribe("custom:a")
        await ready(subscription, peer, offset=5)
        await peer.send({"type": "unsubscribed", "channel": "custom:a", "code": 1008, "reason": "broker"})
        command = await peer.accept_subscribe(offset=6, recovered=True, messages=[publication(6)])
        assert command["recover"] == {"epoch": "e1", "offset": 5}
        assert await offsets(subscription, 1) == [6]


# --- gaps, repeats, losses ---


async def test_a_gap_is_mended_before_the_application_sees_it(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        subscription = krin.subscribe("custom:a")
        await ready(subscription, peer)
        await peer.send(publication(1), publication(1), publication(4), publication(5))
        await peer.expect("unsubscribe", channel="custom:a")
        command = await peer.expect("subscribe", recover={"epoch": "e1", "offset": 1})
        await peer.send(publication(6))  # sent before the hub saw the command
        missed = [publication(offset) for offset in range(2, 8)]
        await peer.reply(command, **joined(offset=7, recovered=True, messages=missed))
        await peer.send(publication(7), publication(8))
        assert await offsets(subscription, 8) == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_no_gap_under_a_filter_nor_in_a_latest_channel(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        filtered = krin.subscribe("custom:a", filter={"types": ["NOTE"]})
        latest = krin.subscribe("status:b")
        await ready(filtered, peer)
        await ready(latest, peer, promise="latest", offset=3, messages=[publication(3, "status:b", key="x")])
        await peer.send(publication(5), publication(9))
        late = [publication(offset, "status:b", key=key) for offset, key in ((9, "x"), (7, "y"), (8, "x"), (7, "y"))]
        await peer.send(*late)
        assert await offsets(filtered, 2) == [5, 9]
        assert await offsets(latest, 3) == [3, 9, 7]  # y's newest is older than x's; x's 8 and the repeat are stale
        peer.cut()

        peer = await fake.accept()
        connect = await peer.expect("connect")
        assert connect["subscriptions"] == {
            "custom:a": {"recover": {"epoch": "e1", "offset": 9}, "filter": {"types": ["NOTE"]}},
            "status:b": {},  # its newest values are asked for, not what came after some offset
        }


async def test_on_lost_is_told_in_its_place_in_the_stream(fake: FakeHub) -> None:
    told: list[Any] = []

    async def lost(event: Lost) -> None:
        told.append(event)

    async with connected(fake) as (krin, peer):
        subscription = krin.subscribe("custom:a", recover=Position("e1", 3), on_lost=lost)
        first = publication(4)
        await ready(subscription, peer, recovered=True, offset=4, messages=[first])
        peer.cut()
        peer = await fake.accept()
        results = {"custom:a": joined(epoch="e2", offset=50, reason="epoch_changed", messages=[publication(50)])}
        await peer.welcome(subscriptions=results)
        await peer.send(publication(51))
        for _ in range(3):
            told.append((await soon(anext(subscription))).position)
        assert told == [
            Position("e1", 4),
            Lost("custom:a", "epoch_changed", since=Position("e1", 4), resumed_at=Position("e2", 50)),
            Position("e2", 50),
            Position("e2", 51),
        ]


async def test_another_epoch_in_a_live_message_is_a_loss_too(fake: FakeHub) -> None:
    told: list[Lost] = []
    async with connected(fake) as (krin, peer):
        subscription = krin.subscribe("custom:a", on_lost=told.append)
        await ready(subscription, peer, offset=100)
        await peer.send(publication(3, epoch="e2"), publication(4))
        assert await offsets(subscription, 2) == [3, 4]
        assert told == [Lost("custom:a", "epoch_changed", since=Position("e1", 100), resumed_at=Position("e2", 2))]


async def test_on_lost_may_end_the_loop(fake: FakeHub) -> None:
    def give_up(lost: Lost) -> None:
        raise LookupError(lost.reason)

    async with connected(fake) as (krin, peer):
        subscription = krin.subscribe("custom:a", recover=Position("e1", 3), on_lost=give_up)
        await ready(subscription, peer, reason="offset_too_old", offset=900)
        with pytest.raises(LookupError, match="offset_too_old"):
            await soon(anext(subscription))


async def test_a_loss_nobody_wants_to_hear_of_is_logged(fake: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    async with connected(fake) as (krin, peer):
        subscription = krin.subscribe("custom:a", recover=Position("e1", 3))
        await ready(subscription, peer, reason="offset_too_old", offset=900)
        await peer.send(publication(901))
        with caplog.at_level(logging.WARNING, "krin.client"):
            assert await offsets(subscription, 1) == [901]
        assert "offset_too_old" in caplog.text


# --- presence ---


async def test_members_follow_the_diffs_and_a_reconnect(fake: FakeHub) -> None:
    diffs: list[tuple[list[str], list[str]]] = []

    def note(diff: PresenceDiff) -> None:
        diffs.append(([each.client for each in diff.joins], [each.client for each in diff.leaves]))

    async with connected(fake) as (krin, peer):
        room = krin.subscribe("custom:a", presence=True, on_presence=note)
        one, two, three = ({"client": name, "user": name} for name in ("one", "two", "three"))
        await ready(room, peer, members=[one])
        diff = {"type": "presence_diff", "channel": "custom:a", "joins": [two], "leaves": [one]}
        await peer.send(diff, publication(1))
        await offsets(room, 1)
        assert [each.client for each in room.members] == ["two"]
        peer.cut()
        peer = await fake.accept()
        await peer.welcome(subscriptions={"custom:a": joined(offset=2, recovered=True, members=[two, three])})
        await peer.send(publication(3))
        await offsets(room, 1)
        assert diffs == [(["one"], []), (["two"], ["one"]), (["three"], [])]


# --- back-pressure ---

FRAME = 50


async def fill(peer: Peer) -> int:
    """Send until the client takes no more, or much more than it should. Returns how many messages were sent."""
    offset = 0
    while offset < 100_000:
        frame = [publication(offset + each, data={"text": "x" * 1000}) for each in range(1, FRAME + 1)]
        try:
            async with asyncio.timeout(0.5):
                await peer.send(*frame)
        except TimeoutError:
            return offset + FRAME  # it is on its way all the same
        offset += FRAME
    pytest.fail("the client takes everything")


async def test_a_full_buffer_stops_the_reading_and_loses_nothing(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        subscription = krin.subscribe("custom:a", buffer=100)
        await ready(subscription, peer)
        sent = await fill(peer)
        assert 100 <= subscription.waiting < 100 + FRAME
        assert await offsets(subscription, sent) == list(range(1, sent + 1))


async def test_a_reader_may_publish_while_its_buffer_is_full(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        subscription = krin.subscribe("custom:a", buffer=FRAME)
        await ready(subscription, peer)
        await peer.send(*[publication(offset) for offset in range(1, FRAME + 1)])
        await soon(anext(subscription))

        publishing = asyncio.create_task(krin.publish("custom:b", "NOTE", {}))
        command = await peer.expect("publish")
        await peer.send(*[publication(offset) for offset in range(FRAME + 1, 2 * FRAME + 1)])
        await peer.placed(command, 1)
        await soon(publishing)  # its reply lay behind more messages than there was room for
        assert await offsets(subscription, 2 * FRAME - 1) == list(range(2, 2 * FRAME + 1))


async def test_a_client_that_does_not_read_is_still_heard(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome(ping_interval_ms=20))
    async with Client(fake.url, token="t1", silence_s=10.0) as krin:
        peer = await soon(script)
        subscription = krin.subscribe("custom:a", buffer=1)
        await ready(subscription, peer)
        await peer.send(publication(1))
        await peer.send(publication(2))
        await peer.expect("pong")
        await peer.expect("pong")
        assert await offsets(subscription, 2) == [1, 2]
