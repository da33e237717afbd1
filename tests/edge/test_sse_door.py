"""Channels by server-sent events and by long poll, as `curl` hears them."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sockets import PATIENCE_S, Metrics, peer, unique

from hub.edge.sse import MAX_CHANNELS, read_id, written
from protocol.errors import HubError
from protocol.positions import Position

POSITION = st.builds(
    Position,
    epoch=st.text(st.characters(categories=("Lu", "Ll", "Nd"), include_characters="-_:"), max_size=64),
    offset=st.integers(0, 2**53 - 1),
)
CHANNEL = st.from_regex(r"custom:[a-z0-9/.:+=~-]{1,20}", fullmatch=True).filter(lambda name: name[7].isalnum())


class Heard:
    """The events of one `curl -N`."""

    def __init__(self, curl: asyncio.subprocess.Process) -> None:
        assert curl.stdout is not None
        self._lines = curl.stdout
        self._curl = curl
        self.id = ""

    async def next(self) -> tuple[str, dict[str, Any]]:
        """The next event's name and data; ("", {}) at the end."""
        name = "message"
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self._lines.readline()).decode():
                field, _, value = line.rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "id":
                    self.id = value
                elif field == "data":
                    return name, json.loads(value)
        return "", {}

    async def publications(self, count: int) -> list[int]:
        found: list[int] = []
        while len(found) < count:
            name, data = await self.next()
            assert name, "the stream has ended"
            if name == "message":
                found.append(data["offset"])
        return found


