"""Prometheus metrics, read from the parts when scraped: the hot path counts in plain integers and knows no registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Reader = Callable[[], Iterable[Metric]]


class Metrics(Collector):
    """Collects from readers, one per part of the hub."""

    def __init__(self, readers: Iterable[Reader]) -> None:
        self._readers = list(readers)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        for read in self._readers:
            yield from read()

    def exposition(self) -> bytes:
        """The text format that Prometheus scrapes."""
        return generate_latest(self._registry)


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def counters(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    """One counter with one label; the labels' values must be few."""
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
