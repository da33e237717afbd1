"""A connection that believes nothing: what comes is checked against sections 2, 8, 14 and 15 before it is looked at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgpack  # type: ignore[import-untyped]  # ships no stubs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from protocol import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode

Message = dict[str, Any]
FORMATS = {"json": SUBPROTOCOL_JSON, "msgpack": SUBPROTOCOL_MSGPACK}
NO_CODE = 1006
ERRORS = {code.value: code for code in ErrorCode}


class Broken(Exception):
    """A promise that was not kept; the text says how."""


class Wire:
    """One WebSocket. All that was heard stays in `heard`."""

    def __init__(self, socket: ClientConnection, *, format: str, patience_s: float) -> None:
        self.socket = socket
        self.heard: list[Message] = []
        self._binary = format == "msgpack"
        self._patience_s = patience_s
        self._number = 0

    async def send(self, *messages: Mapping[str, Any]) -> None:
        """One frame."""
        whole: Any = messages[0] if len(messages) == 1 else list(messages)
        await self.send_raw(msgpack.packb(whole) if self._binary else json.dumps(whole))

    async def send_raw(self, frame: str | bytes) -> None:
        try:
            await self.socket.send(frame)
        except ConnectionClosed:
            raise Broken(f"the connection was closed {_with(self._ended())}") from None

    def command(self, type: str, **fields: Any) -> Message:
        self._number += 1
        return {"type": type, "id": self._number, **fields}

    async def ask(self, type: str, **fields: Any) -> Message:
        """The reply."""
        command = self.command(type, **fields)
        await self.send(command)
        return await self.reply(command)

    async def reply(self, command: Mapping[str, Any]) -> Message:
        what = f"reply with id {command['id']} to `{command['type']}`"
        return await self.until(lambda each: each["type"] == "reply" and each["id"] == command["id"], what)

    async def result(self, type: str, **fields: Any) -> Message:
        reply = await self.ask(type, **fields)
        if "error" in reply:
            raise Broken(f"`{type}` was refused: {reply['error']['name']}, {reply['error']['message']}")
        found: Message = reply["result"]
        return found

    async def refusal(self, code: ErrorCode, type: str, **fields: Any) -> Message:
        return refused(await self.ask(type, **fields), code, f"`{type}`")

    async def until(self, wanted: Callable[[Message], bool], what: str) -> Message:
        """The first message of that kind, heard already or to come."""
        seen = 0
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    for message in self.heard[seen:]:
                        if wanted(message):
                            return message
                    seen = len(self.heard)
                    await self._hear()
        except TimeoutError:
            raise Broken(f"no {what} within {self._patience_s:g} s") from None
        except ConnectionClosed:
            raise Broken(f"no {what}: the connection was closed {_with(self._ended())}") from None

    async def publications(self, channel: str, count: int) -> list[Message]:
        """The first ones of the channel."""

        def so_far() -> list[Message]:
            return [each for each in self.heard if each.get("channel") == channel and "offset" in each]

        try:
            await self.until(lambda _: len(so_far()) >= count, f"{count} publications of {channel}")
        except Broken as failure:
            came = ", ".join(str(each["offset"]) for each in so_far()) or "none"
            raise Broken(f"{failure}; of the offsets came {came}") from None
        return so_far()[:count]

    async def closed(self, expected: CloseCode, why: str) -> None:
        """Waits for the end, which must have this code, and a `disconnect` before it that says the same."""
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    await self._hear()
        except TimeoutError:
            raise Broken(f"{why} must end the connection with {expected}: it is open") from None
        except ConnectionClosed:
            ended = self._ended()
        if ended != expected:
            raise Broken(f"{why} must end the connection with {expected}, not {_with(ended)}")
        last = self.heard[-1] if self.heard else {}
        if last.get("type") != "disconnect" or last["code"] != expected:
            raise Broken(f"no `disconnect` with code {expected} was the last message before the close frame")
        if last["reconnect"] is not expected.reconnect:
            raise Broken(f"`reconnect` of {expected} must be {expected.reconnect}".lower())

    def _ended(self) -> int:
        return self.socket.close_code or NO_CODE

    async def _hear(self) -> None:
        frame = await self.socket.recv()
        if isinstance(frame, bytes) is not self._binary:
            raise Broken(f"a {'text' if self._binary else 'binary'} frame does not fit the subprotocol")
        try:
            whole = msgpack.unpackb(frame) if self._binary else json.loads(frame)
        except ValueError:
            raise Broken("a frame cannot be decoded") from None
        for message in whole if isinstance(whole, list) else [whole]:
            check(message)
            self.heard.append(message)
            if message["type"] == "ping":
                await self.send({"type": "pong", "time": message["time"]})


def _with(code: int) -> str:
    return "without a close frame" if code == NO_CODE else f"with {code}"


def refused(reply: Message, expected: ErrorCode, what: str) -> Message:
    """The error of a reply, which must be this one."""
    if "error" not in reply:
        raise Broken(f"{what} must be refused with {expected.value} {expected.wire_name}: it was accepted")
    error: Message = reply["error"]
    if error["name"] != expected.wire_name:
        raise Broken(f"{what} must be refused with {expected.value} {expected.wire_name}, not with {error['name']}")
    return error


def check(message: Any) -> None:
    """What holds for every message from a hub. Raises Broken."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise Broken("a message is not an object with a `type` (section 2)")
    kind = message["type"]
    if kind == "reply":
        if not isinstance(message.get("id"), int) or ("result" in message) == ("error" in message):
            raise Broken("a reply has an `id`, and either `result` or `error` (section 2)")
        if "error" in message:
            _check_error(message["error"])
    elif "id" in message:
        raise Broken(f"`{kind}` has an `id`, and nobody asked for it (section 2)")
    elif kind.isupper():
        missing = {"channel", "offset", "timestamp", "data"} - set(message)
        if missing:
            raise Broken(f"a publication has no {', '.join(sorted(missing))} (section 8)")
    elif kind == "disconnect" and not {"code", "reason", "reconnect"} <= set(message):
        raise Broken("`disconnect` has code, reason and reconnect (section 7)")


