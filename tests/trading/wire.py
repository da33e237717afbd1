"""What a message must withstand on its way out: the schema of its type, and the policy of its namespace."""

from __future__ import annotations

from typing import Any

import msgspec

from hub.namespaces import Namespaces
from protocol.vocabulary import DATA_TYPES, message_type

NAMESPACES = Namespaces()


def check_message(channel: str, kind: str, data: Any, coordination: dict[str, Any] | None = None) -> bytes:
    """Encode and decode as a publisher's message; answers the bytes. Raises what a hub would refuse it with."""
    namespace, _ = NAMESPACES.of(channel)
    assert namespace.accepts(kind), f"{channel} does not take {kind}"
    assert kind in DATA_TYPES, f"{kind} is not in the vocabulary"
    message = {"type": kind, "data": data}
    if coordination is not None:
        message["coordination"] = coordination
    wire = msgspec.json.encode(message)
    assert len(wire) <= namespace.max_bytes
    decoded = msgspec.json.decode(wire, type=message_type(kind))
    assert decoded.data == data, "encoding changed the data"
    return wire
