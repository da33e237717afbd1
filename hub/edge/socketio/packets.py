"""Packets of Socket.IO 5, in the text that Engine.IO carries. Needs the extra `socketio`."""

from __future__ import annotations

from typing import Any

import orjson
from socketio.packet import ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT
from socketio.packet import Packet as AnyPacket

__all__ = ["ACK", "CONNECT", "DISCONNECT", "EVENT"]


class Json:
    """What python-engineio and python-socketio want of a module for JSON. This one bounds the depth."""

    @staticmethod
    def dumps(value: Any, **style: Any) -> str:
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str) -> Any:
        return orjson.loads(text)


class Packet(AnyPacket):  # type: ignore[misc]  # python-socketio has no types
    """Without binary attachments, whose number python-socketio does not limit: data is JSON."""

    json = Json
    uses_binary_events = False


def read(data: Any) -> Packet:
    """Raises ValueError."""
    if not isinstance(data, str) or not data[:1].isdigit():
        raise ValueError("packets are text")
    packet = Packet(encoded_packet=data)
    if packet.attachment_count:
        raise ValueError("data is JSON")
    return packet


def event(name: str, data: Any) -> str:
    return _text(Packet(EVENT, [name, data]))


def ack(number: int, data: Any) -> str:
    return _text(Packet(ACK, [data], id=number))


def connected(sid: str) -> str:
    return _text(Packet(CONNECT, {"sid": sid}))


def refused(error: dict[str, Any]) -> str:
    """An error of `connect`; the client has it as `err.message` and `err.data`."""
    return _text(Packet(CONNECT_ERROR, {"message": error["message"], "data": error}))


def disconnected() -> str:
    """Whoever is told so does not come back by itself."""
    return _text(Packet(DISCONNECT))


def _text(packet: Packet) -> str:
    encoded: str = packet.encode()
    return encoded
