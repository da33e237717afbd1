"""Request bodies, bounded."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from protocol.errors import ErrorCode, HubError


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body, refused as soon as it is too long: nothing unbounded is ever collected."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                raise HubError(ErrorCode.PAYLOAD_TOO_LARGE, f"a body has at most {max_bytes} bytes")
            chunks.append(chunk)
    except ClientDisconnect:
        raise HubError(ErrorCode.BAD_REQUEST, "the body ended early") from None
    return b"".join(chunks)
