"""Doors for those who speak another protocol: server-sent events, A2A, AG-UI, and where what they need is installed MCP
and Socket.IO."""

from __future__ import annotations

from importlib.util import find_spec
from urllib.parse import urlsplit

from hub.bootstrap.auth import Auth
from hub.bootstrap.ground import Ground
from hub.bootstrap.guard import Guard
from hub.bootstrap.rest import Rest
from hub.bootstrap.room import Room
from hub.bootstrap.sockets import Sockets
from hub.config import Settings
from hub.edge.a2a.rpc import A2ARoutes
from hub.edge.ag_ui import AgUiRoutes
from hub.edge.mcp.door import McpDoor, Server
from hub.edge.socketio.door import Server as SocketServer
from hub.edge.socketio.door import SocketIoDoor
from hub.edge.sse import SseRoutes
from hub.unusable import ConfigError

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


def open_doors(ground: Ground, auth: Auth, guard: Guard, rest: Rest, sockets: Sockets) -> Room:
    """Raises ConfigError for a door that was asked for and whose extra is not installed."""
    max_body_bytes = ground.settings.limits.message_bytes
    a2a = A2ARoutes(
        rest.service,
        ground.dispatcher,
        sockets.streams,
        credentials=auth.credentials,
        max_body_bytes=max_body_bytes,
    )
    ag_ui = AgUiRoutes(rest.service, ground.dispatcher, sockets.streams, max_body_bytes=max_body_bytes)
    sse = SseRoutes(rest.service, sockets.streams)
    mcp = _open_mcp(ground, auth, rest)
    socketio = _open_socketio(ground, auth, guard, sockets)
    return Room(
        routes=[
            *(*a2a.routes, *ag_ui.routes, *sse.routes),
            *(mcp.routes if mcp else ()),
            *(socketio.routes if socketio else ()),
        ],
        tasks=({"mcp": mcp.run} if mcp else {}) | ({"socket.io": socketio.run} if socketio else {}),
    )


def _open_mcp(ground: Ground, auth: Auth, rest: Rest) -> McpDoor | None:
    if find_spec("mcp") is None:
        return None
    settings = ground.settings
    hosts = _hosts(settings, auth.credentials.public_address)

    def load() -> Server:
        from hub.edge.mcp.server import McpServer  # the extra

        return McpServer(
            ground.dispatcher,
            allowed_hosts=hosts,
            allowed_origins=[
                *settings.security.allowed_origins,
                *(f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts),
            ],
            max_body_bytes=settings.limits.message_bytes,
            clock=ground.clock,
        )

    return McpDoor(rest.service, load, credentials=auth.credentials)


def _open_socketio(ground: Ground, auth: Auth, guard: Guard, sockets: Sockets) -> SocketIoDoor | None:
    settings = ground.settings
    if settings.doors.socketio is False:
        return None
    if find_spec("socketio") is None:
        if settings.doors.socketio:
            raise ConfigError("[doors] socketio needs the extra `socketio`: pip install 'krin-hub[socketio]'")
        return None

    def load() -> SocketServer:
        from hub.edge.socketio.server import SocketIoServer  # the extra

        return SocketIoServer(
            sockets.streams,
            ping_interval_s=settings.ping_interval_s,
            max_message_bytes=settings.limits.message_bytes,
        )

    return SocketIoDoor(
        load,
        authentication=auth.authentication,
        credentials=auth.credentials,
        streams=sockets.streams,
        limits=guard.limits,
        report=ground.events.report,
    )


def _hosts(settings: Settings, public_address: str | None) -> list[str]:
    """What a `Host` header may name: a page that has its own name resolve to this machine must not get in."""
    given = [*settings.security.allowed_hosts, *([urlsplit(public_address).netloc] if public_address else [])]
    return [*given, *(form for host in LOOPBACK_HOSTS for form in (host, f"{host}:*"))]
