"""Codec, fan-out, outbox and session, each by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from benchmarks.micro.parts import TICK, NullSocket, Parts, listening, outbox, publication
from protocol.codec import JSON, MSGPACK, encode_body

PACKED = msgspec.msgpack.encode(msgspec.json.decode(TICK))


@pytest.fixture
def parts() -> Iterator[Parts]:
    made = Parts()
    yield made
    made.close()


@pytest.mark.parametrize(("codec", "payload"), [(JSON, TICK.decode()), (MSGPACK, PACKED)], ids=["json", "msgpack"])
def test_decode_a_publish_command(benchmark: Any, codec: Any, payload: Any) -> None:
    assert len(benchmark(codec.decode, payload)) == 1


def test_decode_an_array_of_a_hundred(benchmark: Any) -> None:
    frame = "[" + ",".join([TICK.decode()] * 100) + "]"
    assert len(benchmark(JSON.decode, frame)) == 100


def test_validate_and_encode_a_message(benchmark: Any) -> None:
    raw = JSON.decode(TICK.decode())[0].message  # type: ignore[union-attr]
    decode = JSON.message_decoder("PRICE_TICK")
    benchmark(lambda: encode_body(decode(raw), key=None, publisher="feed"))


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
def test_encode_a_publication(benchmark: Any, codec: Any) -> None:
    benchmark(lambda: codec.frame([publication(1).encoded(codec)]))


@pytest.mark.parametrize("listeners", [100, 1000])
@pytest.mark.parametrize("messages", [1, 20])
def test_fan_out_one_channel(benchmark: Any, parts: Parts, listeners: int, messages: int) -> None:
    kept = listening(parts.fanout, "prices:BTC-USD", listeners)

    def turn() -> None:
        for offset in range(messages):
            parts.fanout.deliver(publication(offset + 1))
        parts.flush()

    benchmark(turn)
    assert all(listener.outbox.write.__self__.bytes for listener in kept)  # type: ignore[attr-defined]


def test_fan_out_a_hundred_channels_to_readers_of_twenty(benchmark: Any, parts: Parts) -> None:
    names = [f"prices:S{index}" for index in range(100)]
    listeners = [listening(parts.fanout, name, 200) for name in names]

    def turn() -> None:
        for name in names:
            parts.fanout.deliver(publication(1, channel=name))
        parts.flush()

    benchmark(turn)
    assert len(listeners) == 100


def test_an_outbox_conflates_a_thousand_values_of_a_hundred_keys(benchmark: Any, parts: Parts) -> None:
    values = [publication(index + 1, key=f"k{index % 100}") for index in range(1000)]

    def blocked() -> int:
        box = outbox(parts.fanout)
        box.block()
        for value in values:
            box.push_publication(value, 0)
        box.unblock(0.0)
        return box.conflated

    assert benchmark(blocked) == 900


def test_connect_with_a_token_and_one_subscription(benchmark: Any, parts: Parts) -> None:
    token = parts.tokens.issue("reader", roles=["dashboard"], ttl_s=3600)
    hello = (
        f'{{"type":"connect","id":1,"token":"{token}","kind":"dashboard","subscriptions":{{"prices:BTC-USD":{{}}}}}}'
    )

    def connect() -> None:
        connection = parts.connection()
        connection.receive(hello)
        parts.fanout.flush()
        assert connection.open
        connection.lost()

    benchmark(connect)


def test_publish_from_the_frame_to_a_hundred_readers(benchmark: Any, parts: Parts) -> None:
    listening(parts.fanout, "prices:BTC-USD", 100)
    publisher = parts.connection()
    publisher.receive(f'{{"type":"connect","id":1,"token":"{parts.tokens.issue("feed", roles=["feed"], ttl_s=3600)}"}}')
    socket: Any = publisher.outbox.write.__self__  # type: ignore[attr-defined]
    assert isinstance(socket, NullSocket)
    tick = TICK.decode()

    def publish() -> None:
        publisher.receive(tick)
        parts.fanout.flush()

    benchmark(publish)
    assert socket.bytes


@pytest.mark.parametrize("enveloped", [False, True], ids=["handler", "envelope"])
def test_answer_a_request_from_the_handler_alone_and_in_the_envelope(
    benchmark: Any, parts: Parts, enveloped: bool
) -> None:
    """Fifty messages. The difference is what the envelope costs: token, limits, threats, rules, the envelope itself."""
    messages = [msgspec.Raw(msgspec.json.encode({"type": "NOTE", "offset": offset})) for offset in range(1, 51)]

    async def handler(request: Request, caller: Any) -> Any:
        return {"offset": 90, "messages": messages}

    endpoint = parts.api.create_revolutionary_endpoint(handler)
    authorization = f"Bearer {parts.token}".encode()
    scope = {"type": "http", "method": "GET", "path": "/v1/x", "client": ("127.0.0.1", 1)}

    def answer() -> Any:
        request = Request({**scope, "headers": [(b"authorization", authorization)]})
        if enveloped:
            return parts.loop.run_until_complete(endpoint(request)).status_code
        return bool(msgspec.json.encode(parts.loop.run_until_complete(handler(request, None)))) and 200

    assert benchmark(answer) == 200
