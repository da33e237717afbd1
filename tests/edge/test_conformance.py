"""`krin conformance` passes against Krin, in both formats, and says what is wrong with a hub that is broken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from processes import HubProcess, running
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from hub.cli import main
from hub.conformance.examination import Verdict, examine
from hub.conformance.promises import PROMISES, Subject
from hub.conformance.wire import FORMATS

Message = dict[str, Any]
Tamper = Callable[[Message], list[Message]]
NO_CODE = 1006
FORBIDDEN = "orders:somebody-else"
README = (Path(__file__).parents[2] / "protocol" / "README.md").read_text()


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A hub that asks after a second of silence."""
    with running(tmp_path_factory.mktemp("conformance") / "data", "--ping-interval", "1") as hub:
        yield hub


def token(hub: Any) -> str:
    return str(hub.token("examiner", "lead", "agent"))


async def verdicts(hub: Any, url: str, *formats: str, only: tuple[str, ...] = (), slow: bool = False) -> list[Verdict]:
    subject = Subject(forbidden=FORBIDDEN)
    examined = examine(url, token(hub), subject, formats=formats, only=only, slow=slow, patience_s=2)
    return [each async for each in examined]


def test_the_numbers_are_those_of_sections_and_none_is_there_twice() -> None:
    sections = set(re.findall(r"^## (\d+) ", README, re.M))
    numbers = [each.number for each in PROMISES]
    assert max(Counter(numbers).values()) == 1
    assert {number.partition(".")[0] for number in numbers} <= sections


@pytest.mark.parametrize("format", FORMATS)
async def test_krin_keeps_every_promise(quick: HubProcess, format: str) -> None:
    found = await verdicts(quick, quick.ws_url, format, slow=format == "json")
    assert [each for each in found if each.outcome == "broken"] == []
    assert len(found) == len(PROMISES)
    assert [each.number for each in found if each.outcome == "skipped"] == ([] if format == "json" else ["5.4", "5.5"])


