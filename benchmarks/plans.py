"""What the generator is asked to do: plain data that travels from the runner to the generator's process as JSON."""

from __future__ import annotations

import msgspec


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a connection goes and what it says first. `@I@` in path and hello is the connection's number.

    `ready`: bytes in the server's answer that mean "you are in"; empty: the upgrade is enough. `keepalive` is sent
    every 15 s, for servers that cut silent clients.
    """

    port: int
    host: str = "127.0.0.1"
    path: str = "/"
    subprotocol: str | None = None
    headers: dict[str, str] = {}
    binary: bool = False
    hello: list[bytes] = []
    ready: bytes = b""
    keepalive: bytes = b""


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One publisher: an open loop over its messages, `rate_per_s` in all, message i of `messages` for channel i."""

    target: Target
    messages: list[bytes]
    rate_per_s: float
    mark: str = "S"  # the letter in "T?=": tells classes of messages apart
    http: bool = False  # messages are complete HTTP requests instead of frames
    batch: bool = False  # what is due at the same moment goes out as one array in one frame


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """Connections of one kind. Connection i uses target i modulo their number.

    `follows`: per target, which of each stream's messages its connections receive (indices); None: all of them.
    """

    targets: list[Target]
    count: int
    follows: list[list[int]] | None = None
    never_reads: int = 0  # so many of them, spread evenly, never read once they are in


class FanoutPlan(msgspec.Struct, frozen=True, kw_only=True, tag="fanout"):
    audience: Audience
    streams: list[Stream]
    seconds: float
    warm_up_s: float = 1.0
    settle_s: float = 0.5
    drain_s: float = 5.0
    pids: list[int] = []
    samples_per_s: int = 40_000  # at most about this many latencies are recorded each second
    ascii: bool = True  # "=" occurs nowhere but in a stamp, so counting one byte counts deliveries
    conflates: bool = False  # missing messages are the server's promise and not a failure


class AckPlan(msgspec.Struct, frozen=True, kw_only=True, tag="acks"):
    """Publishers that wait for their acknowledgements, and one reader that must see each message once."""

    publishers: list[Target]
    messages: list[bytes]  # one per publisher
    reader: Target
    seconds: float
    window: int = 1  # unacknowledged messages per publisher (closed loop)
    rate_per_s: float | None = None  # open loop instead, in all
    warm_up_s: float = 1.0
    drain_s: float = 5.0
    pids: list[int] = []


class OrdersPlan(msgspec.Struct, frozen=True, kw_only=True, tag="orders"):
    """Traders that place orders at a pace, a feed that keeps their price fresh, and one reader of all their reports."""

    traders: list[Target]
    messages: list[list[bytes]]  # per trader: what it sends in turn
    reader: Target
    feed: Target
    market: list[bytes]  # with the time, in microseconds, in place of the stamp
    officer: Target
    limits: bytes
    probe: bytes  # an order to validate: when it would pass, the market is open
    rate_per_s: float  # in all
    seconds: float
    warm_up_s: float = 1.0
    drain_s: float = 5.0
    pids: list[int] = []


class Route(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    request: bytes


class HttpPlan(msgspec.Struct, frozen=True, kw_only=True, tag="http"):
    port: int
    routes: list[Route]
    rate_per_s: float
    seconds: float  # per route
    connections: int = 32
    host: str = "127.0.0.1"
    pids: list[int] = []


class StormPlan(msgspec.Struct, frozen=True, kw_only=True, tag="storm"):
    """Connect `count` clients as fast as they come in; with `stream`, cut them all and bring them back, recovered."""

    targets: list[Target]
    count: int
    in_flight: int = 256
    stream: Stream | None = None
    away_s: float = 1.0
    steady_s: float = 2.0
    drain_s: float = 20.0
    recover_channel: str = ""
    pids: list[int] = []


class RestartPlan(msgspec.Struct, frozen=True, kw_only=True, tag="restart"):
    """Clients that go where the other nodes are when theirs says goodbye, until the runner says `finish`."""

    targets: list[Target]  # one per node
    count: int
    streams: list[Stream]  # mark "S" must arrive gapless; mark "U" is latest-value traffic
    recover_channel: str
    steady_s: float = 3.0
    limit_s: float = 120.0
    drain_s: float = 10.0


class MarketPlan(msgspec.Struct, frozen=True, kw_only=True, tag="market"):
    """Readers of prices that the hub itself publishes; each message says when the hub received what it is made of."""

    target: Target
    count: int
    seconds: float
    warm_up_s: float = 3.0
    pids: list[int] = []


Plan = FanoutPlan | AckPlan | OrdersPlan | HttpPlan | StormPlan | RestartPlan | MarketPlan
