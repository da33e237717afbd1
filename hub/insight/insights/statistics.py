"""Insights by statistics: what is out of the ordinary on a page of messages. Pure.

Rule: as for rules, a number in a statement is a number of its evidence.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from hub.insight.insights.page import Page, noticed, place
from protocol.insights import Insight

LOOKED_AT = 256  # messages: some 0.2 ms
MIN_PAUSES = 20  # fewer are no yardstick
FIRES = 8.0  # robust standard deviations above the median
NORMAL = 0.6745  # of a normal distribution, MAD per standard deviation
FLOOR = 0.05  # of the median: the least that counts as deviation
CONFIDENCE = 0.8


def by_statistics(page: Page, *, now_us: int) -> list[Insight]:
    """The longest pause between two neighbours among the newest messages, if it is out of all proportion."""
    ascending = place(page.messages[0]).offset < place(page.messages[-1]).offset
    newest = page.messages[-LOOKED_AT:] if ascending else page.messages[:LOOKED_AT]
    places = sorted(map(place, newest), key=lambda each: each.offset)
    pauses = [
        (later.timestamp - earlier.timestamp, later.offset)
        for earlier, later in pairwise(places)
        if later.offset == earlier.offset + 1
    ]
    if len(pauses) < MIN_PAUSES:
        return []
    lengths = [length for length, _ in pauses]
    usual = int(median(lengths))
    deviation = median(abs(length - usual) for length in lengths)
    longest, offset = max(pauses)
    if NORMAL * (longest - usual) < FIRES * max(deviation, FLOOR * usual, 1.0):
        return []
    insight = noticed(
        page,
        kind="ANOMALY",
        source="stat:silence",
        statement=f"nothing was said for {longest} ms before offset {offset}; usually it is {usual} ms",
        evidence=[
            ("$.messages[*].offset", offset),
            ("$.messages[*].timestamp, the longest pause in ms", longest),
            ("$.messages[*].timestamp, the median pause in ms", usual),
        ],
        confidence=CONFIDENCE,
        now_us=now_us,
    )
    return [insight]
