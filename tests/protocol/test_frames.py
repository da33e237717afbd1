from __future__ import annotations

import json
import struct

import msgpack  # type: ignore[import-untyped]  # ships neither stubs nor py.typed
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from protocol import frames
from protocol.codec import JSON, MSGPACK

EDGES = [0, 1, 125, 126, 127, 65535, 65536, 65537, 200_000]


def read(data: bytes) -> list[Frame]:
    """What an independent implementation of RFC 6455 makes of bytes from a server."""
    client = ClientProtocol(parse_uri("ws://hub/ws"), state=State.OPEN, max_size=None)
    client.receive_data(data)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize(("opcode", "expected"), [(frames.TEXT, Opcode.TEXT), (frames.BINARY, Opcode.BINARY)])
def test_a_frame_of_any_size_is_read_as_it_was_written(size: int, opcode: int, expected: Opcode) -> None:
    carried = b"x" * size
    data = frames.frame(carried, opcode)
    [frame] = read(data)
    assert (frame.opcode, frame.data, frame.fin) == (expected, carried, True)
    assert frames.payloads(data + data) == [carried, carried]


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f" + struct.pack("!Q", 65536)),
    ],
)
def test_the_length_takes_the_shortest_form(size: int, header: bytes) -> None:
    data = frames.frame(b"x" * size, frames.TEXT)
    assert data[: len(header)] == header
    assert len(data) == len(header) + size


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_frames_written_one_after_another_are_read_one_by_one(payloads: list[bytes]) -> None:
    data = b"".join(frames.frame(each, frames.BINARY) for each in payloads)
    assert [frame.data for frame in read(data)] == payloads


values = st.recursive(
    st.none() | st.booleans() | st.integers(min_value=-(2**53), max_value=2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(values, min_size=2, max_size=40))
def test_joined_messages_are_one_array_in_both_formats(messages: list[object]) -> None:
    assert json.loads(frames.json_array([JSON.encode(each) for each in messages])) == messages
    assert msgpack.unpackb(frames.msgpack_array([MSGPACK.encode(each) for each in messages])) == messages


@given(st.binary())
def test_a_single_message_stays_bare(message: bytes) -> None:
    assert frames.json_array([message]) == message
    assert frames.msgpack_array([message]) == message


@pytest.mark.parametrize("count", [2, 15, 16, 65535, 65536])
def test_a_msgpack_array_of_any_length_is_read_back(count: int) -> None:
    data = frames.msgpack_array([b"\x07"] * count)
    assert msgpack.unpackb(data) == [7] * count


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
def test_a_codec_frames_with_its_own_opcode(codec: object) -> None:
    assert isinstance(codec, type(JSON))
    [frame] = read(codec.frame([codec.encode({"type": "ping", "time": 1})]))
    assert frame.opcode is (Opcode.TEXT if codec is JSON else Opcode.BINARY)