@asynccontextmanager
async def curl(hub: Any, token: str, *channels: str, after: str = "", query: str = "") -> AsyncIterator[Heard]:
    headers = ["-H", f"authorization: Bearer {token}", *(["-H", f"last-event-id: {after}"] if after else [])]
    url = f"{hub.url}/sse?channels={','.join(channels)}{query}"
    process = await asyncio.create_subprocess_exec("curl", "-sN", *headers, url, stdout=PIPE)
    try:
        yield Heard(process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_curl_hears_what_a_socket_hears(hub: Any) -> None:
    orders, prices = unique("team"), unique("prices")
    async with peer(hub, hub.token("pub")) as socket, curl(hub, hub.token("ann"), orders, prices) as heard:
        for name in sorted((orders, prices)):
            kind, about = await heard.next()
            assert (kind, about["channel"], about["recovered"]) == ("subscribed", name, False)
        await socket.ask("subscribe", channel=orders)
        placed = await socket.publish(orders, "SPECIALIST_UPDATE", [{"specialist_id": "s1"}])

        kind, publication = await heard.next()
        assert kind == "message"
        assert publication == await socket.until_offset(orders, placed["offset"])


async def test_who_comes_back_misses_nothing_and_hears_nothing_twice(hub: Any) -> None:
    one, other = unique("custom"), unique("team")
    async with peer(hub, hub.token("pub")) as socket:

        async def say(times: int) -> None:
            for _ in range(times):
                await socket.publish(one)
                await socket.publish(other, "SPECIALIST_UPDATE", [{"specialist_id": "s1"}])

        async with curl(hub, hub.token("ann"), one, other) as heard:
            await heard.next()
            await heard.next()
            id = heard.id
        await say(3)
        offsets: list[int] = []
        for _ in range(3):  # cut in the middle of what was missed, each time
            async with curl(hub, hub.token("ann"), one, other, after=id) as heard:
                offsets += await heard.publications(2)
                id = heard.id
        async with curl(hub, hub.token("ann"), other, one, after=id) as heard:
            assert [(await heard.next())[1]["recovered"] for _ in range(2)] == [True, True]
            await say(1)
            offsets += await heard.publications(2)
    assert sorted(offsets) == [1, 1, 2, 2, 3, 3, 4, 4]


async def test_a_position_of_another_history_is_told_so(hub: Any) -> None:
    room = unique("custom")
    id = written({room: Position("elsewhere", 7)})
    async with curl(hub, hub.token("ann"), room, after=id) as heard:
        _, about = await heard.next()
    assert (about["recovered"], about["reason"]) == (False, "epoch_changed")


async def test_a_stream_may_begin_with_the_newest_messages(hub: Any) -> None:
    room = unique("custom")
    async with peer(hub, hub.token("pub")) as socket:
        for _ in range(3):
            await socket.publish(room)
    async with curl(hub, hub.token("ann"), room, query="&rewind=2") as heard:
        assert await heard.publications(2) == [2, 3]


async def test_signing_out_ends_the_stream_with_a_reason_and_closes_the_door(hub: Any, http: httpx.AsyncClient) -> None:
    token, room = hub.token("leaver", "admin"), unique("custom")
    async with curl(hub, token, room) as heard:
        await heard.next()
        answer = await http.post("/v1/auth/logout", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        kind, goodbye = await heard.next()
        assert (kind, goodbye["code"], goodbye["reconnect"]) == ("disconnect", 4001, False)
        assert await heard.next() == ("", {})
    answer = await http.get("/sse", params={"channels": room}, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_a_reader_that_goes_leaves_no_connection_behind(hub: Any) -> None:
    metrics = Metrics(hub)
    before = await metrics.value("krin_connections")
    async with curl(hub, hub.token("ann"), unique("custom")) as heard:
        await heard.next()
        assert await metrics.value("krin_connections") == before + 1
    async with asyncio.timeout(PATIENCE_S):
        while await metrics.value("krin_connections") > before:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("path", ["/sse?channels=team:alpha", "/v1/poll/team:alpha"])
async def test_permissions_are_those_of_a_socket(hub: Any, http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 401
    outsider = {"authorization": f"Bearer {hub.token('bot', 'agent', teams=('beta',))}"}
    answer = await http.get(path, headers=outsider)
    assert (answer.status_code, answer.json()["meta"]["error"]["name"]) == (403, "permission_denied")


async def test_an_empty_rewind_is_none(hub: Any) -> None:
    room = unique("custom")
    async with curl(hub, hub.token("ann", "admin"), room, query="&rewind=") as heard:
        name, data = await heard.next()

        assert (name, data["channel"]) == ("subscribed", room)


@pytest.mark.parametrize(
    ("query", "id"),
    [
        ("", ""),
        ("channels=" + ",".join(f"custom:c{number}" for number in range(MAX_CHANNELS + 1)), ""),
        ("channels=custom:a", "00000000,e:1"),
        ("channels=custom:a", written({"custom:b": Position("e", 1)})),
        ("channels=custom:a", written({"custom:a": Position("e", 1)}) + "x"),
        ("channels=custom:a&rewind=soon", ""),
    ],
)
async def test_what_makes_no_sense_is_refused(hub: Any, http: httpx.AsyncClient, query: str, id: str) -> None:
    headers = {"authorization": f"Bearer {hub.token('ann')}"} | ({"last-event-id": id} if id else {})
    answer = await http.get(f"/sse?{query}", headers=headers)
    assert (answer.status_code, answer.json()["meta"]["error"]["name"]) == (422, "schema_invalid")


@pytest.mark.parametrize("path", ["/sse?channels=custom:a", "/v1/poll/custom:a?wait_ms=0"])
@pytest.mark.parametrize("name", ["token", "Access_Token"])
async def test_a_token_in_the_url_is_refused_as_at_a_socket(
    hub: Any, http: httpx.AsyncClient, path: str, name: str
) -> None:
    answer = await http.get(f"{path}&{name}=a.b.c", headers={"authorization": f"Bearer {hub.token('ann')}"})
    assert (answer.status_code, answer.json()["meta"]["error"]["name"]) == (400, "bad_request")


async def test_a_poll_waits_for_the_next_message_and_goes_on_from_there(hub: Any, http: httpx.AsyncClient) -> None:
    room = unique("custom")
    headers = {"authorization": f"Bearer {hub.token('ann')}"}

    async def poll(since: str = "", wait_ms: int = 10_000) -> dict[str, Any]:
        asked = {"since": since, "wait_ms": str(wait_ms)} if since else {}
        answer = await http.get(f"/v1/poll/{room}", params=asked, headers=headers)
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()["data"]
        return found

    async with peer(hub, hub.token("pub")) as socket:
        start = await poll()
        here = f"{start['epoch']}:{start['offset']}"
        assert (await poll(here, wait_ms=0))["messages"] == []
        waiting = asyncio.create_task(poll(here))
        await socket.publish(room)
        first = await waiting
        assert [each["offset"] for each in first["messages"]] == [1]
        await socket.publish(room)
        await socket.publish(room)
        found = await poll(f"{first['epoch']}:{first['offset']}")
    assert ([each["offset"] for each in found["messages"]], found["recovered"]) == ([2, 3], True)


@given(st.dictionaries(CHANNEL, st.none() | POSITION, min_size=1, max_size=MAX_CHANNELS))
def test_an_id_says_what_was_written_into_it(at: dict[str, Position | None]) -> None:
    assert read_id(written(at), sorted(at)) == at
    with pytest.raises(HubError):
        read_id(written(at), ["custom:another", *sorted(at)])
