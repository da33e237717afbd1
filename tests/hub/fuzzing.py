"""Hostile input from a seed, and what each part of the hub must make of it: an answer or a documented error.

A target is a function of one input; it returns when the part behaved, and raises otherwise. A seed names a run: the
inputs are the same every time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]  # ships no stubs
import msgspec
from clock import ManualClock
from doubles import caller
from scene import Client, Scene

from hub.auth.keys import configured_keys
from hub.auth.tokens import Tokens
from hub.channels.access import Access
from hub.namespaces import DEFAULTS, Namespaces
from protocol.channels import MAX_CHANNEL_BYTES, matches, split_channel
from protocol.codec import JSON, MSGPACK, Codec
from protocol.errors import ErrorCode, HubError
from protocol.messages import Connect, RefusedOptions
from protocol.positions import Gap, Position, merge_recovered

LONGEST_S = 1.0  # of processor time: a busy machine is nobody's fault
USERS = 97  # of a session: what the hub remembers of each is bounded, but not by what a run fills
BATCH = 32  # inputs between two questions whether the session still answers

COMMANDS: list[dict[str, Any]] = [
    {"type": "subscribe", "channel": "custom:a", "recover": {"epoch": "e", "offset": 3}, "presence": True},
    {"type": "subscribe", "channel": "prices:X", "max_rate": 5.0, "filter": {"keys": ["X"]}},
    {"type": "subscribe", "channel": "team:t", "rewind": "30s"},
    {"type": "unsubscribe", "channel": "custom:a"},
    {"type": "presence", "channel": "custom:a"},
    {"type": "publish", "channel": "custom:a", "message": {"type": "NOTE", "data": {"n": 1}}, "key": "k", "ttl_ms": 9},
    {"type": "publish", "channel": "prices:X", "message": {"type": "PRICE_TICK", "data": {"symbol": "X", "bid": "1"}}},
    {"type": "publish", "channel": "team:t", "message": {"type": "ALERT", "data": {}}, "idempotency_key": "i"},
    {"type": "history", "channel": "custom:a", "since": {"epoch": "e", "offset": 1}, "limit": 5, "reverse": True},
    {"type": "replay", "channels": ["custom:a", "team:t"], "from": 0, "to": 9, "speed": 0.5},
    {"type": "call", "method": "channels.list", "params": {}},
    {"type": "search", "query": "q", "mode": "text"},
    {"type": "refresh", "token": "x.y.z"},
    {"type": "connect", "token": "x.y.z", "subscriptions": {"custom:a": {"rewind": 1}}},
    {"type": "pong", "time": 1},
]
TEXTS = [
    "",
    "custom:a",
    "team:t",
    "nope:x",
    "custom:",
    ":",
    "a" * 300,
    "x\x00y",
    "\ud800",
    "\u202e",
    "1e5",
    "30s",
    "9" * 40 + "d",
    "(a+)+$",
    "*",
    "__class__",
    "é€😀",
    "\r\n",
]
VALUES: list[Any] = [
    *TEXTS,
    *(None, True, False, 0, -1, 1, 2**31, 2**53 - 1, 2**53, 2**63, -(2**63), 2**64 - 1, 1.5, -0.0, 1e308),
    *(float("nan"), float("inf"), b"\xff\xfe", [], {}, [[]], {"": {}}, [0] * 300, {"a": [{"b": None}]}),
    {f"k{number}": 0 for number in range(300)},
    msgpack.ExtType(5, b"bomb"),
    msgpack.Timestamp(2**33, 1),
]


class Inputs:
    """Endless inputs of every kind, all decided by the seed."""

    def __init__(self, seed: int, commands: Sequence[dict[str, Any]] = COMMANDS) -> None:
        self._chance = random.Random(seed)
        self._commands = [json.dumps(command) for command in commands]

    def message(self) -> Any:
        """A command with, more often than not, something wrong in it."""
        chance = self._chance
        made: Any = json.loads(chance.choice(self._commands)) | {"id": chance.randint(1, 1 << 20)}
        for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
            self._spoil(made)
        return made if chance.random() > 0.02 else chance.choice(VALUES)

    def _spoil(self, made: dict[Any, Any]) -> None:
        chance = self._chance
        inner = [made, *(each for each in made.values() if isinstance(each, dict))]
        place = chance.choice(inner)
        name = chance.choice([*place, "type", "id", "surprise"])
        match chance.randrange(5):
            case 0:
                place.pop(name, None)
            case 1:
                place[name] = self.nested(chance.choice((2, 30, 33, 200, 1_200)))
            case 2:
                place[chance.choice(TEXTS)] = chance.choice(VALUES)
            case _:
                place[name] = chance.choice(VALUES)

    def nested(self, depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = [value] if self._chance.random() < 0.5 else {"a": value}
        return value

    def frame(self, codec: Codec) -> bytes | str:
        """A frame of one or several messages, now and then with broken bytes. JSON comes as a socket hands it on."""
        chance = self._chance
        messages = [self.message() for _ in range(chance.choice((1, 1, 1, 2, 5)))]
        payload = encoded(codec, messages if len(messages) > 1 or chance.random() < 0.1 else messages[0])
        if chance.random() < 0.4:
            payload = self.mutated(payload)
        return payload.decode(errors="replace") if codec is JSON else payload

    def mutated(self, payload: bytes) -> bytes:
        chance = self._chance
        data = bytearray(payload)
        for _ in range(chance.randint(1, 5)):
            place = chance.randrange(len(data) + 1)
            match chance.randrange(6):
                case 0 if data:
                    data[place % len(data)] = chance.randrange(256)
                case 1:
                    del data[place : place + chance.randint(1, 16)]
                case 2:
                    data[place:place] = chance.randbytes(chance.randint(1, 8))
                case 3:
                    data[place:place] = data[: chance.randint(0, 40)]
                case 4:
                    data[place:place] = chance.choice(
                        (b"[" * 2_000, b"{" * 9, b'\\u0000"', b"\xdf\xff\xff\xff\xff", b"\xdd\x7f\xff\xff\xff", b"\xc1")
                    )
                case _:
                    del data[place:]
        return bytes(data)

    def text(self) -> str:
        """A channel name, or nearly one."""
        chance = self._chance
        made = chance.choice(["custom:a", "book:10:BTC/USDT:USDT", "team:t", "prices:X", *TEXTS])
        for _ in range(chance.choice((0, 1, 1, 3))):
            place = chance.randrange(len(made) + 1)
            other = chance.choice([chr(chance.randrange(0x250)), chr(chance.randrange(0x110000)), "*", ":", "/", " "])
            made = made[:place] + other * chance.choice((1, 1, 1, 260)) + made[place + chance.randrange(2) :]
        return made

    def token(self, good: str) -> str:
        chance = self._chance
        if chance.random() < 0.2:
            return self.text()
        parts = good.split(".")
        place = chance.randrange(3)
        parts[place] = self.mutated(parts[place].encode()).decode("latin-1")
        return ".".join(parts if chance.random() < 0.9 else parts * 2)

    def position(self) -> Any:
        chance = self._chance
        made = {"epoch": chance.choice(["e", *VALUES]), "offset": chance.choice([chance.randint(0, 2**53), *VALUES])}
        self._spoil(made)
        return made

    def runs(self) -> tuple[int, list[int], list[int]]:
        """(since, offsets of history, offsets heard live)."""
        chance = self._chance
        start = chance.randrange(20)
        history = list(range(start, start + chance.randrange(12)))
        live = list(range(start + chance.randrange(12), start + chance.randrange(20)))
        for run in (history, live):
            if run and chance.random() < 0.3:
                del run[chance.randrange(len(run))]
            if chance.random() < 0.3:
                chance.shuffle(run)
        return chance.randrange(25), history, live


def encoded(codec: Codec, value: Any) -> bytes:
    try:
        if codec is JSON:
            return json.dumps(value, default=str).encode(errors="surrogatepass")
        packed: bytes = msgpack.packb(value, unicode_errors="surrogatepass", buf_size=4096)
        return packed
    except (ValueError, OverflowError, RecursionError):  # deeper or larger than these encoders go
        return (b"[" if codec is JSON else b"\x91") * 2_000


def tell(error: HubError) -> None:
    """A documented error of the peer's own making."""
    assert error.code is not ErrorCode.INTERNAL
    assert len(error.message) < 300


