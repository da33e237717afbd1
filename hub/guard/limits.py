"""How much anybody may ask for, per address, user and channel, counted in memory on this node.

What one connection may do by itself is counted by the connection (`Connection.spend`). With Redis the nodes tell each
other what they let through (`hub.guard.sharing`); nothing here ever waits for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from hub.caller import Caller
from hub.clock import Clock
from hub.config import LimitSettings
from hub.guard.addresses import Network, party, within
from hub.guard.buckets import MAX_BUCKETS, Buckets, TokenBucket
from hub.guard.events import Report, denied
from protocol.errors import ErrorCode, HubError
from protocol.messages import Limits as ClientLimits

Kind = Literal["connect", "login", "request", "subscribe", "read", "publish", "channel", "export"]

SPREAD_S = 5.0  # many strangers refused at once come back spread over this
TELL_INTERVAL_S = 1.0  # a burst of refusals is one fact
BLIND_COST = 4.0  # of a limit that fails closed, while the other nodes cannot be asked
HISTORY_ROWS = 100  # that cost as much as one small question
SEARCH_COST = 10.0


class Limit(msgspec.Struct, frozen=True):
    """`closed`: while the other nodes cannot be asked, assume that they let through as much as this one."""

    rate_per_s: float
    burst: float
    closed: bool = False


class Usage(msgspec.Struct, frozen=True):
    """Where somebody stands. `reset_ms`: until the whole burst is there again."""

    allowed: bool
    limit: int
    remaining: int
    reset_ms: int


def too_fast(wait_s: float, text: str, *, spread_s: float | None = None, chance: float | None = None) -> HubError:
    """`rate_limited` with a time to come back that differs from client to client: one wave must not become the next.

    The wait is stretched by up to `spread_s`, or up to its double; `chance` lies in [0, 1).
    """
    stretch = (random.random() if chance is None else chance) * (wait_s if spread_s is None else spread_s)
    return HubError(ErrorCode.RATE_LIMITED, text, retry_after_ms=max(1, round((wait_s + stretch) * 1000)))


class Limits:
    """Owner of the buckets that outlive a connection."""

    def __init__(
        self,
        table: Mapping[Kind, Limit],
        *,
        exempt: Sequence[Network],
        address_connections: int,
        user_connections: int,
        report: Report,
        clock: Clock,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._table = dict(table)
        self._exempt = exempt
        self._address_connections = address_connections
        self._user_connections = user_connections
        self._report = report
        self._clock = clock
        self._chance = chance
        self._slowness: Callable[[str, str], float] = lambda address, user: 1.0
        self.buckets: dict[Kind, Buckets] = {kind: Buckets() for kind in table}
        self._told: dict[tuple[Kind, str, str], float] = {}  # when a refusal was last reported
        self.blind = False  # set by hub.guard.sharing
        self.refused: dict[str, int] = {}  # kind -> count, for the metrics

    def slow_by(self, slowness: Callable[[str, str], float]) -> None:
        """`slowness(address, user)` -> how many times as much everything costs them. Set once, at start."""
        self._slowness = slowness

    def exempt(self, address: str) -> bool:
        """Whether this address is the operator's own and not limited."""
        return within(address, self._exempt)

    def spend(self, kind: Kind, who: str, *, address: str, user: str = "", cost: float = 1.0) -> None:
        """Count one use by `who`. Raises HubError(rate_limited) with a time to come back."""
        if self.exempt(address):
            return
        limit = self._table[kind]
        cost *= self._slowness(address, user)
        if limit.closed and self.blind:
            cost *= BLIND_COST
        now = self._clock.monotonic()
        if wait_s := self.buckets[kind].of(who, limit.rate_per_s, now=now, burst=limit.burst).take(now=now, cost=cost):
            raise self._refusal(kind, wait_s, address=address, user=user)

    def spend_address(self, kind: Kind, address: str, *, cost: float = 1.0) -> None:
        """As `spend`, by the party an address belongs to."""
        self.spend(kind, party(address), address=address, cost=cost)

    def spend_channel(self, channel: str, rate_per_s: float, caller: Caller) -> None:
        """Count a message into a channel whose namespace bounds what all publishers together may send."""
        now = self._clock.monotonic()
        if wait_s := self.buckets["channel"].of(channel, rate_per_s, now=now).take(now=now):
            raise self._refusal("channel", wait_s, address=caller.address, user=caller.user)

    def publishing(self, user: str, address: str) -> TokenBucket | None:
        """The bucket that all connections of a user share for what they publish; None for the operator's own.

        Handed out once per connection: the hot path takes from it without looking anything up.
        """
        if self.exempt(address):
            return None
        limit = self._table["publish"]
        bucket = self.buckets["publish"].of(user, limit.rate_per_s, now=self._clock.monotonic(), burst=limit.burst)
        bucket.set_rate(limit.rate_per_s / self._slowness(address, user))
        return bucket

    def usage(self, kind: Kind, who: str, *, address: str, allowed: bool) -> Usage:
        """What an answer may tell somebody of a limit."""
        limit = self._table[kind]
        bucket = None if self.exempt(address) else self.buckets[kind].find(who)
        left = limit.burst if bucket is None else bucket.remaining(now=self._clock.monotonic())
        return Usage(allowed, int(limit.burst), int(left), round((limit.burst - left) / limit.rate_per_s * 1000))

    def advertise(self, limits: ClientLimits, address: str) -> ClientLimits:
        """What a client is told, with the limits of its user."""
        if self.exempt(address):
            return limits
        return msgspec.structs.replace(
            limits,
            max_subscribes_per_s=int(self._table["subscribe"].rate_per_s),
            max_reads_per_s=int(self._table["read"].rate_per_s),
        )

    def admit_address(self, address: str, sockets: int) -> None:
        """One more socket from where there are `sockets` already. Raises HubError(rate_limited)."""
        if sockets >= self._address_connections and not self.exempt(address):
            raise self._refusal("connect", SPREAD_S, address=address, user="")

    def admit_user(self, user: str, address: str, sockets: int) -> None:
        """One more socket of a user who has `sockets` already. Raises HubError(limit_exceeded)."""
        if sockets >= self._user_connections and not self.exempt(address):
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"a user has at most {self._user_connections} connections")

    def guarded(
        self, kind: Kind, handler: Callable[[Any, Caller, Any], Any], *, cost: Callable[[Any], float] = lambda _: 1.0
    ) -> Callable[[Any, Caller, Any], Any]:
        """A command's handler behind its caller's limit."""

        def limited(command: Any, caller: Caller, codec: Any) -> Any:
            self.spend(kind, caller.user, address=caller.address, user=caller.user, cost=cost(command))
            return handler(command, caller, codec)

        return limited

    def _refusal(self, kind: Kind, wait_s: float, *, address: str, user: str) -> HubError:
        self.refused[kind] = self.refused.get(kind, 0) + 1
        now = self._clock.monotonic()
        if now - self._told.get((kind, address, user), -TELL_INTERVAL_S) >= TELL_INTERVAL_S:
            if len(self._told) >= MAX_BUCKETS:
                self._told.clear()
            self._told[kind, address, user] = now
            self._report(denied("excess_rate_limit_exceeded", address, kind, user=user))
        strangers = kind in ("connect", "login", "request")
        return too_fast(
            wait_s, "too many, come back later", spread_s=SPREAD_S if strangers else None, chance=self._chance()
        )


def table_of(settings: LimitSettings) -> dict[Kind, Limit]:
    """The limits as configured. Bursts let a client start up: page, history, channels."""
    return {
        "connect": Limit(settings.connects_per_s, settings.connects_per_s),
        "login": Limit(settings.logins_per_min / 60, max(1.0, settings.logins_per_min / 6), closed=True),
        "request": Limit(settings.requests_per_s, 2 * settings.requests_per_s),
        "subscribe": Limit(settings.subscribes_per_s, settings.subscribes_per_s + settings.subscriptions),
        "read": Limit(settings.reads_per_s, 10 * settings.reads_per_s),
        "publish": Limit(settings.user_publishes_per_s, settings.user_publishes_per_s),
        "export": Limit(settings.exports_per_min / 60, settings.exports_per_min),
        "channel": Limit(1, 1),  # each namespace has its own
    }


def history_cost(command: Any) -> float:
    return 1.0 + float(command.limit) / HISTORY_ROWS
