"""Insights are made once, told once, and go with those whose words they were made of; errors are grouped."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import UUID, uuid4

import pytest
from clock import ManualClock
from hypothesis import given
from hypothesis import strategies as st

from hub.caller import SYSTEM
from hub.insight.calls.base import CallRefused, Prices, Reason, Said
from hub.insight.calls.budget import Budget
from hub.insight.calls.service import Calls
from hub.insight.insights.analyst import Analyst
from hub.insight.insights.asking import Finding, Point
from hub.insight.insights.coordinator import ASK_EVERY_MS, InsightCoordinator, Model
from hub.insight.insights.errors import ErrorKind, ErrorWatch, kind_of
from protocol.insights import Insight, Observation
from storage.consents import Consents
from storage.database import Database
from storage.insights import ErrorGroups, InsightTable, StoredInsight
from storage.jobs import MAX_ATTEMPTS, Job, Jobs, QueueFull
from storage.messages import MessageLog, NewMessage
from storage.model_spending import ModelSpending, Spent
from storage.privacy import Privacy
from storage.sessions import Sessions, SessionUse

T = TypeVar("T")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FOUND = Finding(
    kind="SUMMARY",
    statement="it goes on",
    evidence=[Point(ref="2", value="goes on")],
    confidence=0.5,
    severity="INFO",
    action=None,
)


class HastyClock(ManualClock):
    """Sleeps by letting the time pass."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


class Told(NamedTuple):
    channel: str
    type: str
    data: Any
    key: str


