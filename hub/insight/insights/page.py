"""A page of a channel's history, as far as rules and statistics look at it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID, uuid5

import msgspec

from protocol.insights import Insight, InsightKind, Observation

NAMESPACE = UUID("0a3c5b52-6c2e-4f0b-8a44-5b0f7c1f9d60")


class Place(msgspec.Struct, frozen=True):
    """Where and when a message is in its channel; `timestamp` in milliseconds."""

    offset: int
    timestamp: int = 0


@dataclass(frozen=True)
class Page:
    """`head`: the channel's newest offset. `messages`: as the hub has them, encoded or as mappings, at least one."""

    channel: str
    head: int
    messages: Sequence[Any]

    @cached_property
    def ends(self) -> tuple[int, int]:
        """The lowest and the highest offset."""
        first, last = place(self.messages[0]).offset, place(self.messages[-1]).offset
        return min(first, last), max(first, last)


def page_of(result: Any) -> Page | None:
    """None: a REST answer's data are something else, or hold no message."""
    match result:
        case {"channel": str(channel), "offset": int(head), "messages": [_, *_] as messages}:
            return Page(channel, head, messages)
        case _:
            return None


_place = msgspec.json.Decoder(Place).decode


def place(message: Any) -> Place:
    return msgspec.convert(message, Place) if isinstance(message, Mapping) else _place(message)


def noticed(
    page: Page,
    *,
    kind: InsightKind,
    source: str,
    statement: str,
    evidence: Sequence[tuple[str, int | str]],
    confidence: float,
    now_us: int,
) -> Insight:
    """An insight of no model's. The same page gives the same id."""
    return Insight(
        insight_id=str(uuid5(NAMESPACE, f"{source} {page.channel} {page.ends} {page.head}")),
        kind=kind,
        subject=page.channel,
        statement=statement,
        evidence=[Observation(ref=ref, value=value) for ref, value in evidence],
        confidence=confidence,
        source=source,
        generated_at=now_us,
    )
