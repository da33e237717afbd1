"""The server inside the open hub, not the hub inside the server.

Otherwise uvicorn would close every socket before the hub could say goodbye, and would go on answering after a
background task of the hub had died.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from hub.app import create_app
from hub.bootstrap import Hub
from hub.config import Settings
from hub.edge.http import StreamingHttpProtocol
from hub.edge.raw import RawWebSocketProtocol
from hub.unusable import ConfigError

logger = logging.getLogger("krin.serve")

BACKLOG = 4096
# What asyncio takes from the backlog in one turn, and how often in one turn it tries and complains while no file
# descriptor is left.
ACCEPTS = 64
COMPLAIN_S = 1.0
LINGER_S = 3.0  # after the drain, for answers under way


class DrainingServer(uvicorn.Server):
    """uvicorn, with the hub's drain before its own shutdown."""

    def __init__(
        self, config: uvicorn.Config, *, on_ready: Callable[[], None], drain: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._drain = drain

    async def run_until_told(self, listener: socket.socket) -> None:
        """Serve on an open socket until SIGTERM or SIGINT, drain, and return.

        Not uvicorn's `serve`: that raises the signal again at the end, and a drained node should exit with 0.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(Complaints())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told)
        try:
            await self._serve([listener])
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)  # asyncio has set it to what it accepts in one turn
        calm_collector()
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._drain()
        await super().shutdown(sockets)

    def _told(self) -> None:
        if self.should_exit:  # asked twice: stop waiting for anybody
            self.force_exit = True
        self.should_exit = True


DROPPED = "unexpected connection_lost() call"  # asyncpg's word


class Complaints:
    """What asyncio reports. That nothing can be accepted it would say, with a traceback, at every try."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failure = context.get("exception")
        if isinstance(failure, ConnectionError) and str(failure) == DROPPED:
            return  # a connect to Postgres that was given up while it asked for TLS: nobody waits for it any more
        if not (isinstance(failure, OSError) and "accept()" in context["message"]):
            loop.default_exception_handler(context)
        elif loop.time() >= self._quiet_until:
            self._quiet_until = loop.time() + COMPLAIN_S
            logger.error("new connections wait: accept() says %s", failure.strerror)


def calm_collector() -> None:
    """Keep the cyclic collector away from what lives for ever, and let it look rarely at the rest.

    Connections free themselves by reference count (a test proves it), but each full collection would walk all of them:
    it took a third of the time of ten thousand connects, and stopped every client for as long.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)


def bind(settings: Settings) -> socket.socket:
    """The listening socket. Raises ConfigError for an address that is in use or not ours."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only where it reads IPPROTO_TCP; with it on, a
    # second write waits for the reader's delayed acknowledgement: 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
    except OSError as failure:
        listener.close()
        where = f"{settings.host}:{settings.port}"
        raise ConfigError(f"cannot listen on {where}: {failure.strerror}; --port 0 takes any free port") from None
    listener.setblocking(False)
    return listener


def address(listener: socket.socket, settings: Settings) -> str:
    """`http://HOST:PORT`, or https, as a browser wants it."""
    scheme = "https" if settings.tls.cert else "http"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.3 at least, or None without a certificate. Raises ConfigError for files that are no use."""
    if settings.tls.cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(settings.tls.cert, settings.tls.key, password=_no_password)
    except (OSError, ValueError) as failure:  # ssl.SSLError is an OSError
        raise ConfigError(f"the TLS certificate or key cannot be used: {_reason(failure)}") from None
    return context


def _no_password() -> bytes:
    raise ValueError("the key is encrypted")  # else OpenSSL would ask at a terminal that may not be there


def _reason(failure: OSError | ValueError) -> str:
    if isinstance(failure, ssl.SSLError):
        return "it is no PEM file of a certificate and its key"
    return getattr(failure, "strerror", None) or str(failure)


async def serve(
    hub: Hub,
    listener: socket.socket,
    on_ready: Callable[[], None],
    *,
    tls: ssl.SSLContext | None = None,
    demo_token: Callable[[], str] | None = None,
) -> None:
    """Serve the hub until told to stop. The caller prints what a user should know in `on_ready`."""
    config = uvicorn.Config(
        create_app(hub, demo_token=demo_token),
        http=StreamingHttpProtocol,
        ws=RawWebSocketProtocol,
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=ACCEPTS,
        ws_max_size=hub.settings.limits.message_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        ws_ping_timeout=None,
        timeout_graceful_shutdown=int(LINGER_S),
    )
    config.load()
    config.ssl = tls
    await DrainingServer(config, on_ready=on_ready, drain=hub.drain).run_until_told(listener)
