"""What publishers and readers are told when Redis cannot serve them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from protocol.errors import ErrorCode, HubError


def away() -> HubError:
    return HubError(ErrorCode.NOT_AVAILABLE, "Redis is not available", retry_after_ms=1000)


def moving() -> HubError:
    return HubError(
        ErrorCode.NOT_AVAILABLE, "the channel is moving to another server; nothing was published", retry_after_ms=200
    )


def unknown() -> HubError:
    return HubError(
        ErrorCode.TIMEOUT, "the outcome is unknown; retry with the same idempotency_key", retry_after_ms=500
    )


def refuse(futures: Iterable[asyncio.Future[Any]], error: HubError) -> None:
    """Fail those that are still open; whoever has stopped waiting for one is not reminded of it."""
    for future in futures:
        if not future.done():
            future.set_exception(error)
            future.exception()
