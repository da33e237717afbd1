"""What a message says once it was corrected."""

from __future__ import annotations

from typing import Any

import msgspec

from protocol.codec import JSON, encode_body
from protocol.vocabulary import DEFAULT_KEYS, Message, message_type

ENVELOPE = ("coordination", "trace")  # of a message: these stay as they were


def corrected(type_name: str, body: bytes, data: msgspec.Raw, *, publisher: str) -> tuple[bytes, str | None]:
    """The body and key of a stored message with other `data`. Raises HubError, as publishing it would."""
    before = msgspec.json.decode(b"{" + body + b"}", type=dict[str, msgspec.Raw])
    parts: dict[str, Any] = {name: before[name] for name in ENVELOPE if name in before}
    whole = msgspec.json.encode({"type": type_name, "data": data, **parts})
    message: Message = JSON.read(whole, message_type(type_name))
    field = DEFAULT_KEYS.get(type_name)
    if field is not None:
        key = getattr(message.data, field)
    else:
        key = msgspec.json.decode(before["key"]) if "key" in before else None
    return encode_body(message, key=key, publisher=publisher), key