def decoding(codec: Codec) -> Callable[[bytes | str], None]:
    def decode(payload: bytes | str) -> None:
        for each in codec.decode(payload):
            if isinstance(each, tuple):
                assert 0 <= each[0] < 2**53
                tell(each[1])
            else:
                if isinstance(each, Connect):
                    each = _with_what_can_be_read(each)
                again = codec.decode(_text(codec, codec.encode(each)))
                assert [codec.encode(command) for command in again] == [codec.encode(each)]

    return decode


def _with_what_can_be_read(connect: Connect) -> Connect:
    for options in connect.subscriptions.values():
        if isinstance(options, RefusedOptions):
            tell(options.error)
    read = {name: each for name, each in connect.subscriptions.items() if not isinstance(each, RefusedOptions)}
    return msgspec.structs.replace(connect, subscriptions=read)


def _text(codec: Codec, payload: bytes) -> bytes | str:
    return payload.decode() if codec is JSON else payload


def naming(access: Access) -> Callable[[str], None]:
    somebody = caller("ann", "trader", "agent", teams=("t",))

    def name(text: str) -> None:
        try:
            namespace, rest = split_channel(text)
        except HubError as error:
            tell(error)
        else:
            assert f"{namespace}:{rest}" == text
            assert text.isascii()
            assert text.isprintable()
            assert len(text) <= MAX_CHANNEL_BYTES
        assert matches(text, text) or text.endswith("*")
        for action in ("publish", "subscribe"):
            try:
                access.require(somebody, action, text)
            except HubError as error:
                tell(error)

    return name


