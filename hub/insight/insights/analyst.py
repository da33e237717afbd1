"""Jobs that ask a model: each ends with one message, the insight or that there is none.

Rules: stored first, then told, and both once, however often the job is done; what was promised and cannot be had is
made up for by rules, or taken back.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from hub.clock import Clock
from hub.insight.calls.base import CallRefused, Reason, Reply
from hub.insight.calls.service import Calls
from hub.insight.engine.engine import JobHandler
from hub.insight.insights.asking import Finding, Question
from hub.insight.insights.door import ChannelDoor
from hub.insight.insights.page import Page
from hub.insight.insights.prompts import read_prompt
from hub.insight.insights.rules import by_rules
from hub.insight.insights.statistics import by_statistics
from hub.observe.metrics import Tally
from protocol.insights import Insight, InsightRetracted, Observation
from storage.consents import Consents
from storage.insights import InsightTable, StoredInsight
from storage.jobs import MAX_ATTEMPTS, Job
from storage.sessions import Sessions

logger = logging.getLogger("krin.insights")

SHOWN_MESSAGES = 50
SHOWN_FIELDS = ("type", "timestamp", "publisher", "data", "coordination")
LIVES_US = 86_400_000_000
ERRORS = "errors"  # the subject of what is said of errors
MINUTES_PASS: frozenset[Reason] = frozenset({"breaker_open", "busy", "timeout", "unavailable"})
"""Refusals that another attempt may not meet."""


class _Made(NamedTuple):
    insight: Insight | None
    reason: str | None
    upto: int = 0
    authors: Collection[str] = ()


class Analyst:
    """`outcomes`: what a model's answers came to (`made`, `none`, or not believed for `form`, `number`, `evidence`),
    and how often `rules` stood in for it."""

    def __init__(
        self,
        calls: Calls,
        table: InsightTable,
        consents: Consents,
        sessions: Sessions,
        *,
        door: ChannelDoor,
        needs_consent: bool,
        clock: Clock,
    ) -> None:
        self._calls = calls
        self._table = table
        self._consents = consents
        self._sessions = sessions
        self._door = door
        self._needs_consent = needs_consent
        self._clock = clock
        self.outcomes = Tally()
        self.handlers: Mapping[str, JobHandler] = {"insight": self.look, "error": self.explain}

    async def look(self, job: Job) -> None:
        """At the newest messages of a channel. Payload: `subject`, `tenant`."""
        await self._finish(job, job.payload["subject"], self._look)

    async def explain(self, job: Job) -> None:
        """An error by its fingerprint. Payload: `type`, `frames`."""
        await self._finish(job, ERRORS, self._explain)

    async def _finish(self, job: Job, subject: str, make: Callable[[Job], Awaitable[_Made]]) -> None:
        stored = await self._table.get(job.key)
        if stored is None:
            made = await make(job)
            now_us = self._clock.now_us()
            new = StoredInsight(
                id=job.key,
                subject=subject,
                upto=made.upto,
                insight=made.insight,
                reason=made.reason,
                made_us=now_us,
                expires_us=now_us + LIVES_US,
            )
            stored = await self._table.store(new, authors=sorted(made.authors))
        await self._publish(stored)

    async def _publish(self, stored: StoredInsight) -> None:
        channel = f"insights:{stored.subject}"
        if stored.insight is None or stored.retracted_us is not None:
            none = InsightRetracted(insight_id=stored.id, subject=stored.subject, reason=stored.reason or "none")
            await self._door.tell(channel, "INSIGHT_RETRACTED", none, key=stored.id)
            return
        await self._door.tell(channel, "INSIGHT", stored.insight, key=stored.id)
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        await self._sessions.attach(stored.subject, stored.insight, now=now)

    async def _look(self, job: Job) -> _Made:
        subject = job.payload["subject"]
        messages = await self._door.newest(subject, SHOWN_MESSAGES)
        if not messages:
            return _Made(None, "there is nothing left to look at")
        page = Page(subject, messages[0]["offset"], messages)
        by_offset = {str(each["offset"]): _shown(each) for each in reversed(messages) if await self._may_show(each)}
        authors = {each["publisher"] for each in messages if each.get("publisher") and str(each["offset"]) in by_offset}
        if not by_offset:
            return self._instead(job, page, "nobody who wrote there has agreed to ai_processing")
        question = Question(by_offset, names=authors)
        made = await self._ask(job, subject, question, "insight-1", tenant=job.payload["tenant"])
        if made.insight is None and made.reason:
            made = self._instead(job, page, made.reason)
        return made._replace(upto=page.head, authors=authors)

    async def _explain(self, job: Job) -> _Made:
        frames = {str(place): frame for place, frame in enumerate(job.payload["frames"])}
        question = Question({"type": job.payload["type"], **frames})
        return await self._ask(job, ERRORS, question, "error-1", tenant="")

    async def _may_show(self, message: Mapping[str, Any]) -> bool:
        """Asked for each look: a withdrawal counts at once."""
        publisher = message.get("publisher", "")
        if message["type"] in ("ERASED", "RESTRICTED"):
            return False
        return not (self._needs_consent and publisher) or await self._consents.allows(publisher, "ai_processing")

    async def _ask(self, job: Job, subject: str, question: Question, prompt: str, *, tenant: str) -> _Made:
        """Raises CallRefused while another attempt may do better."""
        try:
            reply = await self._calls.ask(
                instructions=read_prompt(prompt),
                text=question.text,
                answer=Finding,
                tenant=tenant,
                purpose=job.kind,
                background=True,
            )
        except CallRefused as refusal:
            if refusal.reason in MINUTES_PASS and job.attempt < MAX_ATTEMPTS:
                raise
            self.outcomes.add("none")
            return _Made(None, f"the model was not to be had: {refusal.reason}")
        finding: Finding = reply.value
        if not finding.statement.strip():
            self.outcomes.add("none")
            return _Made(None, "there is nothing worth saying")
        if (flaw := question.flaw_of(finding)) is not None:
            self.outcomes.add(flaw)
            logger.warning("insight %s is dropped: its %s is not in what the model was shown", job.key, flaw)
            return _Made(None, "what the model said is not in what it was shown")
        self.outcomes.add("made")
        return _Made(self._insight(job, subject, question, reply, prompt), None)

    def _insight(self, job: Job, subject: str, question: Question, reply: Reply[Finding], prompt: str) -> Insight:
        finding, now_us = reply.value, self._clock.now_us()
        return Insight(
            insight_id=job.key,
            kind=finding.kind,
            subject=subject,
            statement=question.show(finding.statement),
            evidence=[Observation(ref=point.ref, value=question.show(point.value)) for point in finding.evidence],
            confidence=finding.confidence,
            severity=finding.severity,
            action=question.show(finding.action) if finding.action else None,
            source=f"llm:{reply.model}"[:128],
            generated_at=now_us,
            expires_at=now_us + LIVES_US,
            cost_usd=f"{reply.cost_usd:.9f}",
            latency_ms=round(reply.latency_ms),
            prompt_version=prompt,
        )

    def _instead(self, job: Job, page: Page, reason: str) -> _Made:
        """What rules and statistics see, where a model should have looked."""
        now_us = self._clock.now_us()
        found = [*by_statistics(page, now_us=now_us), *by_rules(page, now_us=now_us)]
        if not found:
            return _Made(None, reason, page.head)
        self.outcomes.add("rules")
        insight = msgspec.structs.replace(found[0], insight_id=job.key, expires_at=now_us + LIVES_US, degraded=True)
        return _Made(insight, reason, page.head)


def _shown(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: message[name] for name in SHOWN_FIELDS if name in message}
