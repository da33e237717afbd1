"""Streams of server-sent events: connections as others are, and bounded when nobody reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from scene import Scene

from hub.auth.service import caller_of
from hub.auth.tokens import Claims
from hub.caller import Caller
from hub.edge.http import CUT
from hub.edge.streams import HIGH_BYTES, LAST_WORDS_S, Stream, Streams, event
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode, HubError
from protocol.messages import SubscribeOptions
from protocol.positions import Position
from storage.database import Database

TEAM = "team:alpha"
ROOM = "custom:room"
UPDATE = [{"specialist_id": "s1"}]
CLOSE = CloseCode.DRAINING


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database).running() as running:
        yield running


def caller(scene: Scene, user: str = "ann", *roles: str, ttl_s: int = 600, teams: tuple[str, ...] = ("*",)) -> Caller:
    claims = scene.authentication.authenticate(scene.token(user, *roles, ttl_s=ttl_s, teams=teams))
    assert isinstance(claims, Claims)
    return caller_of(claims, transport="rest", address="127.0.0.1")


def streams(scene: Scene, *, draining: bool = False) -> Streams:
    return Streams(
        scene.sessions,
        scene.registry,
        scene.dispatcher,
        touch=scene.fanout.touch,
        on_end=scene.leave,
        draining=lambda: draining,
        limits=scene.limits,
        notes=scene.notes,
        user_limits=scene.user_limits,
        report=scene.events.append,
        clock=scene.clock,
    )


async def opened(scene: Scene, channel: str = TEAM, *, who: Caller | None = None, **options: Any) -> Stream:
    return await streams(scene).open(who or caller(scene), {channel: SubscribeOptions(**options)})


async def told(stream: Stream, count: int) -> list[dict[str, Any] | None]:
    """The next messages."""
    found: list[dict[str, Any] | None] = []
    async with asyncio.timeout(5):
        async for message in stream.messages():
            found.append(message)
            if len(found) == count:
                break
    return found


async def last(stream: Stream) -> dict[str, Any]:
    """The goodbye."""
    async with asyncio.timeout(5):
        found = [message async for message in stream.messages() if message is not None]
    return found[-1]


async def test_what_was_missed_comes_first_and_then_what_happens(scene: Scene) -> None:
    publisher = await scene.client("pub")
    placed = [await publisher.publish(TEAM, "SPECIALIST_UPDATE", UPDATE) for _ in range(3)]
    stream = await opened(scene, recover=Position(placed[0]["epoch"], 1))
    await publisher.publish(TEAM, "SPECIALIST_UPDATE", UPDATE)

    assert [bytes(each).count(b'"offset":') for each in stream.joined[TEAM].messages] == [1, 1]
    assert stream.joined[TEAM].recovered
    assert [each["offset"] for each in await told(stream, 1) if each] == [4]


async def test_who_may_not_read_the_channel_gets_no_stream_and_leaves_nothing_behind(scene: Scene) -> None:
    with pytest.raises(HubError) as refused:
        await opened(scene, who=caller(scene, "bot", "agent", teams=("beta",)))

    assert refused.value.code is ErrorCode.PERMISSION_DENIED
    assert len(scene.registry) == 0
    assert scene.fanout.listeners(TEAM) == 0


async def test_a_node_that_drains_opens_none(scene: Scene) -> None:
    with pytest.raises(HubError) as refused:
        await streams(scene, draining=True).open(caller(scene), {})

    assert refused.value.code is ErrorCode.NOT_AVAILABLE


async def test_a_reader_that_takes_nothing_is_ended_when_the_bound_is_reached(scene: Scene) -> None:
    publisher = await scene.client("pub")
    stream = await opened(scene, ROOM)
    for _ in range(60):
        await publisher.publish(ROOM, "NOTE", {"text": "x" * 30_000})
    async with asyncio.timeout(5):
        await stream.ended.wait()

    waiting = [message async for message in stream.messages()]
    assert waiting[-1]["reason"] == "slow consumer" if waiting[-1] else False
    assert sum(len(str(each)) for each in waiting) < HIGH_BYTES + 4 * 65_536
    assert scene.fanout.listeners(ROOM) == 0


async def test_a_reader_that_takes_some_and_then_stops_is_ended_after_ten_seconds(scene: Scene) -> None:
    publisher = await scene.client("pub")
    stream = await opened(scene, ROOM)
    for _ in range(4):
        await publisher.publish(ROOM, "NOTE", {"text": "x" * 30_000})
    await told(stream, 1)
    assert not stream.ended.is_set()

    await scene.tick(1, times=12)

    assert stream.ended.is_set()


async def test_a_slow_reader_that_goes_on_reading_gets_everything_in_order(scene: Scene) -> None:
    publisher = await scene.client("pub")
    stream = await opened(scene, ROOM)
    for _ in range(12):
        await publisher.publish(ROOM, "NOTE", {"text": "x" * 30_000})

    heard = [each["offset"] for each in await told(stream, 12) if each]
    assert heard == list(range(1, 13))


async def test_a_reader_is_asked_whether_it_is_there_and_taking_the_question_is_the_answer(scene: Scene) -> None:
    taken, forgotten = await opened(scene, ROOM), await opened(scene, TEAM)
    messages = taken.messages()
    await scene.tick(1, times=26)
    async with asyncio.timeout(5):
        assert await anext(messages) is None
    waiting = asyncio.create_task(anext(messages))  # the comment was sent: this reader is there
    await scene.tick(1, times=12)

    assert not taken.ended.is_set()
    assert forgotten.ended.is_set()
    waiting.cancel()


async def test_a_stream_ends_with_its_token(scene: Scene) -> None:
    stream = await opened(scene, who=caller(scene, ttl_s=60))
    await scene.tick(61)

    assert (await last(stream))["type"] == "disconnect"


async def test_a_stream_of_somebody_who_was_signed_out_ends(scene: Scene) -> None:
    stream = await opened(scene)
    scene.registry.of_user("ann")[0].close(CLOSE)

    assert (await last(stream))["code"] == CLOSE.value


class Server:
    """What an ASGI server does, and a reader that stops reading after `reads` parts."""

    def __init__(self, reads: int) -> None:
        self.parts: list[bytes] = []
        self.cut = asyncio.Event()
        self._reads = reads

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            if len(self.parts) == self._reads:
                await asyncio.Event().wait()
            self.parts.append(message["body"])

    async def receive(self) -> dict[str, Any]:
        await self.cut.wait()
        return {"type": "http.disconnect"}

    @property
    def scope(self) -> dict[str, Any]:
        return {"type": "http", "extensions": {CUT: {"now": self.cut.set}}}


async def endless(stream: Stream) -> AsyncGenerator[bytes, None]:
    yield event({"n": 0}, id="a:1")
    async for message in stream.messages():
        yield event(message)


async def test_a_connection_whose_reader_does_not_take_the_goodbye_is_cut(scene: Scene) -> None:
    stream = await opened(scene)
    server = Server(reads=1)
    answer = streams(scene).answer(stream, endless(stream))
    serving = asyncio.create_task(answer(server.scope, server.receive, server.send))
    async with asyncio.timeout(5):
        while not server.parts:
            await asyncio.sleep(0)
    scene.registry.of_user("ann")[0].close(CLOSE)
    await scene.clock.until_somebody_sleeps(7)
    assert not serving.done()
    scene.clock.advance(LAST_WORDS_S)
    async with asyncio.timeout(5):
        await serving

    assert server.parts == [b'id: a:1\ndata: {"n":0}\n\n']
    assert len(scene.registry) == 0


async def test_a_reader_that_leaves_is_gone_from_the_channel(scene: Scene) -> None:
    stream = await opened(scene)
    server = Server(reads=9)
    answer = streams(scene).answer(stream, endless(stream))
    serving = asyncio.create_task(answer(server.scope, server.receive, server.send))
    server.cut.set()
    async with asyncio.timeout(5):
        await serving

    assert (len(scene.registry), scene.fanout.listeners(TEAM)) == (0, 0)


async def test_head_opens_nothing(scene: Scene) -> None:
    stream = await opened(scene)
    server = Server(reads=9)
    await streams(scene).answer(stream, endless(stream))(
        {**server.scope, "method": "HEAD"}, server.receive, server.send
    )

    assert (server.parts, len(scene.registry)) == ([b""], 0)