def verifying(tokens: Tokens, good: str) -> Callable[[str], None]:
    claims = tokens.verify(good)

    def verify(token: str) -> None:
        try:
            found = tokens.verify(token)
        except HubError as error:
            assert error.code in (ErrorCode.TOKEN_INVALID, ErrorCode.TOKEN_EXPIRED)
        else:
            assert found == claims, "a forged token was accepted"

    return verify


class _Placed(NamedTuple):
    offset: int


def merging(run: tuple[int, list[int], list[int]]) -> None:
    since, history, live = run
    try:
        merged = merge_recovered(since, [_Placed(each) for each in history], [_Placed(each) for each in live])
    except Gap as gap:
        assert gap.expected not in {*history, *live}
        return
    assert [each.offset for each in merged] == list(range(since + 1, since + 1 + len(merged)))


def placing(value: Any) -> None:
    for codec, decode in ((JSON, msgspec.json.decode), (MSGPACK, msgspec.msgpack.decode)):
        with contextlib.suppress(msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            found = decode(encoded(codec, value), type=Position)
            assert 0 <= found.offset < 2**53
            assert len(found.epoch) <= 64


class Count(NamedTuple):
    inputs: int
    slowest_s: float


@contextlib.contextmanager
def others_left_alone() -> Iterator[None]:
    """What other tests have left in this process is not collected meanwhile: that takes a second, and is not ours."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def run(target: Callable[[Any], None], inputs: Iterator[Any]) -> Count:
    """Every input through the target. Raises with the input that it failed for."""
    count = 0
    slowest = 0.0
    with others_left_alone():
        for each in inputs:
            began = time.thread_time()
            try:
                target(each)
            except Exception as failure:
                raise AssertionError(f"input {count}: {each!r:.2000}") from failure
            took = time.thread_time() - began
            slowest = max(slowest, took)
            count += 1
    assert slowest < LONGEST_S
    return Count(count, slowest)


def pure_targets(seed: int) -> dict[str, tuple[Callable[[Any], None], Callable[[], Any]]]:
    """{name: (target, maker of inputs)} of everything that needs no loop and no socket."""
    inputs = Inputs(seed)
    tokens = Tokens(configured_keys("HS256", signing=bytes(range(32))), clock=ManualClock())
    good = tokens.issue("ann", roles=("trader",), teams=(), ttl_s=600, principal="operator")
    access = Access(Namespaces(DEFAULTS), report=lambda event: None)
    return {
        "JSON codec": (decoding(JSON), lambda: inputs.frame(JSON)),
        "msgpack codec": (decoding(MSGPACK), lambda: inputs.frame(MSGPACK)),
        "channel names": (naming(access), inputs.text),
        "tokens": (verifying(tokens, good), lambda: inputs.token(good)),
        "positions": (placing, inputs.position),
        "joining of runs": (merging, inputs.runs),
    }


async def session(scene: Scene, codec: Codec, seed: int, count: int) -> Count:
    """Frames into real connections with recorded sockets; the hub answers each well-formed question to the end."""
    inputs = Inputs(seed, [command for command in COMMANDS if command["type"] != "search"])  # the scene has none
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    slowest = 0.0
    sent = 0
    while sent < count:
        client = await scene.client(f"ann-{sent % USERS}", codec=codec)
        for _ in range(BATCH):
            payload = inputs.frame(codec)
            began = time.thread_time()
            client.connection.receive(payload)
            slowest = max(slowest, time.thread_time() - began)
            sent += 1
            if client.socket.closed:
                break
        if not client.socket.closed:
            await _still_answers(client)
        for message in client.messages:
            error = message.get("error") or {}
            assert error.get("name") != "internal", message
        client.connection.lost()
        scene.events.clear()  # or memory would grow by what the scene records
        scene.signals.clear()
    await asyncio.sleep(0)
    assert failures == []
    assert slowest < LONGEST_S
    return Count(sent, slowest)


async def _still_answers(client: Client) -> None:
    """A question after all others is answered, or the hub has said goodbye."""
    number = 1 << 40
    client.send({"type": "history", "id": number, "channel": "custom:quiet"})
    async with asyncio.timeout(30):
        while not (client.replies(number) or client.socket.closed):
            await asyncio.sleep(0.001)
