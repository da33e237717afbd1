"""The client side of RFC 6455 by hand, and messages that carry the time at which they were meant to be sent.

Frames go out with a zero mask, which leaves the payload as it is; frames from the server are told apart by their
headers alone. No JSON is parsed: a delivery is one "TS=" followed by 19 digits of monotonic nanoseconds.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # what RFC 6455 says about that key

STAMP_DIGITS = 19
STAMP_SLOT = "@TS@@@@@@@@@@@@@@@@"  # as long as what replaces it, so that a message's length never changes
NUMBER_SLOT = "@NUMBER@@@"
NUMBER_SLOT_BINARY = 0x404E4040  # in msgpack: 0xCE "@N@@", four bytes to be replaced
FIRST_NUMBER = 1_000_000_000  # ten digits from the first to the last
STAMP = re.compile(rb"T([S-V])=(\d{19})")


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One masked client frame; the mask is zero."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
    return head + b"\0\0\0\0" + payload


def upgrade(host: str, port: int, path: str, subprotocol: str | None, headers: dict[str, str]) -> bytes:
    """The opening request."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []),
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Refused(Exception):
    """The server did not answer as WebSocket servers do."""


def split_response(data: bytes | bytearray) -> tuple[bytes, bytes] | None:
    """(head, what follows it) of the answer to `upgrade`; None while it is incomplete. Raises Refused."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > 16_384:
            raise Refused("a handshake without end")
        return None
    head = bytes(data[:end])
    if not head.startswith(b"HTTP/1.1 101") or ACCEPT not in head:
        raise Refused(bytes(data[:300]).decode("latin-1"))
    return head, bytes(data[end + 4 :])


def header(data: bytes | bytearray, at: int, end: int) -> tuple[int, int, int] | None:
    """(opcode with FIN, header's length, payload's length) of the server frame at `at`; None when `end` cuts it."""
    if end - at < 2:
        return None
    size = data[at + 1]
    if size < 126:
        return data[at], 2, size
    if size == 126:
        return (data[at], 4, data[at + 2] << 8 | data[at + 3]) if end - at >= 4 else None
    if size > 127:
        raise Refused("a server frame is masked")
    return (data[at], 10, int.from_bytes(data[at + 2 : at + 10], "big")) if end - at >= 10 else None


class FrameParser:
    """Complete server frames out of a stream: (opcode, payload). For connections whose messages matter one by one."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[tuple[int, bytes]]:
        """Every frame that is complete now. What a caller leaves unread stays for the next call."""
        self._data += data
        while (found := header(self._data, 0, len(self._data))) is not None:
            first, size, length = found
            if len(self._data) < size + length:
                return
            payload = bytes(self._data[size : size + length])
            del self._data[: size + length]
            yield first & 0x0F, payload

    def rest(self) -> bytes:
        """What is not parsed yet, taken out."""
        rest = bytes(self._data)
        self._data.clear()
        return rest


class Template:
    """A message whose stamp and number are patched in place, framed once."""

    def __init__(self, payload: bytes, *, opcode: int = TEXT, framed: bool = True) -> None:
        whole = frame(payload, opcode) if framed else payload
        self._frame = whole
        self._stamps = _places(whole, STAMP_SLOT.encode())
        self._numbers = _places(whole, NUMBER_SLOT.encode())
        self._binary_numbers = _places(whole, b"\xce" + struct.pack(">I", NUMBER_SLOT_BINARY))

    def __len__(self) -> int:
        return len(self._frame)

    def render(self, stamp_ns: int, number: int) -> bytes:
        """The frame of message `number`, counted from 0, meant to be sent at `stamp_ns`."""
        made = bytearray(self._frame)
        for at in self._stamps:
            made[at : at + STAMP_DIGITS] = b"%019d" % stamp_ns
        for at in self._numbers:
            made[at : at + 10] = b"%010d" % (FIRST_NUMBER + number)
        for at in self._binary_numbers:
            made[at + 1 : at + 5] = struct.pack(">I", FIRST_NUMBER + number)
        return bytes(made)


def _places(whole: bytes, slot: bytes) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(slot), whole)]
