"""The WebSocket: who comes in, what their connection asks for, and what is left when it ends."""

from __future__ import annotations

from starlette.routing import WebSocketRoute

from hub.bootstrap.auth import Auth
from hub.bootstrap.channels import Channels
from hub.bootstrap.connections import Connections
from hub.bootstrap.coordination import Team
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.guard import Guard
from hub.bootstrap.room import Room
from hub.bootstrap.trading import Trading
from hub.connections.connection import Connection
from hub.edge.sessions import Sessions
from hub.edge.streams import Streams
from hub.edge.websocket import WebSocketEndpoint
from protocol.messages import Connect, Refresh, Subscribe, Unsubscribe


class Sockets(Room, frozen=True, kw_only=True):
    """`streams` are connections, too."""

    sessions: Sessions
    streams: Streams
    endpoint: WebSocketEndpoint


def open_sockets(
    ground: Ground,
    delivery: Delivery,
    auth: Auth,
    connections: Connections,
    guard: Guard,
    channels: Channels,
    trading: Trading,
    team: Team,
) -> Sockets:
    settings, clock, registry = ground.settings, ground.clock, connections.registry
    sessions = Sessions(
        auth.authentication,
        channels.subscriptions,
        registry,
        node=settings.node,
        limits=connections.limits,
        user_limits=guard.limits,
        threats=guard.threats,
        max_message_bytes=settings.limits.message_bytes,
        max_subscriptions=settings.limits.subscriptions,
        clock=clock,
    )

    def leave(connection: Connection) -> None:
        channels.subscriptions.unsubscribe_all(connection)
        registry.remove(connection)
        trading.disconnects.leave(connection)
        team.departures.leave(connection)

    endpoint = WebSocketEndpoint(
        ground.dispatcher,
        auth.authentication,
        registry,
        delivery.fanout,
        credentials=auth.credentials,
        on_end=leave,
        limits=connections.limits,
        notes=connections.notes,
        report=ground.events.report,
        clock=clock,
    )
    streams = Streams(
        sessions,
        registry,
        ground.dispatcher,
        touch=delivery.fanout.touch,
        on_end=leave,
        draining=lambda: endpoint.draining,
        limits=connections.limits,
        notes=connections.notes,
        user_limits=guard.limits,
        report=ground.events.report,
        clock=clock,
    )
    return Sockets(
        sessions=sessions,
        streams=streams,
        endpoint=endpoint,
        routes=[WebSocketRoute("/ws", endpoint)],
        handlers={
            Connect: sessions.connect,
            Refresh: sessions.refresh,
            Subscribe: guard.limits.guarded("subscribe", sessions.subscribe),
            Unsubscribe: sessions.unsubscribe,
        },
    )
