"""Request bodies and queries, bounded."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect, Request

from protocol.codec import JSON, refuse_nul
from protocol.errors import ErrorCode, HubError

MAX_DIGITS = 16  # of a number in an address


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


async def read_struct(
    request: Request, max_bytes: int, kind: type[Any], *, optional: bool = False, stored: bool = False
) -> Any:
    """A JSON body of one kind; an `optional` one may be left out. `stored`: it goes to Postgres as it is.

    Raises HubError(payload_too_large, bad_request, schema_invalid).
    """
    body = await read_body(request, max_bytes)
    if optional and not body:
        return kind()
    read = JSON.read(body, kind)
    if stored:
        refuse_nul(body, "$")
    return read


def number_in(text: str) -> int | None:
    """The whole number that a text of an address is; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


def query_of(request: Request, *numbers: str) -> dict[str, Any]:
    """What stands behind the question mark. What looks like a number is one for the fields that take one; anything
    else is left to the method's own checks."""
    query: dict[str, Any] = {**request.query_params}
    for name in numbers:
        if (number := number_in(query.get(name, ""))) is not None:
            query[name] = number
    return query


def refuse_nul_in_address(request: Request) -> None:
    """As in a body: what is looked for in Postgres may not hold it. Raises HubError(bad_request)."""
    for name, value in (*request.path_params.items(), *request.query_params.multi_items()):
        if "\0" in f"{value}":
            raise HubError(ErrorCode.BAD_REQUEST, "text must not contain NUL", path=f"$.{name}")
