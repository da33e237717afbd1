"""The HTTP protocol of uvicorn with a way to cut off whoever does not read a stream."""

from __future__ import annotations

from hub.edge.raw import HttpProtocol

CUT = "krin.cut"  # an ASGI extension: ends the TCP connection at once, whatever waits to be sent


class StreamingHttpProtocol(HttpProtocol):
    """Otherwise the answer's task would wait for such a reader, and the kernel's buffer with it, for ever."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CUT: {"now": self.transport.abort}}
