"""Token buckets. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

MAX_BUCKETS = 65_536  # per kind of limit; beyond it the one unused for longest is forgotten, and is full again


class TokenBucket:
    """Lets `rate_per_s` through on average, and `burst` at once: one second's worth unless said otherwise."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens", "spent")

    def __init__(self, rate_per_s: float, *, now: float, burst: float | None = None) -> None:
        self._rate = rate_per_s
        self._burst = self._tokens = max(1.0, rate_per_s if burst is None else burst)
        self._at = now
        self.spent = 0.0  # since somebody last set it to 0

    def take(self, *, now: float, cost: float = 1.0) -> float:
        """Take `cost` tokens: 0.0, or the seconds until there will be as many. A cost above the burst takes it all."""
        tokens = self._tokens + (now - self._at) * self._rate
        burst = self._burst
        if tokens > burst:  # comparisons, not min(): this runs for every publish
            tokens = burst
        if cost > burst:
            cost = burst
        self._at = now
        if tokens < cost:
            self._tokens = tokens
            return (cost - tokens) / self._rate
        self._tokens = tokens - cost
        self.spent += cost
        return 0.0

    def remaining(self, *, now: float) -> float:
        return max(0.0, min(self._burst, self._tokens + (now - self._at) * self._rate))

    def debit(self, amount: float) -> None:
        """Take what others have used already. The debt is bounded by the burst: it is paid within seconds."""
        self._tokens = max(-self._burst, self._tokens - amount)

    def set_rate(self, rate_per_s: float) -> None:
        self._rate = rate_per_s


class Buckets:
    """Buckets by key, at most `size` of them."""

    def __init__(self, size: int = MAX_BUCKETS) -> None:
        self._size = size
        self._buckets: dict[str, TokenBucket] = {}  # the one used last stands last

    def of(self, key: str, rate_per_s: float, *, now: float, burst: float | None = None) -> TokenBucket:
        """The key's bucket, made full if there is none."""
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            if len(self._buckets) >= self._size:
                del self._buckets[next(iter(self._buckets))]
            bucket = TokenBucket(rate_per_s, now=now, burst=burst)
        self._buckets[key] = bucket
        return bucket

    def find(self, key: str) -> TokenBucket | None:
        return self._buckets.get(key)

    def recent(self, count: int) -> Iterator[tuple[str, TokenBucket]]:
        """The ones asked for last, newest first."""
        return islice(reversed(self._buckets.items()), count)

    def __len__(self) -> int:
        return len(self._buckets)
