"""What is slow is said once a day, with its figures, to those who run the hub."""

from __future__ import annotations

import msgspec
from clock import ManualClock
from hypothesis import given
from hypothesis import strategies as st
from test_insight_keeping import Door

from hub.insight.insights.grounding import numbers_of
from hub.insight.insights.suggestions import DAY_US, SEEN, Slow, Suggestions, suggestion
from hub.observe.monitors import PerformanceMonitor
from storage.database import Database
from storage.insights import InsightTable

SQL = "SELECT pg_sleep(0.15)"


async def test_what_was_slow_since_the_last_look_is_stored_and_told_once_a_day(database: Database) -> None:
    performance, door, clock = PerformanceMonitor(), Door(), ManualClock()
    suggestions = Suggestions(performance, InsightTable(database), door=door, clock=clock)
    others = Suggestions(performance, InsightTable(database), door=Door(), clock=clock)
    for _ in range(SEEN):
        performance.record_latency("GET /v1/slow", 0.3)
        performance.record_latency("GET /v1/quick", 0.01)
        performance.record_statement("SELECT\n  1", 0.2)
    for _ in range(SEEN - 1):
        performance.record_latency("GET /v1/seldom", 3.0)
    await suggestions.look()
    await others.look()
    await suggestions.look()  # nothing new

    stored = [each.insight for each in await InsightTable(database).of("hub", before_us=None, limit=9)]
    assert {each.source for each in stored if each} == {"rules:slow_operation", "rules:slow_statement"}
    assert [(told.channel, told.type, told.data.evidence[0].value) for told in door.told] == [
        ("insights:hub", "INSIGHT", "GET /v1/slow"),
        ("insights:hub", "INSIGHT", "SELECT 1"),
    ]
    assert sorted(told.key for told in door.told) == sorted(each.insight_id for each in stored if each)

    clock.advance(DAY_US / 1e6)
    for _ in range(SEEN):
        performance.record_latency("GET /v1/slow", 0.3)
    await suggestions.look()
    assert len(door.told) == 3


async def test_every_statement_of_the_database_is_heard_without_its_arguments(dsn: str) -> None:
    performance = PerformanceMonitor()
    async with Database.open(dsn, heard=performance.record_statement) as opened, opened.writer() as writer:
        await opened.fetch_value("SELECT $1::text", "secret")
        await writer.fetch_value(SQL)
        await opened.fetch_value("SELECT 1")  # what is heard is heard a turn of the loop later
    assert performance.statement_ms["SELECT $1::text"].count == 1
    assert performance.statement_ms[SQL].above(100) == 1


@given(st.text(max_size=400), st.floats(100, 1e6), st.integers(SEEN, 10**9))
def test_every_number_of_a_suggestion_is_in_its_evidence(what: str, ms: float, times: int) -> None:
    found = suggestion(Slow("slow_statement", what, ms, times), now_us=1)
    told = " ".join(f"{each.ref} {each.value}" for each in found.evidence)
    assert numbers_of(found.statement) <= numbers_of(told)
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found
