"""Prometheus metrics, read from the parts when scraped: the hot path counts in plain integers and knows no registry."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

Reader = Callable[[], Iterable[Metric]]


LATENCIES_MS = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 150, 250, 500, 1000, 2500, 5000, 10_000)
"""Upper bounds of the buckets of a latency, in milliseconds: narrow where the promises are (50 and 100 ms)."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
OTHER = "other"
MAX_KINDS = 200


class Histogram:
    """Counts by bucket. One `observe` is a search among some twenty bounds and two additions."""

    __slots__ = ("_bounds", "_exemplars", "counts", "total")

    def __init__(self, bounds: Sequence[float] = LATENCIES_MS) -> None:
        self._bounds = bounds
        self._exemplars: dict[int, Exemplar] = {}  # the newest of each bucket
        self.counts = [0] * (len(bounds) + 1)  # the last: above every bound
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self._bounds, value)] += times
        self.total += value * times

    @property
    def count(self) -> int:
        return sum(self.counts)

    def above(self, bound: float) -> int:
        """How many observations were larger than one of the bounds. Raises ValueError for another number."""
        return sum(self.counts[self._bounds.index(bound) + 1 :])

    def quantiles(self, shares: Sequence[float], *, since: Sequence[int]) -> list[float] | None:
        """Up to which value so many of the observations were that came after the counts were `since`; None without any.

        Interpolated within a bucket; what lies above every bound counts as the highest.
        """
        fresh = [now - then for now, then in zip(self.counts, since, strict=True)]
        upto = list(accumulate(fresh))
        if not upto[-1]:
            return None
        edges = (0.0, *self._bounds, self._bounds[-1])
        found = []
        for share in shares:
            rank = share * upto[-1]
            place = bisect_left(upto, rank)
            inside = (rank - upto[place] + fresh[place]) / fresh[place]
            found.append(edges[place] + inside * (edges[place + 1] - edges[place]))
        return found

    def exemplify(self, value: float, trace_id: str, timestamp_s: float) -> None:
        """Name the trace of a value that was observed."""
        self._exemplars[bisect_left(self._bounds, value)] = Exemplar({"trace_id": trace_id}, value, timestamp_s)

    def buckets(self) -> list[Any]:
        """As prometheus_client takes them: (upper bound, values up to it, exemplar where there is one)."""
        names = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        return [
            (name, float(upto), self._exemplars[place]) if place in self._exemplars else (name, float(upto))
            for place, (name, upto) in enumerate(zip(names, accumulate(self.counts), strict=True))
        ]


class Tally:
    """Counts by kind, for a label. Bounded: kinds beyond MAX_KINDS, which only strangers can make up, are OTHER."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, kind: str, times: int = 1) -> None:
        counts = self.counts
        if kind not in counts and len(counts) >= MAX_KINDS:
            kind = OTHER
        counts[kind] = counts.get(kind, 0) + times


class Metrics(Collector):
    """Collects from readers, one per part of the hub."""

    def __init__(self, readers: Iterable[Reader]) -> None:
        self._readers = list(readers)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        for read in self._readers:
            yield from read()

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """What Prometheus scrapes, and its media type: OpenMetrics, which has exemplars, for those who accept it."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def histogram(name: str, text: str, observed: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=observed.buckets(), sum_value=observed.total)


def histograms(name: str, text: str, label: str, observed: Mapping[str, Histogram]) -> Metric:
    """One histogram with one label; the labels' values must be few."""
    family = HistogramMetricFamily(name, text, labels=[label])
    for key, each in observed.items():
        family.add_metric([key], each.buckets(), each.total)
    return family


def gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """As `counters`, for values that go up and down."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """One counter with one label; the labels' values must be few."""
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
