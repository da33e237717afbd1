"""Numbered, stable errors of protocol v1. Clients and documents share this one table."""

from __future__ import annotations

import enum


class ErrorCode(enum.IntEnum):
    """The number goes over the wire as `code`, the lower-case member name as `name`."""

    INTERNAL = 1000
    UNAUTHORIZED = 1001
    UNKNOWN_CHANNEL = 1002
    PERMISSION_DENIED = 1003
    UNKNOWN_TYPE = 1004
    ALREADY_SUBSCRIBED = 1005
    LIMIT_EXCEEDED = 1006
    BAD_REQUEST = 1007
    NOT_AVAILABLE = 1008
    TOKEN_EXPIRED = 1009
    TOKEN_INVALID = 1010
    RATE_LIMITED = 1011
    UNRECOVERABLE_POSITION = 1012
    SCHEMA_INVALID = 1013
    VERSION_CONFLICT = 1014
    ILLEGAL_TRANSITION = 1015
    PAYLOAD_TOO_LARGE = 1016
    IDEMPOTENCY_CONFLICT = 1017
    TIMEOUT = 1018
    OVERLOADED = 1019
    MFA_REQUIRED = 1020
    NOT_FOUND = 1021
    PROOF_INVALID = 1022

    @property
    def wire_name(self) -> str:
        return self.name.lower()

    @property
    def temporary(self) -> bool:
        """Whether the same command may succeed when it is sent again later."""
        return self in TEMPORARY


TEMPORARY = frozenset(
    {
        ErrorCode.INTERNAL,
        ErrorCode.NOT_AVAILABLE,
        ErrorCode.RATE_LIMITED,
        ErrorCode.TIMEOUT,
        ErrorCode.OVERLOADED,
    }
)


class HubError(Exception):
    """A command failed. The text goes to the peer: it never names internals, secrets or the peer's own values."""

    def __init__(
        self, code: ErrorCode, message: str, *, path: str | None = None, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = path
        self.retry_after_ms = retry_after_ms
        self.counted = False  # by whoever keeps statistics of errors

    def __str__(self) -> str:
        where = f" at {self.path}" if self.path else ""
        return f"{self.code.value} {self.code.wire_name}: {self.message}{where}"
