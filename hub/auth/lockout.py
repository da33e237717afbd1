"""How often may somebody be wrong: delays after failed sign-ins, by account, by address, and for the whole node.

Whoever guesses is slowed down; the owner of the account is not. An address from which an account has signed in before
has a count of its own with that account and is not touched by the others (the device cookies of OWASP, with the address
in place of the cookie). Counts live in this process, in bounded tables: the longest unused entry is forgotten first.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from hub.clock import Clock
from hub.guard.addresses import party
from hub.guard.events import Report, denied
from protocol.errors import ErrorCode, HubError

MAX_ENTRIES = 10_000  # of each table
MAX_NAME = 255  # characters of a name that count: no account has a longer one


class Limit(msgspec.Struct, frozen=True):
    """`failures` within `window_s` are free; then each one doubles the delay until the next try."""

    failures: int
    window_s: float
    first_delay_s: float
    longest_delay_s: float


ACCOUNT = Limit(failures=10, window_s=900, first_delay_s=10, longest_delay_s=900)
ADDRESS = Limit(failures=50, window_s=900, first_delay_s=10, longest_delay_s=900)
NODE = Limit(failures=1_000, window_s=60, first_delay_s=1, longest_delay_s=60)


class Failures(msgspec.Struct, frozen=True):
    """Since `since`, on the monotonic clock; nothing is allowed before `blocked_until`."""

    count: int = 0
    since: float = -math.inf
    blocked_until: float = -math.inf


NONE = Failures()


def current(failures: Failures, limit: Limit, *, now: float) -> Failures:
    """What still counts: all of it, until a whole window has passed without a block."""
    return NONE if now >= max(failures.since, failures.blocked_until) + limit.window_s else failures


def failed(failures: Failures, limit: Limit, *, now: float) -> Failures:
    """One more failure."""
    before = current(failures, limit, now=now)
    count = before.count + 1
    since = before.since if before.count else now
    if count < limit.failures:
        return Failures(count, since, before.blocked_until)
    # The exponent is bounded: the delay is, long before.
    delay_s = min(limit.first_delay_s * 2.0 ** min(count - limit.failures, 30), limit.longest_delay_s)
    return Failures(count, since, now + delay_s)


def wait_s(failures: Failures, limit: Limit, *, in_flight: int, now: float) -> float:
    """0.0: try; otherwise seconds to wait. Tries under way count as failed, so that none slip through together."""
    if now < failures.blocked_until:
        return failures.blocked_until - now
    if in_flight and current(failures, limit, now=now).count + in_flight >= limit.failures:
        return limit.first_delay_s
    return 0.0


class Counter:
    """One count and what is under way for it."""

    __slots__ = ("failures", "in_flight", "limit")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.failures = NONE
        self.in_flight = 0

    def wait_s(self, now: float) -> float:
        return wait_s(self.failures, self.limit, in_flight=self.in_flight, now=now)


class Attempt:
    """One try. Whoever makes it says how it ended; a try that ends without a word has proven nothing either way."""

    def __init__(self) -> None:
        self.outcome: bool | None = None

    def succeeded(self) -> None:
        self.outcome = True

    def failed(self) -> None:
        self.outcome = False


class Lockout:
    def __init__(self, *, clock: Clock, report: Report, max_entries: int = MAX_ENTRIES) -> None:
        self._clock = clock
        self._report = report
        self._max_entries = max_entries
        self._accounts: OrderedDict[str, Counter] = OrderedDict()
        self._addresses: OrderedDict[str, Counter] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], Counter] = OrderedDict()
        self._node = Counter(NODE)

    @contextmanager
    def attempt(self, account: str, address: str) -> Iterator[Attempt]:
        """Around the check of a secret. Raises HubError(rate_limited) on entry if it is too early.

        It makes no difference whether the account exists.
        """
        account, address = account[:MAX_NAME].replace("\0", "\ufffd"), party(address)  # Postgres keeps no NUL
        known = (account, address) in self._known
        counters = self._counters(account, address, known=known)
        wait = max(counter.wait_s(self._clock.monotonic()) for counter in counters)
        if wait:
            self._tell("authn_login_fail_max", account, address, retry_after_s=round(wait))
            raise HubError(
                ErrorCode.RATE_LIMITED, "too many failed sign-ins", retry_after_ms=max(1, math.ceil(wait * 1000))
            )
        made = Attempt()
        for counter in counters:
            counter.in_flight += 1
        try:
            yield made
        finally:
            for counter in counters:
                counter.in_flight -= 1
            if made.outcome is True:
                self._succeeded(account, address)
            elif made.outcome is False:
                self._failed(account, address, counters)

    def _counters(self, account: str, address: str, *, known: bool) -> list[Counter]:
        if known:
            return [self._known[account, address]]
        return [
            _entry(self._accounts, account, ACCOUNT, self._max_entries),
            _entry(self._addresses, address, ADDRESS, self._max_entries),
            self._node,
        ]

    def _succeeded(self, account: str, address: str) -> None:
        self._accounts.pop(account, None)
        _entry(self._known, (account, address), ACCOUNT, self._max_entries).failures = NONE

    def _failed(self, account: str, address: str, counters: list[Counter]) -> None:
        now = self._clock.monotonic()
        for counter in counters:
            counter.failures = failed(counter.failures, counter.limit, now=now)
        self._tell("authn_login_fail", account, address)

    def _tell(self, name: str, account: str, address: str, **detail: Any) -> None:
        self._report(denied(name, address, user=account, detail=detail))


def _entry(table: OrderedDict[Any, Counter], key: Any, limit: Limit, max_entries: int) -> Counter:
    """The counter of a key, now the one used last."""
    counter = table.get(key)
    if counter is None:
        counter = table[key] = Counter(limit)
        if len(table) > max_entries:
            table.popitem(last=False)
    table.move_to_end(key)
    return counter
