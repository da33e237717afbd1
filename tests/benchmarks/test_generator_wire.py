"""The client's side of the wire: frames cut anywhere, templates of constant length, and the gallery's own reading."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import wire
from benchmarks.gallery import LIVE, SPARE, Gallery, Member
from benchmarks.plans import Target
from protocol import frames

STAMPED = b'{"type":"PRICE_TICK","data":{"ext":{"s":"TS=%019d"}}}'


def stream_of(payloads: list[bytes]) -> bytes:
    return b"".join(frames.frame(payload, frames.TEXT) for payload in payloads)


def test_frames_cut_at_every_byte_are_the_same_frames() -> None:
    payloads = [b"", b"a" * 125, b"b" * 126, b"c" * 300, b"d" * 70_000]
    data = stream_of(payloads)
    for cut in [*range(600), 65_000, 70_300, len(data) - 1]:
        parser = wire.FrameParser()
        found = [*parser.feed(data[:cut]), *parser.feed(data[cut:])]
        assert found == [(wire.TEXT, payload) for payload in payloads]
        assert parser.rest() == b""


@given(st.lists(st.binary(max_size=400), max_size=8), st.data())
def test_frames_in_any_pieces_are_the_same_frames(payloads: list[bytes], data: st.DataObject) -> None:
    whole = stream_of(payloads)
    parser = wire.FrameParser()
    found: list[bytes] = []
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        found += [payload for _, payload in parser.feed(whole[:size])]
        whole = whole[size:]
    assert found == payloads


def test_a_masked_server_frame_is_refused() -> None:
    with pytest.raises(wire.Refused):
        list(wire.FrameParser().feed(b"\x81\x80\0\0\0\0"))


@given(st.binary(max_size=70_000))
def test_a_client_frame_is_masked_with_zero(payload: bytes) -> None:
    made = wire.frame(payload, wire.BINARY)
    assert made[0] == 0x82
    assert made[1] & 0x80
    assert made.endswith(b"\0\0\0\0" + payload)
    size = made[1] & 0x7F
    length = size if size < 126 else int.from_bytes(made[2 : 4 if size == 126 else 10], "big")
    assert length == len(payload)


def test_a_template_keeps_its_length_and_takes_stamp_and_numbers() -> None:
    payload = f'{{"id":{wire.NUMBER_SLOT},"k":"{wire.NUMBER_SLOT}","s":"TS={wire.STAMP_SLOT}"}}'.encode()
    template = wire.Template(payload)
    made = template.render(123, 7)
    assert len(made) == len(template)
    assert b'{"id":1000000007,"k":"1000000007","s":"TS=0000000000000000123"}' in made
    binary = wire.Template(b"\xce" + struct.pack(">I", wire.NUMBER_SLOT_BINARY), opcode=wire.BINARY)
    assert binary.render(0, 1)[-5:] == b"\xce" + struct.pack(">I", 1_000_000_001)


def test_a_handshake_answer_may_come_in_pieces_and_must_be_right() -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + wire.ACCEPT + b"\r\n\r\nrest"
    for cut in range(len(answer) - len(b"rest")):
        assert wire.split_response(answer[:cut]) is None
    found = wire.split_response(answer)
    assert found is not None and found[1] == b"rest"
    with pytest.raises(wire.Refused):
        wire.split_response(b"HTTP/1.1 401 Unauthorized\r\n\r\n")


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("one_byte", [False, True])
async def test_the_gallery_counts_deliveries_however_the_stream_is_cut(sampled: bool, one_byte: bool) -> None:
    # 61 is "=": lengths and headers that hold that byte must not count as deliveries.
    payloads = [STAMPED % number for number in range(3)]
    payloads += [b"[" + b",".join(payloads) + b"]", b"x" * 61, b"y" * 0x3D3D]
    data = stream_of(payloads) + b"\x89\x01=" + stream_of([STAMPED % 9])
    for cut in range(1, 700):
        gallery = Gallery(one_byte=one_byte)
        gallery.recording = True
        member = Member(0, Target(port=1), sampled=sampled)
        member.state = LIVE
        for piece in (data[:cut], data[cut:]):
            gallery._buffer[SPARE : SPARE + len(piece)] = piece
            gallery._take(member, len(piece))
        gallery.close()
        assert member.got == 7
        assert gallery.latencies["S"].total == (7 if sampled else 0)


async def test_the_gallery_reads_real_sockets() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    gallery = Gallery()
    member = Member(0, Target(port=listener.getsockname()[1], hello=[b"hello @I@"], ready=b"welcome"))
    opening = asyncio.create_task(gallery.open([member]))
    async with asyncio.timeout(5):
        peer, _ = await loop.sock_accept(listener)
        request = await loop.sock_recv(peer, 4096)
        assert request.startswith(b"GET / HTTP/1.1\r\n")
        await loop.sock_sendall(peer, b"HTTP/1.1 101 X\r\nSec-WebSocket-Accept: " + wire.ACCEPT + b"\r\n\r\n")
        assert (await loop.sock_recv(peer, 4096)).endswith(b"hello 0")
        # The answer and the first message arrive in one piece.
        await loop.sock_sendall(peer, stream_of([b"welcome", STAMPED % 1]))
        await opening
        await loop.sock_sendall(peer, stream_of([STAMPED % 2]))
        while member.got < 2:
            await asyncio.sleep(0.001)  # the pace, not a wait for a fact
    peer.close()
    while gallery.lost < 1:
        await asyncio.sleep(0.001)  # the pace, not a wait for a fact
    listener.close()
    gallery.close()
