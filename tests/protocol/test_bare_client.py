"""A stranger's client: written from protocol/README.md, with a WebSocket library and a JSON or msgpack library only.

It imports nothing of ours. Chapters of the README stand beside what they ask for.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any, Self

import msgpack  # type: ignore[import-untyped]  # ships neither stubs nor py.typed
import pytest
import websockets

WITHIN_S = 20
FORMATS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "krin.v1.json": (json.dumps, json.loads),
    "krin.v1.msgpack": (msgpack.packb, msgpack.unpackb),
}
Message = dict[str, Any]
formats = pytest.mark.parametrize("subprotocol", list(FORMATS))


class Stranger:
    """One connection. Messages that are not replies gather in `pushed`."""

    def __init__(self, socket: websockets.ClientConnection, subprotocol: str) -> None:
        self._socket = socket
        self._pack, self._unpack = FORMATS[subprotocol]
        self._waiting: list[Message] = []
        self._number = 0
        self.pushed: list[Message] = []

    @classmethod
    async def open(cls, url: str, subprotocol: str, **connect: Any) -> tuple[Self, Message]:
        socket = await websockets.connect(url, subprotocols=[websockets.Subprotocol(subprotocol)], max_size=None)
        assert socket.subprotocol == subprotocol  # 1: the hub names what it took
        stranger = cls(socket, subprotocol)
        return stranger, await stranger.ask(type="connect", **connect)

    async def close(self) -> None:
        await self._socket.close()

    async def send(self, *messages: Message) -> None:
        """2: one message, or an array of them."""
        await self._socket.send(self._pack(messages[0] if len(messages) == 1 else list(messages)))

    async def read(self) -> Message:
        while not self._waiting:
            frame = self._unpack(await self._socket.recv())
            self._waiting = frame if isinstance(frame, list) else [frame]
        message = self._waiting.pop(0)
        if message["type"] == "ping":
            await self.send({"type": "pong", "time": message["time"]})
        return message

    async def ask(self, **command: Any) -> Message:
        """Send a command; returns the result. Raises what the hub answers, or ConnectionClosed."""
        self._number += 1
        await self.send({"id": self._number, **command})
        return await self.reply_to(self._number)

    async def reply_to(self, number: int) -> Message:
        while True:
            message = await self.read()
            if message.get("id") != number:
                self.pushed.append(message)
            elif "error" in message:
                raise RuntimeError(message["error"])
            else:
                result: Message = message["result"]
                return result

    async def next_push(self) -> Message:
        return self.pushed.pop(0) if self.pushed else await self.read()


class Reader:
    """9 and 10: a position per channel, the rule for durable channels, and recovery after any loss."""

    def __init__(self, url: str, subprotocol: str, token: str, channel: str, *, notify: Callable[[], None]) -> None:
        self._url, self._subprotocol, self._token, self._channel = url, subprotocol, token, channel
        self._notify = notify
        self.position: Message | None = None
        self.applied: list[Message] = []
        self.recovered: list[bool] = []

    async def follow(self) -> None:
        while True:
            try:
                await self._converse()
            except (OSError, websockets.ConnectionClosed, websockets.InvalidHandshake):
                continue  # 5: a client would wait here; this network is back before long

    async def _converse(self) -> None:
        options = {"recover": self.position} if self.position else {}
        hub, connected = await Stranger.open(
            self._url, self._subprotocol, token=self._token, subscriptions={self._channel: options}
        )
        self._joined(connected["subscriptions"][self._channel])
        while True:
            message = await hub.next_push()
            if message["type"].isupper() and message["channel"] == self._channel:
                self._live(message)

    def _joined(self, result: Message) -> None:
        last = self.position["offset"] if self.position else 0
        self.applied += [message for message in result["messages"] if message["offset"] > last]
        self.position = {"epoch": result["epoch"], "offset": result["offset"]}
        self.recovered.append(result["recovered"])
        self._notify()

    def _live(self, message: Message) -> None:
        assert self.position is not None
        assert message.get("epoch", self.position["epoch"]) == self.position["epoch"]
        if message["offset"] <= self.position["offset"]:
            return
        assert message["offset"] == self.position["offset"] + 1, "a gap that the hub should have mended"
        self.applied.append(message)
        self.position["offset"] = message["offset"]
        self._notify()


@formats
async def test_a_stranger_sees_each_durable_message_once_and_in_order_though_its_connection_is_cut(
    hub: Any, proxy: Any, waiter: Any, subprotocol: str
) -> None:
    channel, total = f"team:{uuid.uuid4().hex}", 300
    cuts = {50: 1, 130: 2, 210: 3}  # before this message; the reader has joined so often by then
    mended = {80, 160, 240}
    reader = Reader(proxy.ws_url, subprotocol, hub.token("reader", "dashboard"), channel, notify=waiter.notify)
    async with asyncio.timeout(WITHIN_S):
        writer, _ = await Stranger.open(hub.ws_url, subprotocol, token=hub.token("writer", "agent"))
        following = asyncio.create_task(reader.follow())
        await waiter.until(lambda: len(reader.recovered) == 1)
        for number in range(1, total + 1):
            if number in cuts:
                await waiter.until(lambda number=number: len(reader.recovered) == cuts[number])
                proxy.cut()
            if number in mended:
                proxy.mend()
            task = {"task_id": str(number), "state": "WORKING"}
            message = {"type": "TASK_STATUS_UPDATE", "data": task}
            await writer.ask(type="publish", channel=channel, message=message, idempotency_key=str(number))
        await waiter.until(lambda: len(reader.applied) >= total or following.done())
        following.cancel()
        await asyncio.wait([following])
        await writer.close()

    assert [message["offset"] for message in reader.applied] == list(range(1, total + 1))
    assert [message["data"]["task_id"] for message in reader.applied] == [str(n) for n in range(1, total + 1)]
    assert reader.recovered == [False, True, True, True]  # the first had no position; then nothing was ever lost


@formats
async def test_a_stranger_is_told_when_its_position_is_of_another_history(hub: Any, subprotocol: str) -> None:
    channel = f"custom:{uuid.uuid4().hex}"
    async with asyncio.timeout(WITHIN_S):
        stranger, _ = await Stranger.open(hub.ws_url, subprotocol, token=hub.token("s", "agent"))
        placed = await stranger.ask(type="publish", channel=channel, message={"type": "NOTE", "data": {"n": 1}})
        recover = {"epoch": "elsewhere", "offset": 1}
        result = await stranger.ask(type="subscribe", channel=channel, recover=recover)
        await stranger.close()
    assert (result["recovered"], result["reason"]) == (False, "epoch_changed")
    assert (result["epoch"], result["offset"], result["messages"]) == (placed["epoch"], 1, [])


@formats
async def test_a_stranger_that_publishes_twice_with_one_key_publishes_once(hub: Any, subprotocol: str) -> None:
    channel = f"team:{uuid.uuid4().hex}"
    alert = {"type": "ALERT", "data": {"alert_id": "a", "severity": "INFO", "title": "t"}}
    async with asyncio.timeout(WITHIN_S):
        stranger, _ = await Stranger.open(hub.ws_url, subprotocol, token=hub.token("s", "agent"))
        first = await stranger.ask(type="publish", channel=channel, message=alert, idempotency_key="k")
        again = await stranger.ask(type="publish", channel=channel, message=alert, idempotency_key="k")
        other = {"type": "ALERT", "data": alert["data"] | {"title": "u"}}  # type: ignore[operator]
        with pytest.raises(RuntimeError, match="idempotency_conflict"):
            await stranger.ask(type="publish", channel=channel, message=other, idempotency_key="k")
        kept = await stranger.ask(type="history", channel=channel)
        await stranger.close()
    assert again == first | {"duplicate": True}
    assert len(kept["messages"]) == 1


@formats
async def test_a_stranger_sees_who_comes_and_goes(hub: Any, subprotocol: str) -> None:
    channel = f"custom:{uuid.uuid4().hex}"
    async with asyncio.timeout(WITHIN_S):
        here, me = await Stranger.open(hub.ws_url, subprotocol, token=hub.token("here", "agent"), name="Here")
        joined = await here.ask(type="subscribe", channel=channel, presence=True)
        assert joined["members"] == [{"client": me["client"], "user": "here", "name": "Here"}]
        there, other = await Stranger.open(
            hub.ws_url, subprotocol, token=hub.token("there", "agent"), kind="agent", subscriptions={channel: {}}
        )
        member = {"client": other["client"], "user": "there", "kind": "agent"}
        assert await here.next_push() == {"type": "presence_diff", "channel": channel, "joins": [member], "leaves": []}
        assert member in (await here.ask(type="presence", channel=channel))["members"]
        await there.close()
        assert await here.next_push() == {"type": "presence_diff", "channel": channel, "joins": [], "leaves": [member]}
        await here.close()


@formats
async def test_a_stranger_gets_the_newest_value_of_each_key_when_it_subscribes(hub: Any, subprotocol: str) -> None:
    channel = f"status:{uuid.uuid4().hex}"
    async with asyncio.timeout(WITHIN_S):
        stranger, _ = await Stranger.open(hub.ws_url, subprotocol, token=hub.token("s", "agent"))
        for component, state in (("a", "OK"), ("b", "OK"), ("a", "DOWN")):
            data = {"component": component, "state": state}
            await stranger.ask(type="publish", channel=channel, message={"type": "STATUS", "data": data})
        snapshot = await stranger.ask(type="subscribe", channel=channel)
        await stranger.close()
    assert (snapshot["promise"], snapshot["offset"], snapshot["reason"]) == ("latest", 3, "not_requested")
    assert {each["key"]: (each["offset"], each["data"]["state"]) for each in snapshot["messages"]} == {
        "a": (3, "DOWN"),
        "b": (2, "OK"),
    }


# --- 1 and 5: how a conversation begins and ends ---


@pytest.mark.parametrize(
    ("query", "headers", "subprotocols", "status"),
    [
        ("", {}, ["krin.v2.json"], 400),
        ("?token=x", {}, None, 400),
        ("", {"Authorization": "Bearer x"}, None, 401),
        ("", {"Authorization": "Basic x"}, None, 401),
    ],
)
async def test_a_handshake_is_refused_with_a_status(
    hub: Any, query: str, headers: dict[str, str], subprotocols: list[Any] | None, status: int
) -> None:
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(websockets.InvalidStatus) as caught:
            await websockets.connect(hub.ws_url + query, additional_headers=headers, subprotocols=subprotocols)
    assert caught.value.response.status_code == status


async def test_without_a_subprotocol_a_stranger_speaks_json_and_may_bring_its_token_in_the_handshake(hub: Any) -> None:
    headers = {"Authorization": f"Bearer {hub.token('s', 'dashboard')}"}
    async with asyncio.timeout(WITHIN_S), websockets.connect(hub.ws_url, additional_headers=headers) as socket:
        assert socket.subprotocol is None
        await socket.send('{"type":"connect","id":1}')
        reply = json.loads(await socket.recv())
    assert reply["result"]["user"] == "s"


async def ending(url: str, *frames: Any) -> tuple[list[Message], int]:
    """What the hub says to these frames until it closes, and the close code."""
    said: list[Message] = []
    async with asyncio.timeout(WITHIN_S), websockets.connect(url) as socket:
        for frame in frames:
            await socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))
        try:
            while True:
                frame = json.loads(await socket.recv())
                said += frame if isinstance(frame, list) else [frame]
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd is not None
            return said, closed.rcvd.code


@pytest.mark.parametrize(
    ("token", "error", "code", "reconnect"),
    [
        ("none", "unauthorized", 4001, False),
        ("bad", "token_invalid", 4002, False),
        ("old", "token_expired", 4202, True),
    ],
)
async def test_a_connect_that_may_not_enter_is_answered_and_then_the_connection_ends(
    hub: Any, token: str, error: str, code: int, reconnect: bool
) -> None:
    tokens = {"none": {}, "bad": {"token": "x.y.z"}, "old": {"token": hub.token("s", "agent", ttl_s=-60)}}
    (reply, goodbye), closed = await ending(hub.ws_url, {"type": "connect", "id": 1, **tokens[token]})
    assert (reply["id"], reply["error"]["name"]) == (1, error)
    assert (goodbye["type"], goodbye["code"], goodbye["reconnect"]) == ("disconnect", code, reconnect)
    assert closed == code


async def test_a_frame_of_the_wrong_kind_ends_the_connection(hub: Any) -> None:
    (goodbye,), closed = await ending(hub.ws_url, b"{}")
    assert (goodbye["code"], closed) == (4000, 4000)


async def test_a_frame_that_is_too_big_ends_the_connection(hub: Any) -> None:
    said, closed = await ending(hub.ws_url, json.dumps("x" * 70_000))
    assert (said, closed) == ([], 1009)


async def test_ten_malformed_messages_end_the_connection(hub: Any) -> None:
    said, closed = await ending(hub.ws_url, [7] * 12)
    assert [message["type"] for message in said] == ["reply"] * 10 + ["disconnect"]
    assert {message["error"]["name"] for message in said[:-1]} == {"bad_request"}
    assert closed == 4007


async def test_a_command_before_connect_is_refused_and_connect_may_still_follow(hub: Any) -> None:
    async with asyncio.timeout(WITHIN_S), websockets.connect(hub.ws_url) as socket:
        early = {"type": "history", "id": 1, "channel": "custom:a"}
        await socket.send(json.dumps([early, {"type": "connect", "id": 2, "token": hub.token("s", "agent")}]))
        said: list[Message] = []
        while len(said) < 2:
            frame = json.loads(await socket.recv())
            said += frame if isinstance(frame, list) else [frame]
    assert said[0]["error"]["name"] == "unauthorized"
    assert said[1]["result"]["user"] == "s"


async def test_a_session_that_comes_back_replaces_its_earlier_connection(hub: Any) -> None:
    token = hub.token("s", "agent")
    async with asyncio.timeout(WITHIN_S):
        earlier, first = await Stranger.open(hub.ws_url, "krin.v1.json", token=token)
        later, second = await Stranger.open(hub.ws_url, "krin.v1.json", token=token, session=first["session"])
        goodbye = await earlier.read()
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await earlier.read()
        await later.close()
    assert second["session"] == first["session"]
    assert (goodbye["type"], goodbye["code"]) == ("disconnect", 4205)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4205
