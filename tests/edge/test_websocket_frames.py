"""Broken frames, bombs and floods: the right close code at once, flat memory, and a bystander that notices nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from sockets import (
    CLOSE,
    CONTINUATION,
    PATIENCE_S,
    PING,
    PONG,
    TEXT,
    Metrics,
    Peer,
    RawSocket,
    frame,
    peer,
    unique,
)

LIMIT = 65_536


@pytest.mark.parametrize(
    "sent",
    [
        [frame(b"{}", masked=False)],
        [frame(b"{}", rsv=4)],
        [frame(b"{}", rsv=1)],
        [frame(b"{}", opcode=3)],
        [frame(b"{}", opcode=11)],
        [frame(b"x" * 126, opcode=PING)],
        [frame(b"x", opcode=PING, fin=False)],
        [frame(b"{}", opcode=CONTINUATION)],
        [frame(b"{", fin=False), frame(b"}", opcode=TEXT)],
        [frame(b"\x03", opcode=CLOSE)],
        [frame(struct.pack("!H", 1005), opcode=CLOSE)],
        [frame(struct.pack("!H", 999), opcode=CLOSE)],
    ],
    ids=range(12),
)
@pytest.mark.parametrize("signed_in", [False, True], ids=["stranger", "signed in"])
async def test_c16_a_broken_frame_ends_the_connection_with_1002(
    hub: Any, bystander: Peer, sent: list[bytes], signed_in: bool
) -> None:
    assert await ended_by(hub, sent, signed_in=signed_in) == 1002


@pytest.mark.parametrize(
    "sent",
    [
        [frame(struct.pack("!H", 1000) + b"\xff", opcode=CLOSE)],
        [frame(b"\xff\xfe")],
        [frame(b"\xe2\x82", fin=False), frame(b"\x28", opcode=CONTINUATION)],
        [frame(b"\xed\xa0\x80")],
    ],
    ids=["close reason", "not UTF-8", "over two fragments", "surrogate"],
)
@pytest.mark.parametrize("signed_in", [False, True], ids=["stranger", "signed in"])
async def test_c17_text_that_is_not_utf_8_ends_the_connection_with_1007_and_is_a_line_in_the_log_at_most(
    hub: Any, bystander: Peer, sent: list[bytes], signed_in: bool
) -> None:
    log = Path(hub.data_dir) / "stderr.log"
    before = len(log.read_text().splitlines())

    assert await ended_by(hub, sent, signed_in=signed_in) == 1007
    assert len(log.read_text().splitlines()) - before <= 1


@pytest.mark.parametrize(
    "sent",
    [
        [frame(b"x" * (LIMIT + 1))],
        [frame(b"x" * 40_000, fin=False), frame(b"x" * 40_000, opcode=CONTINUATION)],
        [frame(b"", declared=1 << 40)],
        [frame(b"", declared=(1 << 63) - 1)],
        [frame(b"", declared=1 << 63)],
    ],
    ids=["70,000 bytes", "two fragments", "2^40 declared", "2^63 - 1 declared", "2^63 declared"],
)
@pytest.mark.parametrize("signed_in", [False, True], ids=["stranger", "signed in"])
async def test_c18_a_message_beyond_64_kib_ends_the_connection_at_once_with_1009(
    hub: Any, bystander: Peer, memory: Any, sent: list[bytes], signed_in: bool
) -> None:
    assert await ended_by(hub, sent, signed_in=signed_in) == 1009
    assert memory.grown_mib < 16


async def ended_by(hub: Any, sent: list[bytes], *, signed_in: bool) -> int | None:
    async with RawSocket.upgraded(hub, token=hub.token("ann") if signed_in else None) as raw:
        for each in sent:
            raw.writer.write(each)
        return await raw.close_code()


async def test_c20_compression_is_never_agreed_on_and_a_thousand_compressed_frames_inflate_to_nothing(
    hub: Any, bystander: Peer, memory: Any
) -> None:
    squeeze = zlib.compressobj(wbits=-15)
    bomb = (squeeze.compress(b" " * 65_000) + squeeze.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
    async with RawSocket.open(hub) as raw:
        offer: dict[str, str | None] = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
        status, head = await raw.upgrade(headers=offer)
        assert status == 101
        assert b"sec-websocket-extensions" not in head.lower()
        raw.writer.write(frame(bomb, rsv=4))
        assert await raw.close_code() == 1002
    async with RawSocket.upgraded(hub) as raw:
        with contextlib.suppress(ConnectionError):
            raw.writer.write(frame(bomb, rsv=4) * 1_000)
            await raw.writer.drain()
            await raw.ended()

    assert memory.grown_mib <= 2


async def test_a_message_of_exactly_the_limit_is_taken(hub: Any) -> None:
    async with RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
        command = json.dumps({"type": "history", "id": 2, "channel": unique("custom")}).encode()
        raw.send(command + b" " * (LIMIT - len(command)))
        _, payload = await raw.frame()

        assert json.loads(payload)["id"] == 2


async def test_a_message_in_many_fragments_with_pings_between_is_one_message(hub: Any) -> None:
    async with RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
        command = json.dumps({"type": "history", "id": 2, "channel": unique("custom"), "limit": 5}).encode()
        raw.send(command[:10], fin=False)
        raw.send(b"are you there", opcode=PING)
        for index in range(10, len(command), 10):
            raw.send(command[index : index + 10], opcode=CONTINUATION, fin=index + 10 >= len(command))
        assert await raw.frame() == (PONG, b"are you there")
        _, payload = await raw.frame()

        assert json.loads(payload)["id"] == 2


async def test_a_multibyte_character_cut_in_two_by_fragments_is_whole_again(hub: Any) -> None:
    async with RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
        message = {"type": "NOTE", "data": {"t": "é€😀"}}
        command = json.dumps(
            {"type": "publish", "id": 2, "channel": unique("custom"), "message": message}, ensure_ascii=False
        ).encode()
        cut = command.index("€".encode()) + 1
        raw.send(command[:cut], fin=False)
        raw.send(command[cut:], opcode=CONTINUATION)
        _, payload = await raw.frame()

        assert "result" in json.loads(payload)


async def test_c21_a_million_empty_fragments_cost_the_hub_nothing(hub: Any, bystander: Peer, memory: Any) -> None:
    async with RawSocket.upgraded(hub) as raw:
        raw.send(b"{", fin=False)
        block = frame(b"", opcode=CONTINUATION, fin=False) * 10_000
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                raw.writer.write(block)
                await raw.writer.drain()
        with contextlib.suppress(ConnectionError):
            await raw.ended()

    assert memory.grown_mib < 16


async def test_c22_a_ping_flood_is_cut_off_and_not_answered_into_memory(hub: Any, bystander: Peer, memory: Any) -> None:
    async with RawSocket.upgraded(hub, receive_buffer=4096) as raw:
        block = frame(b"x" * 125, opcode=PING) * 1_000
        with contextlib.suppress(ConnectionError):
            for _ in range(500):
                raw.writer.write(block)
                await raw.writer.drain()
        with contextlib.suppress(ConnectionError):
            await raw.ended()

    assert memory.grown_mib < 16


async def test_a_few_pings_are_answered_in_order(hub: Any) -> None:
    async with RawSocket.upgraded(hub) as raw:
        for number in range(5):
            raw.send(b"%d" % number, opcode=PING)

        assert [await raw.frame() for _ in range(5)] == [(PONG, b"%d" % number) for number in range(5)]


async def test_pongs_nobody_asked_for_are_ignored(hub: Any, bystander: Peer) -> None:
    async with RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
        for _ in range(1_000):
            raw.send(b"x" * 100, opcode=PONG)
        raw.send(json.dumps({"type": "history", "id": 2, "channel": unique("custom")}).encode())
        _, payload = await raw.frame()

        assert json.loads(payload)["id"] == 2


async def test_a_clean_goodbye_is_echoed_and_nothing_follows(hub: Any) -> None:
    async with RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
        raw.send(struct.pack("!H", 1000) + b"bye", opcode=CLOSE)

        assert await raw.rest() == [(CLOSE, struct.pack("!H", 1000) + b"bye")]


async def test_no_message_is_written_after_the_close_frame_even_with_bytes_still_unsent(hub: Any) -> None:
    """RFC 6455 section 5.5.1. The client stops reading, says goodbye, and only then reads everything."""
    channel = unique("custom")
    async with (
        peer(hub, hub.token("pub")) as publisher,
        RawSocket.upgraded(hub, token=hub.token("ann"), receive_buffer=4096) as raw,
    ):
        raw.send(json.dumps({"type": "subscribe", "id": 2, "channel": channel}).encode())
        await raw.frame()
        metrics = Metrics(hub)
        async with asyncio.timeout(PATIENCE_S):
            while not await metrics.value("krin_outbox_bytes"):
                await publisher.publish(channel, data={"t": "x" * 8_000})
        raw.send(struct.pack("!H", 1000), opcode=CLOSE)
        for _ in range(20):  # the goodbye is met by one of the first
            await publisher.publish(channel, data={"t": "y" * 8_000})
        frames = await raw.rest()

    closing = [index for index, (opcode, _) in enumerate(frames) if opcode == CLOSE]
    assert closing in ([], [len(frames) - 1])


async def test_a_hundred_sockets_that_vanish_without_a_word_leave_nothing_behind(hub: Any, bystander: Peer) -> None:
    metrics = Metrics(hub)
    before = await metrics.value("krin_connections")
    for _ in range(100):
        async with RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
            raw.send(json.dumps({"type": "subscribe", "id": 2, "channel": unique("custom")}).encode())
    async with asyncio.timeout(PATIENCE_S):
        while await metrics.value("krin_connections") > before:
            await asyncio.sleep(0.02)


async def test_random_bytes_after_the_handshake_never_hurt_the_hub(hub: Any, bystander: Peer) -> None:
    chance = random.Random(7)
    for _ in range(60):
        async with RawSocket.upgraded(hub) as raw:
            with contextlib.suppress(ConnectionError):
                raw.writer.write(chance.randbytes(chance.randint(1, 4_000)))
                await raw.writer.drain()


async def test_random_mutations_of_good_commands_are_always_answered_or_closed(hub: Any, bystander: Peer) -> None:
    chance = random.Random(11)
    good = [
        json.dumps({"type": "subscribe", "id": 5, "channel": "custom:x", "recover": {"epoch": "e", "offset": 3}}),
        json.dumps({"type": "publish", "id": 6, "channel": "prices:X", "message": {"type": "PRICE_TICK", "data": {"symbol": "X", "bid": "1"}}}),
        json.dumps({"type": "history", "id": 7, "channel": "team:t", "limit": 10, "reverse": True}),
        json.dumps({"type": "call", "id": 8, "method": "channels.list", "params": {}}),
    ]  # fmt: skip
    for _ in range(40):
        async with RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
            for _ in range(15):
                text = bytearray(chance.choice(good).encode())
                for _ in range(chance.randint(1, 6)):
                    place = chance.randrange(len(text))
                    match chance.randrange(3):
                        case 0:
                            text[place] = chance.randrange(32, 127)
                        case 1:
                            del text[place : place + chance.randint(1, 8)]
                        case _:
                            text[place:place] = text[: chance.randint(1, 20)]
                    if not text:
                        text = bytearray(b"{")
                raw.send(bytes(text))
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                opcode, _ = await raw.frame()
                assert opcode in (TEXT, CLOSE)
