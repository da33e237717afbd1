"""The token bucket. Pure: time is an argument."""

from __future__ import annotations


class TokenBucket:
    """Lets `rate_per_s` through on average and one second's worth at once."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate_per_s: float, *, now: float) -> None:
        self._rate = rate_per_s
        self._tokens = rate_per_s
        self._at = now

    def take(self, *, now: float) -> float:
        """Take one token: 0.0, or the seconds until there will be one."""
        tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if tokens < 1:
            self._tokens = tokens
            return (1 - tokens) / self._rate
        self._tokens = tokens - 1
        return 0.0
