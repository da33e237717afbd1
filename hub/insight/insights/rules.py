"""Insights by rules alone: no model, no network, microseconds. What every answer falls back to. Pure.

Rule: a number in a statement is a number of its evidence. A rule counts, it does not guess: its confidence is 1.
"""

from __future__ import annotations

from hub.insight.insights.page import Page, noticed
from protocol.insights import Insight


def by_rules(page: Page, *, now_us: int) -> list[Insight]:
    """Constant time, whatever the size of the page."""
    return [*_gap(page, now_us), *_behind(page, now_us)]


def _gap(page: Page, now_us: int) -> list[Insight]:
    """Offsets of a channel are without gaps: fewer messages than offsets means that some are not there any more."""
    low, high = page.ends
    count = len(page.messages)
    if high - low + 1 <= count:
        return []
    insight = noticed(
        page,
        kind="ANOMALY",
        source="rules:gap",
        statement=f"{count} messages lie between offset {low} and {high}: others have expired",
        evidence=[
            ("$.messages.length", count),
            ("$.messages[0].offset", low),
            ("$.messages[-1].offset", high),
        ],
        confidence=1.0,
        now_us=now_us,
    )
    return [insight]


def _behind(page: Page, now_us: int) -> list[Insight]:
    _, newest = page.ends
    if newest >= page.head:
        return []
    insight = noticed(
        page,
        kind="SUGGESTION",
        source="rules:behind",
        statement=f"the newest message here is {newest}, the channel's is {page.head}: subscribe to stay up to date",
        evidence=[("$.messages[*].offset", newest), ("$.offset", page.head)],
        confidence=1.0,
        now_us=now_us,
    )
    return [insight]