def _check_error(error: Any) -> None:
    if not isinstance(error, dict) or not {"code", "name", "message", "temporary"} <= set(error):
        raise Broken("an error has code, name, message and temporary (section 14)")
    known = ERRORS.get(error["code"])
    if known is None or error["name"] != known.wire_name:
        raise Broken(f"{error['code']} {error['name']} is none of the errors of section 14")
    if error["temporary"] is not known.temporary:
        raise Broken(f"`temporary` of {known.value} {known.wire_name} must be {known.temporary} (section 14)".lower())


class Probe:
    """Opens connections to the hub under test, in one of the formats."""

    def __init__(self, url: str, token: str, *, format: str, patience_s: float) -> None:
        """`url` of the WebSocket."""
        self.url = url
        self.token = token
        self.format = format
        self.patience_s = patience_s

    @asynccontextmanager
    async def open(
        self,
        *,
        url: str | None = None,
        offered: tuple[str, ...] | None = None,
        format: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Wire]:
        """Before `connect`. Raises InvalidStatus for a handshake that is refused."""
        protocols = (FORMATS[self.format],) if offered is None else offered
        async with connect(
            url or self.url,
            subprotocols=[Subprotocol(each) for each in protocols] or None,
            additional_headers=dict(headers or {}),
            open_timeout=self.patience_s,
            ping_interval=None,
            close_timeout=self.patience_s,
            compression=None,
            max_size=None,
        ) as socket:
            yield Wire(socket, format=format or self.format, patience_s=self.patience_s)

    @asynccontextmanager
    async def connected(self, **fields: Any) -> AsyncIterator[Wire]:
        """`heard[0]` is the reply to `connect`."""
        async with self.open() as wire:
            await wire.result("connect", token=self.token, **fields)
            yield wire

    async def refused(self, status: int, what: str, **options: Any) -> Mapping[str, str]:
        """The headers of a handshake that must be refused with this status."""
        try:
            async with self.open(**options):
                pass
        except InvalidStatus as answer:
            given = answer.response.status_code
            if given != status:
                raise Broken(f"{what} must be answered with {status}, not {given}") from None
            return {name.lower(): value for name, value in answer.response.headers.raw_items()}
        raise Broken(f"{what} must be answered with {status}: it was accepted")
