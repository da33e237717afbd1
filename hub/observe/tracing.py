"""Traces of messages: one tree of spans from publishing to the last write, on however many nodes, exported by OTLP.

A message carries its trace itself (`trace`, a W3C traceparent), so that whoever handles it next, on this node or
another, hangs its span below. Off, nothing of this is called: the parts are given no tracer. On, there are at most so
many spans a second, whoever asks for them: a publisher can ask with every message.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from hub.clock import Clock
from hub.guard.buckets import TokenBucket
from hub.observe.delivery import DeliveryMeter
from hub.publication import Publication
from protocol.codec import trace_of
from protocol.messages import Published

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

logger = logging.getLogger("krin.trace")

TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})\Z")
SAMPLED = 1

Placed = Published | asyncio.Future[Published]


class Traced(Protocol):
    """A publish that is being traced."""

    traceparent: str

    def followed(self, placed: Placed) -> Placed: ...


class _Publish:
    """The span of a publish, and below it that of its way into the log or the broker."""

    def __init__(self, tracing: Tracing, span: Span, channel: str, where: str) -> None:
        context = span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.traceparent = f"00-{self.trace_id}-{context.span_id:016x}-01"
        self._tracing = tracing
        self._span = span
        self._channel = channel
        self._where = where
        self._began_us = tracing.now_us()

    def followed(self, placed: Placed) -> Placed:
        """`placed`, whose end is the end of the spans."""
        if isinstance(placed, asyncio.Future):
            placed.add_done_callback(self._settle)
        else:
            self._end(placed)
        return placed

    def _settle(self, placed: asyncio.Future[Published]) -> None:
        if placed.cancelled() or placed.exception() is not None:
            self._span.set_attribute("krin.failed", True)
            self._span.end()
        else:
            self._end(placed.result())

    def _end(self, published: Published) -> None:
        self._tracing.span(self._where, self.traceparent, self._began_us)
        self._span.set_attribute("messaging.message.id", f"{published.epoch}:{published.offset}")
        self._span.end()
        logger.info(
            "published %s at %s:%d", self._channel, published.epoch, published.offset, extra={"trace_id": self.trace_id}
        )


class TracedRequest:
    """The span of a REST request. As a context it ends with it, whatever happens."""

    def __init__(self, tracing: Tracing, span: Span, operation: str) -> None:
        context = span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.traceparent = f"00-{self.trace_id}-{context.span_id:016x}-01"
        self._tracing = tracing
        self._span = span
        self._operation = operation
        self._began_us = tracing.now_us()

    def answered(self, status: int) -> None:
        self._span.set_attribute("http.response.status_code", status)
        duration_s = (self._tracing.now_us() - self._began_us) / 1e6
        self._tracing.exemplify(self._operation, duration_s, self.trace_id)
        logger.info("answered %s with %d", self._operation, status, extra={"trace_id": self.trace_id})

    def __enter__(self) -> TracedRequest:
        return self

    def __exit__(self, *failure: object) -> None:
        self._span.end()


class Tracing:
    """`ratio`: how many of the messages that bring no trace get one; `max_per_s`: how many are traced at most;
    `exemplify`: told of each request, how long it took, and its trace.
    """

    def __init__(
        self,
        tracer: Tracer,
        *,
        ratio: float,
        max_per_s: int,
        clock: Clock,
        exemplify: Callable[[str, float, str], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._tracer = tracer
        self._ratio = ratio
        self._clock = clock
        self.exemplify = exemplify
        self._chance = chance
        self._budget = TokenBucket(max_per_s, now=clock.monotonic())

    def now_us(self) -> int:
        return self._clock.now_us()

    def publish(self, channel: str, type: str, trace: str | None, *, where: str) -> Traced | None:
        """Begin the span of a publish; None: this one is not traced. `where` it goes: commit, broker."""
        parent = None
        if trace is not None:
            if (parent := _sampled(trace)) is None:
                return None
        elif self._chance() >= self._ratio:
            return None
        if self._budget.take(now=self._clock.monotonic()):
            return None
        attributes = {"messaging.destination.name": channel, "krin.type": type}
        return _Publish(self, self._tracer.start_span("publish", parent, attributes=attributes), channel, where)

    def request(self, operation: str, trace: str | None) -> TracedRequest | None:
        """Begin the span of a request, of an operation such as `POST /v1/publish`; None: it brings no sampled trace."""
        parent = None if trace is None else _sampled(trace)
        if parent is None or self._budget.take(now=self._clock.monotonic()):
            return None
        method, route = operation.split(" ")
        attributes = {"http.request.method": method, "http.route": route}
        return TracedRequest(self, self._tracer.start_span(operation, parent, attributes=attributes), operation)

    def span(self, name: str, trace: str, began_us: int, **attributes: Any) -> None:
        """A span that ends now, below `trace`."""
        if (parent := _sampled(trace)) is not None:
            began_us = min(began_us, self.now_us())
            self._tracer.start_span(name, parent, attributes=attributes, start_time=began_us * 1000).end()

    def measured(self, meter: DeliveryMeter) -> Callable[[Sequence[Publication], int], None]:
        """`meter.written`, with a span `deliver` for each traced message: from published to written."""

        def written(publications: Sequence[Publication], readers: int) -> None:
            meter.written(publications, readers)
            for publication in publications:
                trace = trace_of(publication.body).decode()
                if trace and not self._budget.take(now=self._clock.monotonic()):
                    began_us = publication.timestamp * 1000
                    self.span("deliver", trace, began_us, **{"krin.readers": readers})
                    meter.latency.exemplify((self.now_us() - began_us) / 1000, trace[3:35], self.now_us() / 1e6)

        return written


@contextmanager
def open_tracer(endpoint: str, *, node: str, version: str) -> Iterator[Tracer]:
    """Spans go to `endpoint` (OTLP over HTTP) in batches, from a thread. Raises ImportError without the extra."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "krin", "service.instance.id": node, "service.version": version})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=2)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    try:
        yield provider.get_tracer("krin", version)
    finally:
        provider.shutdown()


def _sampled(trace: str) -> Context | None:
    """What is to hang below a traceparent; None: it is none, or nobody wants to see it."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    found = TRACEPARENT.match(trace)
    if found is None or not int(found[3], 16) & SAMPLED:
        return None
    context = SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=TraceFlags(SAMPLED))
    return set_span_in_context(NonRecordingSpan(context))