class BrokenHub:
    """Krin with something wrong: a proxy that tampers with what the hub says, in JSON."""

    def __init__(self, url: str, tamper: Tamper, closes: dict[int, int]) -> None:
        self._url = url
        self._tamper = tamper
        self._hubs: dict[ServerConnection, ClientConnection] = {}
        self._closes = closes  # codes, and with what the proxy closes instead

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """The URL of its WebSocket."""
        async with serve(
            self._converse, "127.0.0.1", 0, process_request=self._ask_hub, select_subprotocol=self._chosen
        ) as server:
            host, port = server.sockets[0].getsockname()
            yield f"ws://{host}:{port}/ws"

    async def _ask_hub(self, client: ServerConnection, request: Request) -> Response | None:
        protocols = [Subprotocol(each) for each in request.headers.get_all("Sec-WebSocket-Protocol")]
        shown = {name: request.headers[name] for name in ("authorization",) if name in request.headers}
        url = self._url + request.path.removeprefix("/ws")
        try:
            hub = await connect(url, subprotocols=protocols or None, additional_headers=shown, ping_interval=None)
        except InvalidStatus as refused:
            answer = refused.response
            return Response(answer.status_code, answer.reason_phrase, answer.headers, answer.body)
        self._hubs[client] = hub
        return None

    def _chosen(self, client: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return self._hubs[client].subprotocol

    async def _converse(self, client: ServerConnection) -> None:
        async with self._hubs.pop(client) as hub, asyncio.TaskGroup() as group:
            group.create_task(self._forward(client, hub))
            group.create_task(self._answer(hub, client))

    async def _forward(self, client: ServerConnection, hub: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in client:
                await hub.send(frame)
        await hub.close(1000 if client.close_code in (None, NO_CODE) else client.close_code)

    async def _answer(self, hub: ClientConnection, client: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in hub:
                whole = json.loads(frame)
                told = [
                    each
                    for message in (whole if isinstance(whole, list) else [whole])
                    for each in self._tamper(message)
                ]
                await client.send(json.dumps(told))
        code = hub.close_code or 1000
        await client.close(self._closes.get(code, code) if code != NO_CODE else 1000)


def live(message: Message) -> bool:
    return "offset" in message and message["type"].isupper()


def swapped() -> Tamper:
    held: list[Message] = []

    def tamper(message: Message) -> list[Message]:
        if live(message) and message["offset"] == 10:
            held.append(message)
            return []
        return [message, held.pop()] if live(message) and message["offset"] == 11 and held else [message]

    return tamper


def lost(message: Message) -> list[Message]:
    return [] if live(message) and message["offset"] == 12 else [message]


def doubled(message: Message) -> list[Message]:
    return [message, message] if live(message) and message["offset"] == 7 else [message]


def misplaced(message: Message) -> list[Message]:
    return [message | {"offset": message["offset"] + 1}] if live(message) else [message]


def misaddressed(message: Message) -> list[Message]:
    return [message | {"id": message["id"] + 100}] if message["type"] == "reply" and message["id"] > 3 else [message]


def answered_twice(message: Message) -> list[Message]:
    return [message, message] if message["type"] == "reply" and message["id"] > 3 else [message]


def without(type: str, **fields: Any) -> Tamper:
    unwanted = {"type": type, **fields}
    return lambda message: [] if unwanted.items() <= {**message}.items() else [message]


def permitted(message: Message) -> list[Message]:
    if message.get("error", {}).get("name") != "permission_denied":
        return [message]
    return [{"type": "reply", "id": message["id"], "result": {}}]


def forgetful(message: Message) -> list[Message]:
    result = message.get("result", {})
    return (
        [message | {"result": result | {"messages": result["messages"][1:]}}] if result.get("recovered") else [message]
    )


def boastful(message: Message) -> list[Message]:
    result = message.get("result", {})
    return [message | {"result": result | {"recovered": True}}] if "recovered" in result else [message]


def unaware(message: Message) -> list[Message]:
    result = message.get("result", {})
    return (
        [message | {"result": {name: result[name] for name in result if name != "duplicate"}}] if result else [message]
    )


def undecided(message: Message) -> list[Message]:
    return [message | {"error": message["error"] | {"temporary": True}}] if "error" in message else [message]


def honest(message: Message) -> list[Message]:
    return [message]


BREAKS: list[tuple[str, Tamper, dict[int, int], str, str]] = [
    ("swaps two messages", swapped(), {}, "9.1", "live: offset 10 is missing, or late"),
    ("loses a message", lost, {}, "9.2", "of the offsets came 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14"),
    ("sends a message twice", doubled, {}, "9.1", "live: offset 7 came again"),
    ("tells wrong offsets", misplaced, {}, "6.3", "published at offset 1, heard at 2"),
    ("answers with a wrong id", misaddressed, {}, "2.1", "no reply with id 4 to `call`"),
    ("answers twice", answered_twice, {}, "2.1", "the commands with the ids [4, 5, 6, 7] were answered twice"),
    ("asks nobody whether they live", without("ping"), {}, "5.5", "no `ping` within"),
    ("closes with another code", honest, {4002: 4001}, "5.2", "with 4002, not with 4001"),
    ("says no goodbye", without("disconnect"), {}, "5.8", "no `disconnect` with code 4205"),
    ("lets anybody in", permitted, {}, "6.6", "refused with 1003 permission_denied: it was accepted"),
    ("loses what was missed", forgetful, {}, "10.1", "recovered: offset 3 is missing"),
    ("claims to have recovered", boastful, {}, "10.2", "recovered True, reason epoch_changed"),
    ("is silent about what it cannot read", without("reply", id=0), {}, "2.2", "no reply with id 0"),
    ("does not tell a repeat", unaware, {}, "6.4", "a repeat is not told to be one"),
    ("calls every error temporary", undecided, {}, "4.1", "`temporary` of 1007 bad_request must be false (section 14)"),
]


@pytest.mark.parametrize(
    ("tamper", "closes", "number", "reason"), [each[1:] for each in BREAKS], ids=[each[0] for each in BREAKS]
)
async def test_a_hub_that(quick: HubProcess, tamper: Tamper, closes: dict[int, int], number: str, reason: str) -> None:
    async with BrokenHub(quick.ws_url, tamper, closes).serving() as url:
        found = await verdicts(quick, url, "json", only=("1", number), slow=True)
    assert [(each.number, each.outcome) for each in found if each.outcome != "kept"] == [(number, "broken")]
    assert reason in next(each.reason or "" for each in found if each.number == number)


async def test_the_proxy_alone_breaks_nothing(quick: HubProcess) -> None:
    async with BrokenHub(quick.ws_url, honest, {}).serving() as url:
        found = await verdicts(quick, url, "json")
    assert [each for each in found if each.outcome == "broken"] == []


async def said(hub: Any, url: str, *arguments: str) -> tuple[int, str]:
    command = ["conformance", url, "--token", token(hub), "--patience", "2", *arguments]
    done = await asyncio.to_thread(CliRunner().invoke, main, command)
    return done.exit_code, done.output


async def test_the_command_says_what_is_kept_and_what_is_broken_and_why(quick: HubProcess) -> None:
    code, text = await said(quick, quick.url, "--only", "2", "--only", "6.6")
    assert (code, text.splitlines()[-1]) == (0, "10 kept, 0 broken, 2 skipped")
    async with BrokenHub(quick.ws_url, without("reply", id=0), {}).serving() as url:
        code, text = await said(quick, url, "--format", "json", "--only", "2.2", "--json")
    assert (code, json.loads(text)) == (
        1,
        {
            "number": "2.2",
            "promise": "a frame that is no message is answered with id 0 and bad_request",
            "format": "json",
            "outcome": "broken",
            "reason": "no reply with id 0 within 2 s",
        },
    )


async def test_the_command_does_not_take_nothing_for_success(quick: HubProcess) -> None:
    assert (await said(quick, quick.url, "--only", "99"))[0] == 2
    code, text = await said(quick, "http://127.0.0.1:1", "--only", "1")
    assert (code, "Traceback" in text) == (6, False)
