"""A log-linear histogram of whole numbers: 64 sub-buckets per power of two, so every answer is within 1/64.

A percentile is the upper edge of its bucket, never above the largest value seen: a rounded figure never flatters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

SUB_BITS = 6
SUB = 1 << SUB_BITS
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}


def bucket_of(value: int) -> int:
    """The bucket that holds a value >= 0. Below 64 there is one bucket for each value."""
    if value < SUB:
        return value
    exponent = value.bit_length() - 1 - SUB_BITS
    return (exponent + 1) * SUB + ((value >> exponent) & (SUB - 1))


def bounds(bucket: int) -> tuple[int, int]:
    """(lowest, highest) value of a bucket."""
    if bucket < SUB:
        return bucket, bucket
    exponent = bucket // SUB - 1
    low = (SUB + bucket % SUB) << exponent
    return low, low + (1 << exponent) - 1


class Histogram:
    """Counts of values. Negative ones count as 0: a clock that is a hair off must not end a run."""

    def __init__(
        self, counts: dict[int, int] | None = None, *, total: int = 0, largest: int = 0, sum_: int = 0
    ) -> None:
        self.counts: dict[int, int] = counts or {}
        self.total = total
        self.largest = largest
        self.sum = sum_

    def record(self, value: int) -> None:
        value = max(value, 0)
        bucket = bucket_of(value)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total += 1
        self.sum += value
        self.largest = max(self.largest, value)

    def record_all(self, values: Iterable[int]) -> None:
        for value in values:
            self.record(value)

    def merge(self, other: Histogram) -> None:
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.total += other.total
        self.sum += other.sum
        self.largest = max(self.largest, other.largest)

    def quantile(self, q: float) -> int:
        """The smallest recorded bucket edge at or below which a share `q` of all values lies; 0 when empty."""
        wanted = max(1, math.ceil(q * self.total - 1e-9))
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return min(bounds(bucket)[1], self.largest)
        return 0

    @property
    def mean(self) -> float:
        return self.sum / self.total if self.total else 0.0

    def figures(self, scale: float = 1e6) -> dict[str, float]:
        """Nanoseconds as milliseconds, unless told otherwise."""
        named = {name: round(self.quantile(q) / scale, 3) for name, q in QUANTILES.items()}
        return {
            "mean": round(self.mean / scale, 3),
            **named,
            "max": round(self.largest / scale, 3),
            "count": self.total,
        }

    def curve(self, scale: float = 1e6) -> Iterator[tuple[float, float]]:
        """(share of values, value) at the upper edge of each bucket: what a distribution plot needs."""
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            yield seen / self.total, min(bounds(bucket)[1], self.largest) / scale

    def dump(self) -> dict[str, object]:
        """JSON-like, sparse; `load` reads it back."""
        buckets = [[bucket, self.counts[bucket]] for bucket in sorted(self.counts)]
        return {"total": self.total, "largest": self.largest, "sum": self.sum, "buckets": buckets}

    @classmethod
    def load(cls, dumped: dict[str, object]) -> Histogram:
        pairs: list[list[int]] = dumped["buckets"]  # type: ignore[assignment]  # made by `dump`
        total, largest, sum_ = (int(str(dumped[name])) for name in ("total", "largest", "sum"))
        return cls({pair[0]: pair[1] for pair in pairs}, total=total, largest=largest, sum_=sum_)
