"""Standard Webhooks: how a receiver knows that a request is ours, complete, and of just now. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def written(secret: bytes) -> str:
    """A secret as its owner gets it."""
    return PREFIX + base64.b64encode(secret).decode()


def headers(id: str, timestamp_s: int, body: bytes, *, keys: Sequence[bytes]) -> dict[str, str]:
    """Signed with each of the keys: a receiver that knows one of them is content."""
    signed = b"%s.%d.%s" % (id.encode(), timestamp_s, body)
    signatures = (base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def message_id(webhook: str, channel: str, epoch: str, offset: int, kind: str = "") -> str:
    """The same for every attempt at the same message, from whichever node: a receiver tells repeats by it."""
    place = "\n".join((webhook, channel, epoch, str(offset), kind))
    return f"msg_{hashlib.sha256(place.encode()).hexdigest()[:32]}"
