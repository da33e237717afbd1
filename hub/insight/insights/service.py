"""`insights.*`: what was said of a channel, what people think of it, how well each source does; and taking one back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hub.caller import Caller
from hub.channels.access import Access
from hub.clock import Clock
from hub.dispatch import Method, convert
from hub.insight.insights.door import ChannelDoor
from protocol.errors import ErrorCode, HubError
from protocol.insights import (
    ErrorList,
    ErrorsFound,
    InsightFeedback,
    InsightList,
    InsightRetract,
    InsightRetracted,
    InsightScored,
    InsightScores,
    InsightsFound,
)
from storage.errors import NotFound, StorageError
from storage.insights import ErrorGroups, InsightTable, StoredInsight


class InsightService:
    """For those who may subscribe to `insights:{subject}`; taking back is for those who may publish there."""

    def __init__(
        self,
        table: InsightTable,
        groups: ErrorGroups,
        *,
        access: Access,
        door: ChannelDoor,
        judged: Callable[[bool], None],
        clock: Clock,
    ) -> None:
        """`judged` is told of every verdict, whether it was approval."""
        self._table = table
        self._groups = groups
        self._access = access
        self._door = door
        self._judged = judged
        self._clock = clock
        self.methods: Mapping[str, Method] = {
            "insights.list": self.list,
            "insights.feedback": self.feedback,
            "insights.scores": self.scores,
            "insights.retract": self.retract,
            "insights.errors": self.errors,
        }

    async def list(self, params: Mapping[str, Any], caller: Caller) -> InsightsFound:
        """Raises HubError(permission_denied, bad_request, schema_invalid, not_available)."""
        wanted: InsightList = convert(params, InsightList)
        self._access.require(caller, "subscribe", channel_of(wanted.subject))
        with _stored():
            found = await self._table.of(wanted.subject, kind=wanted.kind, before_us=wanted.before, limit=wanted.limit)
        return InsightsFound(insights=[each.insight for each in found if each.insight is not None])

    async def feedback(self, params: Mapping[str, Any], caller: Caller) -> InsightScored:
        """The scores with it. Raises HubError(not_found, schema_invalid, not_available)."""
        said: InsightFeedback = convert(params, InsightFeedback)
        with _stored():
            stored = await self._readable(said.insight_id, caller)
            now_us = self._clock.now_us()
            await self._table.judge(stored.id, caller.user, said.verdict, said.outcome, now_us=now_us)
            self._judged(said.verdict == "accepted")
            return InsightScored(scores=await self._table.scores(stored.subject))

    async def scores(self, params: Mapping[str, Any], caller: Caller) -> InsightScored:
        """Raises HubError(permission_denied, bad_request, schema_invalid, not_available)."""
        wanted: InsightScores = convert(params, InsightScores)
        self._access.require(caller, "subscribe", channel_of(wanted.subject))
        with _stored():
            return InsightScored(scores=await self._table.scores(wanted.subject))

    async def retract(self, params: Mapping[str, Any], caller: Caller) -> InsightRetracted:
        """Raises HubError(permission_denied, not_found, schema_invalid, not_available). Again is as once."""
        wanted: InsightRetract = convert(params, InsightRetract)
        with _stored():
            stored = await self._readable(wanted.insight_id, caller)
            self._access.require(caller, "publish", channel_of(stored.subject))
            stored = await self._table.retract(stored.id, wanted.reason, now_us=self._clock.now_us())
        retracted = InsightRetracted(insight_id=stored.id, subject=stored.subject, reason=stored.reason or "")
        await self._door.tell(channel_of(stored.subject), "INSIGHT_RETRACTED", retracted, key=stored.id)
        return retracted

    async def errors(self, params: Mapping[str, Any], caller: Caller) -> ErrorsFound:
        """For administrators. Raises HubError(schema_invalid, not_available)."""
        wanted: ErrorList = convert(params, ErrorList)
        with _stored():
            return ErrorsFound(errors=await self._groups.latest(wanted.limit))

    async def _readable(self, id: str, caller: Caller) -> StoredInsight:
        """What the caller may not read is not found. Raises HubError(not_found), StorageError."""
        stored = await self._table.get(id)
        if stored is None or stored.insight is None or not self._may_read(caller, stored.subject):
            raise HubError(ErrorCode.NOT_FOUND, "there is no such insight", path="$.params.insight_id")
        return stored

    def _may_read(self, caller: Caller, subject: str) -> bool:
        try:
            return self._access.decide(caller, "subscribe", channel_of(subject)).allowed
        except HubError:  # of a namespace that is no longer configured
            return False


def channel_of(subject: str) -> str:
    """Where insights about a subject are published."""
    return f"insights:{subject}"


@contextmanager
def _stored() -> Iterator[None]:
    try:
        yield
    except NotFound as failure:
        raise HubError(ErrorCode.NOT_FOUND, "there is no such insight", path="$.params.insight_id") from failure
    except StorageError as failure:
        raise HubError(ErrorCode.NOT_AVAILABLE, "the database is not available", retry_after_ms=1000) from failure
