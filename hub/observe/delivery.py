"""What goes out, and how long it took from publishing to the write of the last reader of a slice."""

from __future__ import annotations

from collections.abc import Sequence

from hub.clock import Clock
from hub.observe.metrics import OTHER, Histogram, Tally
from hub.publication import Publication
from protocol.vocabulary import MESSAGE_TYPES


class DeliveryMeter:
    """`latency` in milliseconds, up to one too long: a publication's time is whole milliseconds.

    Both clocks are walls: across nodes the latency includes how far these are apart.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self.latency = Histogram()
        self.types = Tally()

    def written(self, publications: Sequence[Publication], readers: int) -> None:
        """Implements `hub.channels.fanout.Written`."""
        now_ms = self._clock.now_us() / 1000
        observe, add = self.latency.observe, self.types.add
        for publication in publications:
            observe(now_ms - publication.timestamp, readers)
            add(publication.type if publication.type in MESSAGE_TYPES else OTHER, readers)
