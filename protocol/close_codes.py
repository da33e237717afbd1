"""WebSocket close codes of protocol v1. The range tells a client whether, and when, to come back."""

from __future__ import annotations

import enum


class CloseCode(enum.IntEnum):
    # 4000-4099: final, the same attempt would fail again.
    BAD_PROTOCOL = 4000
    UNAUTHORIZED = 4001
    TOKEN_INVALID = 4002
    FORBIDDEN = 4003
    CONNECTION_LIMIT = 4004
    NO_CONNECT = 4006
    TOO_MANY_ERRORS = 4007
    MESSAGE_TOO_BIG = 4008
    # 4100-4199: come back later, with back-off.
    SERVER_ERROR = 4100
    OVERLOADED = 4101
    SLOW_CONSUMER = 4102
    RATE_LIMITED = 4103
    # 4200-4299: come back now, after the delay the hub named.
    DRAINING = 4200
    NO_PONG = 4201
    TOKEN_EXPIRED = 4202
    INSUFFICIENT_STATE = 4203
    REBALANCE = 4204
    REPLACED = 4205

    @property
    def reason(self) -> str:
        return REASONS[self]

    @property
    def reconnect(self) -> bool:
        return should_reconnect(self)


REASONS = {
    CloseCode.BAD_PROTOCOL: "bad protocol",
    CloseCode.UNAUTHORIZED: "unauthorized",
    CloseCode.TOKEN_INVALID: "token invalid",
    CloseCode.FORBIDDEN: "forbidden",
    CloseCode.CONNECTION_LIMIT: "connection limit",
    CloseCode.NO_CONNECT: "no connect in time",
    CloseCode.TOO_MANY_ERRORS: "too many errors",
    CloseCode.MESSAGE_TOO_BIG: "message too big",
    CloseCode.SERVER_ERROR: "server error",
    CloseCode.OVERLOADED: "overloaded",
    CloseCode.SLOW_CONSUMER: "slow consumer",
    CloseCode.RATE_LIMITED: "rate limited",
    CloseCode.DRAINING: "draining",
    CloseCode.NO_PONG: "no pong",
    CloseCode.TOKEN_EXPIRED: "token expired",
    CloseCode.INSUFFICIENT_STATE: "insufficient state",
    CloseCode.REBALANCE: "rebalance",
    CloseCode.REPLACED: "replaced",
}


def should_reconnect(code: int) -> bool:
    """Whether a client should open a new connection after this close code.

    Only 4000-4099, a normal closure by the client (1000) and protocol violations it would repeat
    (1002, 1003, 1007, 1009) are final; 1001, 1006, 1011, 1012 and whatever is unknown mean "come back".
    """
    return not (4000 <= code <= 4099 or code in (1000, 1002, 1003, 1007, 1009))
