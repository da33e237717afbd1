"""What the hub has noticed in what passes through it, and what it has noticed it by."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocol.coordination import Money
from protocol.fields import Count, Finite, Fraction, Micros, Name, Text

InsightKind = Literal["ANOMALY", "RISK", "SUMMARY", "SUGGESTION", "ERROR_CAUSE", "SIGNAL"]
Severity = Literal["INFO", "WARNING", "CRITICAL"]
HUB = "hub"  # the subject of what the hub suggests about itself
Subject = Annotated[str, Meta(min_length=1, max_length=246, description="the channel it is about, `errors` or `hub`")]


class Observation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`ref`: where `value` is. In an answer's `ai_insights` a JSONPath into `data`, else the offset in the subject."""

    ref: Annotated[str, Meta(min_length=1, max_length=256)]
    value: int | Finite | Annotated[str, Meta(max_length=1024)]


class Insight(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A statement with its evidence: every number it names is in what it was made from.

    `source`: `rules:NAME`, `stat:NAME` or `llm:MODEL`; `cost_usd`, `latency_ms` and `prompt_version` are of a model.
    `degraded`: a model should have said it, and rules or statistics did.
    """

    insight_id: Name
    kind: InsightKind
    subject: Subject
    statement: Text
    evidence: Annotated[list[Observation], Meta(min_length=1, max_length=16)]
    confidence: Fraction
    severity: Severity = "INFO"
    action: Text | None = None
    source: Name
    generated_at: Micros
    expires_at: Micros | None = None
    cost_usd: Money | None = None
    latency_ms: Count | None = None
    prompt_version: Name | None = None
    degraded: bool = False


Verdict = Literal["accepted", "ignored", "wrong"]
InsightId = Annotated[str, Meta(min_length=1, max_length=128)]


class InsightRetracted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An insight that was promised or published does not hold."""

    insight_id: InsightId
    subject: Subject
    reason: Text


class InsightList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `insights.list`. `before`: the `generated_at` of the last one of the page before."""

    subject: Subject = HUB
    kind: InsightKind | None = None
    before: Micros | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class InsightsFound(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `insights.list`, the newest first."""

    insights: list[Insight]


class InsightFeedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `insights.feedback`. `outcome`: how true it has come, 0 to 1."""

    insight_id: InsightId
    verdict: Verdict
    outcome: Fraction | None = None


class InsightRetract(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `insights.retract`."""

    insight_id: InsightId
    reason: Annotated[str, Meta(min_length=1, max_length=1024)]


class InsightScores(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `insights.scores`."""

    subject: Subject


class InsightScore(msgspec.Struct, frozen=True):
    """How the insights of one source were taken. `outcome`: the mean of those that were told, None without any."""

    source: str
    made: int
    retracted: int
    accepted: int
    ignored: int
    wrong: int
    outcome: float | None


class InsightScored(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `insights.scores`."""

    scores: list[InsightScore]


class ErrorList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `insights.errors`."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class ErrorGroup(msgspec.Struct, frozen=True):
    """Errors of one type from one place. `frames`: the innermost first, as module:function. The insight about it, if a
    model was asked, has the fingerprint as its id."""

    fingerprint: str
    type: str
    frames: list[str]
    occurrences: int
    first_at: Micros
    last_at: Micros


class ErrorsFound(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `insights.errors`, the latest first."""

    errors: list[ErrorGroup]
