"""A real receiver of spans, as a collector is one: OTLP over HTTP on a port of this machine."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATH = "/v1/traces"


class Span(NamedTuple):
    node: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str


class Receiver:
    """`spans`: all that came, in the order in which they came."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self._arrived = threading.Condition()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        with self._arrived:
            for resource in request.resource_spans:
                attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
                        self.spans.append(Span(attributes["service.instance.id"], span.name, *ids))
            self._arrived.notify_all()

    def wait_for(self, count: int, *, trace_id: str, timeout_s: float = 30) -> list[Span]:
        """The spans of one trace, once there are as many. Raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._of(trace_id)) >= count, timeout_s):
                raise TimeoutError(f"{len(self._of(trace_id))} of {count} spans: {self.spans}")
            return self._of(trace_id)

    def _of(self, trace_id: str) -> list[Span]:
        return [span for span in self.spans if span.trace_id == trace_id]


@contextmanager
def receiver() -> Iterator[Receiver]:
    received = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == PATH:
                received.take(body)
            self.send_response(200 if self.path == PATH else 404)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        received.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()
