"""What somebody, or a token, has seen between two moments: the answer of the audit log to a breach (GDPR Art. 33)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from hub.dispatch import convert
from protocol.errors import ErrorCode, HubError
from protocol.fields import Millis, Name
from storage.audit import AuditTable, ReadRow

MAX_SEEN = 1_000
MAX_ROWS = 100_000


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of user and token (its `jti`), or both. Times are milliseconds since 1970, both included."""

    user: Name | None = None
    token: Name | None = None
    since: Millis = 0
    until: Millis = 2**53 - 1


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Pages of history, or with a `socket` a subscription. `until` None: it has not ended, or its node did not live to
    say so. `first` and `last` are offsets, and `messages` how many there are of those that were seen in the time asked
    for; None where the channel's messages are not kept, or no longer."""

    channel: str
    token: str
    socket: str = ""
    since: int
    until: int | None
    first: int | None = None
    last: int | None = None
    messages: int | None = None


class SeenList(msgspec.Struct, frozen=True):
    """By time. Without `complete` there are more: ask for less."""

    seen: list[Seen]
    complete: bool


class AuditedReads:
    def __init__(self, table: AuditTable) -> None:
        self._table = table

    async def call(self, params: Mapping[str, Any]) -> SeenList:
        """The method `audit.seen`. Raises HubError(schema_invalid, bad_request)."""
        return await self.seen(convert(params, Question))

    async def seen(self, asked: Question) -> SeenList:
        """Raises HubError(bad_request)."""
        if asked.user is None and asked.token is None:
            raise HubError(ErrorCode.BAD_REQUEST, "name a user or a token")
        rows = await self._table.reads(
            user=asked.user, token=asked.token, since_ms=asked.since, until_ms=asked.until, limit=MAX_ROWS
        )
        found = [
            each
            for each in spans(rows)
            if each.since <= asked.until and (each.until is None or each.until >= asked.since)
        ]
        found.sort(key=lambda each: each.since)
        counted = [await self._counted(each, asked) for each in found[:MAX_SEEN]]
        return SeenList(counted, len(found) <= MAX_SEEN and len(rows) < MAX_ROWS)

    async def _counted(self, seen: Seen, asked: Question) -> Seen:
        """With what is still there of it."""
        late = seen.socket != "" and seen.since < asked.since  # what came before the time asked for is not meant
        first, last, messages = await self._table.messages_seen(
            seen.channel,
            first=seen.first or 1,
            last=seen.last,
            since_ms=asked.since if late else None,
            until_ms=min(asked.until, seen.until or asked.until) if seen.socket else None,
        )
        return msgspec.structs.replace(seen, first=first, last=last, messages=messages) if messages else seen


def spans(rows: Iterable[ReadRow]) -> list[Seen]:
    """Rows of the log, in order, as what was seen. The end of a subscription may be a row of its own."""
    found: list[Seen] = []
    going_on: dict[tuple[str, str], int] = {}  # (socket, channel) -> where in `found`
    for row in rows:
        key = (row.detail.socket, row.channel)
        place = going_on.pop(key, None) if row.detail.socket else None
        if place is not None:
            found[place] = msgspec.structs.replace(found[place], until=row.detail.until_ms)
        else:
            found.append(
                Seen(
                    channel=row.channel,
                    token=row.detail.token,
                    socket=row.detail.socket,
                    since=row.time_ms if row.detail.since_ms is None else row.detail.since_ms,
                    until=row.detail.until_ms,
                    first=row.detail.first,
                    last=row.detail.last,
                )
            )
            place = len(found) - 1
        if row.detail.socket and row.detail.until_ms is None:
            going_on[key] = place
    return found
