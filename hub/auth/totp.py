"""Time-based one-time passwords (RFC 6238). Pure: time is an argument, in seconds since 1970."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from urllib.parse import quote, urlencode

SECRET_BYTES = 20  # RFC 4226 section 4 asks for 160 bits
STEP_S = 30
DIGITS = 6
PAST_STEPS = 1  # RFC 6238 section 5.2: somebody who types slowly; a code from the future is never right


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def step_at(now_s: float) -> int:
    return int(now_s // STEP_S)


def code(secret: bytes, step: int, *, digits: int = DIGITS) -> str:
    """The code of one step, with SHA-1 as every authenticator app has it."""
    digest = hmac.digest(secret, step.to_bytes(8), hashlib.sha1)
    start = digest[-1] & 15
    number = int.from_bytes(digest[start : start + 4]) & 0x7FFFFFFF
    return str(number)[-digits:].zfill(digits)


def matching_step(secret: bytes, given: str, *, now_s: float) -> int | None:
    """The step whose code was given: the current one or the one before. None: neither."""
    now = step_at(now_s)
    found = None
    for step in range(now - PAST_STEPS, now + 1):
        if hmac.compare_digest(code(secret, step).encode(), given.encode()):
            found = step
    return found


def uri(secret: bytes, *, account: str, issuer: str) -> str:
    """What the QR code holds; authenticator apps know it as the key URI format."""
    query = urlencode({"secret": base64.b32encode(secret).decode(), "issuer": issuer}, quote_via=quote)
    return f"otpauth://totp/{quote(issuer, safe='')}:{quote(account, safe='')}?{query}"
