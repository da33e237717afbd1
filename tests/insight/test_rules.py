"""Insights by rules and statistics: true of the page they speak of, and silent where there is nothing to say."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from clock import ManualClock
from hypothesis import given
from hypothesis import strategies as st

from hub.caller import SYSTEM
from hub.insight.insights.coordinator import InsightCoordinator
from hub.insight.insights.page import page_of
from hub.insight.insights.rules import by_rules
from hub.insight.insights.statistics import by_statistics
from protocol.insights import Insight

NOW_US = 1_732_330_000_123_000
offsets = st.sets(st.integers(1, 60), min_size=2).map(sorted)


def page(
    kept: list[int], head: int, *, times: list[int] | None = None, encoded: bool = True, reverse: bool = False
) -> dict[str, Any]:
    messages: list[Any] = [
        {"type": "NOTE", "offset": offset, "timestamp": at}
        for offset, at in zip(kept, times or [0] * len(kept), strict=True)
    ]
    if encoded:
        messages = [msgspec.Raw(msgspec.json.encode(message)) for message in messages]
    return {"channel": "team:a", "offset": head, "messages": messages[::-1] if reverse else messages}


def rules_of(result: Any) -> list[Insight]:
    found = page_of(result)
    assert found is not None
    return by_rules(found, now_us=NOW_US)


def statistics_of(result: Any) -> list[Insight]:
    found = page_of(result)
    assert found is not None
    return by_statistics(found, now_us=NOW_US)


def assert_grounded(each: Insight) -> None:
    """Every number of the statement is in the evidence, and the struct takes what was made."""
    numbers = set(map(int, re.findall(r"\d+", each.statement)))
    assert numbers
    assert numbers <= {evidence.value for evidence in each.evidence}
    assert msgspec.json.decode(msgspec.json.encode(each), type=Insight) == each


@given(offsets, st.integers(0, 5), st.booleans(), st.booleans())
def test_a_page_is_said_to_have_gaps_and_to_be_behind_when_it_is(
    kept: list[int], later: int, encoded: bool, reverse: bool
) -> None:
    found = rules_of(page(kept, kept[-1] + later, encoded=encoded, reverse=reverse))
    expected = (["rules:gap"] if len(kept) < kept[-1] - kept[0] + 1 else []) + (["rules:behind"] if later else [])
    assert [each.source for each in found] == expected


@given(offsets, st.integers(0, 5))
def test_every_number_of_a_statement_is_in_its_evidence(kept: list[int], later: int) -> None:
    for each in rules_of(page(kept, kept[-1] + later)):
        assert_grounded(each)


@given(st.integers(0, 39), st.integers(50_000, 10**9), st.booleans())
def test_a_silence_out_of_all_proportion_is_named_with_its_place(place: int, pause: int, reverse: bool) -> None:
    times = [1_000 * each + (pause if each > place else 0) for each in range(41)]
    [found] = statistics_of(page([*range(1, 42)], 41, times=times, reverse=reverse))
    assert found.source == "stat:silence"
    assert [each.value for each in found.evidence] == [place + 2, 1_000 + pause, 1_000]
    assert_grounded(found)


@given(st.lists(st.integers(900, 1_100), min_size=2, max_size=60))
def test_an_even_pace_is_nothing_to_speak_of(pauses: list[int]) -> None:
    times = [sum(pauses[:count]) for count in range(len(pauses))]
    assert statistics_of(page([*range(1, len(times) + 1)], len(times), times=times)) == []


@pytest.mark.parametrize("data", [None, [], "text", {"offset": 3, "messages": []}, {"messages": [1, 2]}])
async def test_of_anything_else_there_is_nothing_to_say(data: Any) -> None:
    coordinator = InsightCoordinator(clock=ManualClock(now_ms=0))
    assert await coordinator.generate_insights(data, SYSTEM) == {"status": "ready", "source": "rules", "items": []}


async def test_without_a_model_an_answer_has_what_rules_and_statistics_see() -> None:
    times = [*range(0, 40_000, 1_000), 900_000]
    coordinator = InsightCoordinator(clock=ManualClock(now_ms=NOW_US // 1_000))
    found = await coordinator.generate_insights(page([*range(1, 42)], 50, times=times), SYSTEM)
    assert (found["status"], found["source"]) == ("ready", "rules")
    assert [each.source for each in found["items"]] == ["rules:behind", "stat:silence"]
    assert {each.generated_at for each in found["items"]} == {NOW_US}
