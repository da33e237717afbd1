"""One client of Socket.IO: its events become commands, replies their acknowledgements, and messages events.

What it is told comes in the order in which a WebSocket would have it; only what a subscription begins with, the
messages missed or the snapshot, is not in the acknowledgement but before it, as the events that they would have been.
So whoever keeps `epoch` and `offset` of each message that it has applied, and of the acknowledgement of a channel
without any, can always say where to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson

from hub.connections.connection import Connection
from hub.edge.socketio import packets
from hub.edge.socketio.packets import Packet
from hub.edge.streams import LAST_WORDS_S, StreamSocket
from protocol.close_codes import CloseCode

ROOMS = {"join": "subscribe", "leave": "unsubscribe"}  # as rooms have it
OF_CHANNELS = ("subscribe", "unsubscribe", "presence")  # these may name it and say no more
NOT_EVENTS = ("connect", "pong")  # commands that Socket.IO and Engine.IO have packets for
GOODBYE = "goodbye"  # what the protocol calls `disconnect`: the client's own word for the end of a connection
STILL_THERE = orjson.dumps({"type": "pong", "time": 0}).decode()  # too long ago to tell a round trip by


class SessionSocket(StreamSocket):
    """A stream that its reader also writes into."""

    def __init__(self) -> None:
        super().__init__()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._patience: asyncio.Timeout | None = None

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    async def may_read(self) -> None:
        await self._may_read.wait()

    def close(self, code: int, reason: str) -> None:
        super().close(code, reason)
        self._may_read.set()
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time() + LAST_WORDS_S)

    def last_words(self) -> asyncio.Timeout:
        """Gives up what is under way when the connection has ended and its reader does not take the rest."""
        self._patience = asyncio.timeout(LAST_WORDS_S if self.closed.is_set() else None)
        return self._patience


class Session:
    def __init__(self, connection: Connection, socket: SessionSocket) -> None:
        self._connection = connection
        self._socket = socket
        self._number = 0
        self._asked: dict[int, tuple[str, int | None]] = {}  # events by the command's id, and the id of their ack
        self._epochs: dict[str, str] = {}  # by channel

    def last_words(self) -> asyncio.Timeout:
        return self._socket.last_words()

    @property
    def goodbye(self) -> CloseCode | None:
        """Why the hub has ended it, if it has."""
        return self._connection.goodbye

    # --- in ---

    async def receive(self, data: Any) -> None:
        """What Engine.IO carried here. Returns when the next may come."""
        try:
            self._take(packets.read(data))
        except (ValueError, TypeError):  # TypeError: nested more deeply than orjson writes
            self.violated()
        await self._socket.may_read()

    def violated(self) -> None:
        self._connection.close(CloseCode.BAD_PROTOCOL)

    def _take(self, packet: Packet) -> None:
        """Raises ValueError for what is no packet of a client."""
        if packet.namespace not in (None, "/"):
            raise ValueError("there is one namespace")
        match packet.packet_type, packet.data:
            case packets.CONNECT, dict() | None as fields:
                self._ask("connect", fields or {})
            case packets.EVENT, [str() as name, *given] if len(given) <= 1:
                self._run(name, given[0] if given else {}, packet.id)
            case packets.DISCONNECT, _:
                self.left()
            case packets.ACK, list():
                pass  # nobody has asked for any
            case _:
                raise ValueError("unexpected packet")

    def _run(self, name: str, fields: Any, ack: int | None) -> None:
        command = ROOMS.get(name, name)
        if isinstance(fields, str) and command in OF_CHANNELS:
            fields = {"channel": fields}
        if not isinstance(fields, dict):
            raise ValueError("the fields of an event are an object")
        self._ask("" if command in NOT_EVENTS else command, fields, event=name, ack=ack)

    def _ask(self, command: str, fields: dict[str, Any], *, event: str = "connect", ack: int | None = None) -> None:
        self._number += 1
        self._asked[self._number] = (event, ack)
        self._connection.receive(orjson.dumps({**fields, "type": command, "id": self._number}).decode())

    def left(self) -> None:
        """The client is gone, or going."""
        self._connection.lost()
        self._socket.abort()

    # --- out ---

    async def run(self, send: Callable[[str], Awaitable[None]], taken: Callable[[], Awaitable[None]]) -> None:
        """Send what there is to say, to the goodbye. The rest waits here until what was sent is `taken`."""
        while (payload := await self._socket.take()) is not None:
            whole = orjson.loads(payload)
            messages = whole if isinstance(whole, list) else [whole]
            for message in messages:
                for packet in self._packets(message):
                    await send(packet)
            await taken()
            if any(message["type"] == "ping" for message in messages):
                self._connection.receive(STILL_THERE)  # Engine.IO asks by itself, and ends a session without answers
        if self.goodbye is not None and not self.goodbye.reconnect:
            await send(packets.disconnected())
            await taken()  # it is heeded in its own time, and the end of the connection at once

    def _packets(self, message: dict[str, Any]) -> Iterator[str]:
        match message["type"]:
            case "reply":
                yield from self._answer(message)
            case "disconnect":
                yield packets.event(GOODBYE, message)
            case "ping":
                pass
            case _ if "offset" in message and "channel" in message:
                yield self._publication(message)
            case name:
                yield packets.event(name, message)

    def _answer(self, reply: dict[str, Any]) -> Iterator[str]:
        event, ack = self._asked.pop(reply["id"])
        result: Any = reply.get("result")
        error = reply.get("error")
        if event == "connect":
            if error is not None:
                yield packets.refused(error)
                return
            yield packets.connected(result["client"])
            for joined in result["subscriptions"].values():
                yield from self._begin(joined)
            yield packets.event("connected", result)
            return
        if isinstance(result, dict) and "recovered" in result:
            yield from self._begin(result)
        if ack is not None:
            yield packets.ack(ack, {"result": result} if error is None else {"error": error})
        elif error is not None:
            yield packets.event("error", {"event": event, "error": error})

    def _begin(self, joined: dict[str, Any]) -> Iterator[str]:
        """The messages of a subscription's result, which are taken out of it."""
        if "error" in joined:
            return
        self._epochs[joined["channel"]] = joined["epoch"]
        for message in joined.pop("messages"):
            yield self._publication(message)

    def _publication(self, message: dict[str, Any]) -> str:
        channel = message["channel"]
        if (epoch := message.get("epoch")) is not None:
            self._epochs[channel] = epoch
        return packets.event("message", {**message, "epoch": self._epochs.get(channel)})
