"""RFC 6455 frames from server to client, built once and shared by every subscriber.

Server frames are not masked, so one and the same byte string is right for every connection of one wire format.
An uncompressed frame is legal whatever extension was negotiated (RFC 7692 section 6).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

TEXT = 0x81  # FIN + opcode 1
BINARY = 0x82  # FIN + opcode 2


def frame(payload: bytes, opcode: int) -> bytes:
    """One complete, unmasked frame. `opcode` is TEXT or BINARY, with FIN set."""
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", opcode, 126, size) + payload
    return struct.pack("!BBQ", opcode, 127, size) + payload


def json_array(parts: Sequence[bytes]) -> bytes:
    """Encoded JSON messages as one JSON array; a single message stays bare."""
    if len(parts) == 1:
        return parts[0]
    return b"[" + b",".join(parts) + b"]"


def msgpack_array(parts: Sequence[bytes]) -> bytes:
    """Encoded msgpack messages as one msgpack array; a single message stays bare."""
    count = len(parts)
    if count == 1:
        return parts[0]
    if count < 16:
        head = bytes((0x90 | count,))
    elif count < 65536:
        head = struct.pack("!BH", 0xDC, count)
    else:
        head = struct.pack("!BI", 0xDD, count)
    return head + b"".join(parts)


def payloads(data: bytes) -> list[bytes]:
    """What complete frames made by `frame`, one after the other, carry."""
    found = []
    start = 0
    while start < len(data):
        length = data[start + 1]
        start += 2
        if length == 126:
            length = int.from_bytes(data[start : start + 2], "big")
            start += 2
        elif length == 127:
            length = int.from_bytes(data[start : start + 8], "big")
            start += 8
        found.append(data[start : start + length])
        start += length
    return found