class Door:
    """Channels whose messages a test gives, and a record of what was told; telling may fail."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = messages
        self.told: list[Told] = []
        self.shut = False

    async def newest(self, channel: str, limit: int) -> list[dict[str, Any]]:
        return [*self.messages[::-1]][:limit]

    async def tell(self, channel: str, type: str, data: Any, *, key: str) -> None:
        if self.shut:
            raise RuntimeError("the worker died here")
        self.told.append(Told(channel, type, data, key))


class Oracle:
    """A language model that says what a test wants."""

    name = "oracle"

    def __init__(self, answer: Finding | Reason) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def say(self, *, instructions: str, text: str, answer: type[T]) -> Said[T]:
        self.asked.append(text)
        if not isinstance(self.answer, Finding):
            raise CallRefused(self.answer, "no")
        assert isinstance(self.answer, answer)
        return Said(self.answer, 10, 10)


class Scene:
    def __init__(self, database: Database, door: Door, answer: Finding | Reason = FOUND) -> None:
        self.clock = HastyClock()
        self.door = door
        self.oracle = Oracle(answer)
        self.table = InsightTable(database)
        self.consents = Consents(database)
        self.sessions = Sessions(database)

        async def warn(purpose: str, tenant: str, share: float) -> None:
            raise AssertionError

        budget = Budget(
            ModelSpending(database), purpose="insights", limit=Spent(1.0, 10**6), warn=warn, clock=self.clock
        )
        self.calls = Calls(self.oracle, prices=Prices(), budget=budget, clock=self.clock)
        self.analyst = Analyst(
            self.calls,
            self.table,
            self.consents,
            self.sessions,
            door=door,  # type: ignore[arg-type]  # its twin
            needs_consent=True,
            clock=self.clock,
        )

    async def agree(self, *users: str) -> None:
        for user in users:
            await self.consents.put(user, "ai_processing", True, source="rest", now=NOW, by=user)


def note(offset: int, publisher: str, text: str = "it goes on") -> dict[str, Any]:
    return {"type": "NOTE", "offset": offset, "timestamp": offset, "publisher": publisher, "data": {"text": text}}


def job(attempt: int = 1, kind: str = "insight", **payload: Any) -> Job:
    return Job(1, kind, "key-1", {"subject": "team:a", "tenant": ""} | payload, attempt, uuid4())


async def test_a_job_whose_worker_dies_before_it_tells_asks_and_stores_once_and_tells_all_the_same(
    database: Database,
) -> None:
    scene = Scene(database, Door(note(1, "bob"), note(2, "ann")))
    await scene.agree("ann")
    scene.door.shut = True
    with pytest.raises(RuntimeError):
        await scene.analyst.look(job())
    scene.door.shut = False
    await scene.analyst.look(job(attempt=2))
    await scene.analyst.look(job(attempt=3))

    assert len(scene.oracle.asked) == 1
    assert '"2"' in scene.oracle.asked[0]
    assert '"1"' not in scene.oracle.asked[0]  # bob has not agreed
    first, again = scene.door.told
    assert (first.channel, first.type, first.key, first.data.insight_id) == (
        "insights:team:a",
        "INSIGHT",
        "key-1",
        "key-1",
    )
    assert again == first
    assert [each.upto for each in await scene.table.of("team:a", before_us=None, limit=9)] == [2]
    kept = {kind: await scene.table.of("team:a", kind=kind, before_us=None, limit=9) for kind in ("RISK", "SUMMARY")}
    assert sorted(map(len, kept.values())) == [0, 1]


@pytest.mark.parametrize("reason", ["timeout", "unavailable"])
async def test_a_model_that_is_away_is_asked_again_until_the_last_attempt_when_rules_speak(
    database: Database, reason: Reason
) -> None:
    scene = Scene(database, Door(note(1, "ann"), note(5, "ann")), reason)
    await scene.agree("ann")
    with pytest.raises(CallRefused):
        await scene.analyst.look(job(attempt=MAX_ATTEMPTS - 1))
    assert scene.door.told == []
    await scene.analyst.look(job(attempt=MAX_ATTEMPTS))

    [told] = scene.door.told
    assert (told.type, told.data.source, told.data.degraded, told.data.insight_id) == (
        "INSIGHT",
        "rules:gap",
        True,
        "key-1",
    )


async def test_where_rules_have_nothing_to_say_either_the_promise_is_taken_back(database: Database) -> None:
    scene = Scene(database, Door(note(1, "ann")), "refused")
    await scene.agree("ann")
    await scene.analyst.look(job())
    [told] = scene.door.told
    assert (told.type, told.data.reason) == ("INSIGHT_RETRACTED", "the model was not to be had: refused")


async def test_sessions_that_follow_the_channel_have_the_newest_insight(database: Database) -> None:
    scene = Scene(database, Door(note(2, "ann")))
    await scene.agree("ann")
    follows, other = uuid4(), uuid4()
    uses = [
        SessionUse(id=follows, user="eve", session_data={"channels": ["team:a"]}, issued_ms=0),
        SessionUse(id=other, user="eve", session_data={"channels": ["team:b"]}, issued_ms=0),
    ]
    now = datetime.fromtimestamp(scene.clock.now_ms() / 1000, UTC)
    await scene.sessions.keep(uses, now=now, expires_at=now + timedelta(days=1))
    await scene.analyst.look(job())

    async def insights_of(id: UUID) -> Any:
        session = await scene.sessions.get(id, now=now)
        assert session is not None
        return session.ai_insights

    assert (await insights_of(follows))["newest"]["insight_id"] == "key-1"
    assert await insights_of(other) is None


@pytest.mark.parametrize("way", ["erase", "restrict"])
async def test_c86_an_insight_goes_with_the_person_whose_words_it_was_made_of(database: Database, way: str) -> None:
    scene = Scene(database, Door(note(2, "ann")))
    await scene.agree("ann")
    await scene.analyst.look(job())
    await scene.table.judge("key-1", "bob", "wrong", None, now_us=1)
    log = MessageLog(database)
    for key in ("key-1", "another"):
        await log.append([NewMessage("insights:team:a", "INSIGHT", b'"data":{}', 1, "krin", key=key)])
    privacy = Privacy(database, seal=lambda record, owner: b"", own=[], hold_days={})
    if way == "erase":
        request = await privacy.begin("ann", "erase", now=NOW)
        await privacy.erase("ann", request, b"hash", by="root", now=NOW)
    else:
        request = await privacy.begin("ann", "restrict", now=NOW)
        await privacy.restrict("ann", request, by="root", now=NOW)

    assert await scene.table.get("key-1") is None
    assert [each.type for each in await log.read("insights:team:a", after=0, limit=9)] == ["ERASED", "INSIGHT"]
    assert await scene.table.scores("team:a") == []


# --- promises ---


def page(head: int) -> dict[str, Any]:
    return {"channel": "team:a", "offset": head, "messages": [note(head, "ann")]}


def coordinator_of(
    scene: Scene, jobs: Jobs, *, available: Callable[[], bool] = lambda: True, read_s: float = 30
) -> InsightCoordinator:
    model = Model(table=scene.table, jobs=jobs, available=available, namespaces={"team"}, read_s=read_s)
    return InsightCoordinator(model, clock=scene.clock)


async def test_of_a_channel_a_model_is_asked_once_a_minute_whoever_reads_and_whatever_is_new(
    database: Database,
) -> None:
    scene, jobs = Scene(database, Door()), Jobs(database)
    nodes = [coordinator_of(scene, jobs), coordinator_of(scene, jobs)]
    scene.clock.advance(ASK_EVERY_MS / 1000 - scene.clock.now_ms() % ASK_EVERY_MS / 1000)  # a minute begins
    promised = []
    for head in range(1, 4):
        for node in nodes:
            promised.append(await node.generate_insights(page(head), SYSTEM))
            await node.keep_promises()
    [first] = await jobs.listed()
    assert {each["insight_id"] for each in promised} == {first.key}
    assert {each["status"] for each in promised} == {"pending"}
    scene.clock.advance(ASK_EVERY_MS / 1000)
    await nodes[0].generate_insights(page(4), SYSTEM)
    await nodes[0].keep_promises()
    assert len(await jobs.listed()) == 2


async def test_a_promise_waits_for_a_queue_that_is_full_and_is_kept(database: Database) -> None:
    scene, jobs = Scene(database, Door()), Jobs(database, max_open=1)
    await jobs.put("insight", "another", {})
    coordinator = coordinator_of(scene, jobs)
    promised = await coordinator.generate_insights(page(1), SYSTEM)
    with pytest.raises(QueueFull):
        await coordinator.keep_promises()
    [other] = await jobs.claim(["insight"], worker="a", lease_s=60, limit=1)
    await jobs.finish(other)
    await coordinator.keep_promises()
    assert promised["insight_id"] in {each.key for each in await jobs.listed(state="waiting")}


async def test_a_promise_says_whether_it_outlives_its_node(database: Database) -> None:
    scene, jobs = Scene(database, Door()), Jobs(database, max_open=1)
    await jobs.put("insight", "another", {})
    coordinator = coordinator_of(scene, jobs)
    assert (await coordinator.generate_insights(page(1), SYSTEM))["queued"] is False
    with pytest.raises(QueueFull):
        await coordinator.keep_promises()
    assert (await coordinator.generate_insights(page(1), SYSTEM))["queued"] is False
    [other] = await jobs.claim(["insight"], worker="a", lease_s=60, limit=1)
    await jobs.finish(other)
    await coordinator.keep_promises()
    promised = await coordinator.generate_insights(page(1), SYSTEM)
    assert (promised["queued"], promised["status"]) == (True, "pending")
    assert promised["insight_id"] in {each.key for each in await jobs.listed(state="waiting")}


async def test_nothing_is_promised_of_other_channels_of_older_pages_or_of_a_model_that_is_away(
    database: Database,
) -> None:
    scene, jobs = Scene(database, Door()), Jobs(database)
    coordinator = coordinator_of(scene, jobs)
    for result in (page(1) | {"channel": "orders:ann"}, page(1) | {"offset": 2}, {"anything": 1}):
        assert (await coordinator.generate_insights(result, SYSTEM))["status"] == "ready"
    away = coordinator_of(scene, jobs, available=lambda: False)
    assert (await away.generate_insights(page(1), SYSTEM))["status"] == "degraded"
    await coordinator.keep_promises()
    assert await jobs.listed() == []


async def test_while_a_model_looks_the_last_insight_is_there_and_one_that_was_taken_back_is_not(
    database: Database,
) -> None:
    scene = Scene(database, Door())
    coordinator = coordinator_of(scene, Jobs(database))
    now_us = scene.clock.now_us()
    insight = Insight(
        insight_id="old",
        kind="RISK",
        subject="team:a",
        statement="it waits",
        evidence=[Observation(ref="1", value="waits")],
        confidence=1.0,
        source="llm:oracle",
        generated_at=now_us,
    )
    stored = StoredInsight(
        id="old", subject="team:a", upto=1, insight=insight, made_us=now_us, expires_us=now_us + 10**9
    )
    await scene.table.store(stored, authors=[])
    found = await coordinator.generate_insights(page(2), SYSTEM)
    assert (found["status"], found["source"], found["items"][0].insight_id) == ("pending", "llm:oracle", "old")
    await scene.table.retract("old", "no", now_us=now_us)
    found = await coordinator.generate_insights(page(2), SYSTEM)
    assert (found["status"], found["source"], found["items"]) == ("pending", "rules", [])


async def test_what_rules_see_is_said_while_the_database_is_slow(database: Database) -> None:
    coordinator = coordinator_of(Scene(database, Door()), Jobs(database), read_s=0.05)
    gap = {"channel": "team:a", "offset": 3, "messages": [note(1, "ann"), note(3, "ann")]}
    async with database.session() as other, other.transaction():
        await other.execute("LOCK TABLE insights")
        found = await coordinator.generate_insights(gap, SYSTEM)

    assert (found["status"], found["reason"], found["source"]) == ("degraded", "timeout", "rules")
    assert [each.source for each in found["items"]] == ["rules:gap"]


async def test_an_answer_that_waits_no_longer_for_insights_costs_no_connection(database: Database) -> None:
    """A statement that is cut off takes its connection with it: under load that made everything slower still."""
    coordinator = coordinator_of(Scene(database, Door()), Jobs(database))
    waiting = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%FROM insights%' AND wait_event_type = 'Lock'"
    async with database.session() as other:
        async with other.transaction():
            await other.execute("LOCK TABLE insights")
            impatient = asyncio.create_task(coordinator.generate_insights(page(1), SYSTEM))
            async with asyncio.timeout(10):
                while (pid := await other.fetchval(waiting)) is None:
                    await asyncio.sleep(0.01)
            impatient.cancel()
            await asyncio.wait([impatient])
        async with asyncio.timeout(10):
            while await other.fetchval("SELECT state FROM pg_stat_activity WHERE pid = $1", pid) != "idle":
                await asyncio.sleep(0.01)
    assert (await coordinator.generate_insights(page(1), SYSTEM))["status"] == "pending"


# --- errors ---


def fail(depth: int, secret: str) -> None:
    if depth:
        fail(depth - 1, secret)
    raise ValueError(secret)


def caught(depth: int = 0, secret: str = "s3cret") -> ValueError:
    try:
        fail(depth, secret)
    except ValueError as failure:
        return failure
    raise AssertionError


@given(st.integers(0, 8), st.text(max_size=20))
def test_errors_of_one_place_are_one_kind_whatever_they_say(depth: int, secret: str) -> None:
    assert kind_of(caught(depth, secret)) == kind_of(caught(depth))
    other = ErrorKind("KeyError", kind_of(caught(depth)).frames)
    assert other.fingerprint != kind_of(caught(depth)).fingerprint


async def test_a_model_is_asked_once_of_each_kind_of_error_and_never_what_it_said(database: Database) -> None:
    found = FOUND.model_copy(
        update={
            "kind": "ERROR_CAUSE",
            "evidence": [Point(ref="0", value="fail"), Point(ref="type", value="ValueError")],
        }
    )
    scene, jobs = Scene(database, Door(), found), Jobs(database)
    watch = ErrorWatch(ErrorGroups(database), jobs, clock=scene.clock)
    for depth in (0, 0, 2, 0):
        watch.hear(caught(depth))
    await watch.write_down()
    watch.hear(caught())
    await watch.write_down()

    groups = await ErrorGroups(database).latest(9)
    assert sorted((each.type, each.occurrences) for each in groups) == [("ValueError", 1), ("ValueError", 4)]
    assert {each.frames[0] for each in groups} == {f"{__name__}:fail"}
    queued = await jobs.claim(["error"], worker="a", lease_s=60, limit=9)
    assert len(queued) == 2
    for each in queued:
        await scene.analyst.explain(each)
    assert [(told.channel, told.type, told.data.kind) for told in scene.door.told] == [
        ("insights:errors", "INSIGHT", "ERROR_CAUSE")
    ] * 2
    assert "s3cret" not in str(scene.oracle.asked)


async def test_an_error_that_was_heard_is_free(database: Database) -> None:
    watch = ErrorWatch(ErrorGroups(database), None, clock=ManualClock())

    class Held(Exception):
        pass

    failure = Held()
    gc.collect()
    gc.disable()
    try:
        watch.hear(failure)
        remains = weakref.ref(failure)
        del failure
        assert remains() is None
    finally:
        gc.enable()
