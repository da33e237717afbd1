"""The errors of A2A 1.0 (section 5.4) and of JSON-RPC, and which one stands for what the hub says."""

from __future__ import annotations

from enum import Enum
from typing import Any

from hub.edge.envelope import HTTP_STATUS
from protocol.errors import ErrorCode, HubError


class Fault(Enum):
    """(code of JSON-RPC, reason)."""

    TASK_NOT_FOUND = (-32001, "TASK_NOT_FOUND")
    NOT_CANCELABLE = (-32002, "TASK_NOT_CANCELABLE")
    PUSH_NOTIFICATION = (-32003, "PUSH_NOTIFICATION_NOT_SUPPORTED")
    UNSUPPORTED = (-32004, "UNSUPPORTED_OPERATION")
    CONTENT_TYPE = (-32005, "CONTENT_TYPE_NOT_SUPPORTED")
    INVALID_RESPONSE = (-32006, "INVALID_AGENT_RESPONSE")
    EXTENDED_CARD = (-32007, "EXTENDED_AGENT_CARD_NOT_CONFIGURED")
    EXTENSION = (-32008, "EXTENSION_SUPPORT_REQUIRED")
    VERSION = (-32009, "VERSION_NOT_SUPPORTED")
    PARSE = (-32700, "JSON_PARSE_ERROR")
    INVALID_REQUEST = (-32600, "INVALID_REQUEST")
    METHOD_NOT_FOUND = (-32601, "METHOD_NOT_FOUND")
    INVALID_PARAMS = (-32602, "INVALID_PARAMS")
    INTERNAL = (-32603, "INTERNAL_ERROR")
    REFUSED = (-32000, "REFUSED")


class A2AError(Exception):
    """`refusal`: what the hub says, where A2A has no error of its own for it."""

    def __init__(self, fault: Fault, message: str, *, refusal: HubError | None = None) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message
        self.refusal = refusal

    @classmethod
    def of(cls, error: HubError, *, illegal: Fault = Fault.UNSUPPORTED) -> A2AError:
        """`illegal` is what an illegal transition means to the operation."""
        match error.code:
            case ErrorCode.NOT_FOUND:
                return cls(Fault.TASK_NOT_FOUND, error.message)
            case ErrorCode.ILLEGAL_TRANSITION:
                return cls(illegal, error.message)
            case ErrorCode.SCHEMA_INVALID | ErrorCode.BAD_REQUEST:
                return cls(Fault.INVALID_PARAMS, error.message)
            case ErrorCode.INTERNAL:
                return cls(Fault.INTERNAL, error.message)
            case _:
                return cls(Fault.REFUSED, error.message, refusal=error)

    @property
    def status(self) -> int:
        """Of HTTP. What is not A2A's business, such as a missing permission, is said there, too."""
        return 200 if self.refusal is None else HTTP_STATUS[self.refusal.code]

    @property
    def body(self) -> dict[str, Any]:
        code, reason = self.fault.value
        if self.refusal is not None:
            reason = self.refusal.code.wire_name.upper()
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "a2a-protocol.org"}
        return {"code": code, "message": self.message, "data": [info]}
