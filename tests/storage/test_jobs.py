"""The durable queue: put once, taken by one, never lost, never taken twice at once, parked when it is no use."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from storage.audit import AuditTable
from storage.database import Database
from storage.errors import Rejected, Unavailable
from storage.jobs import MAX_ATTEMPTS, MAX_PAYLOAD_BYTES, Job, Jobs, QueueFull
from storage.messages import MessageLog
from storage.privacy import Privacy
from storage.retention import Retention

KINDS = ("insight",)
LEASE_S = 60.0


@pytest.fixture
def jobs(db: Database) -> Jobs:
    return Jobs(db, max_open=20)


async def claim(jobs: Jobs, *, worker: str = "a", limit: int = 100, lease_s: float = LEASE_S) -> list[Job]:
    return await jobs.claim(KINDS, worker=worker, lease_s=lease_s, limit=limit)


async def end_leases(db: Database) -> None:
    """As if LEASE_S had passed."""
    await db.execute("UPDATE jobs SET due_at = now() WHERE state = 'running'")


async def make_due(db: Database) -> None:
    await db.execute("UPDATE jobs SET due_at = now() WHERE state = 'waiting'")


async def test_a_job_is_put_once_and_says_what_was_put(jobs: Jobs) -> None:
    assert await jobs.put("insight", "k1", {"about": "BTC-USD", "price": "1.10"})
    assert not await jobs.put("insight", "k1", {"about": "something else"})
    [job] = await claim(jobs)
    assert (job.kind, job.key, job.attempt) == ("insight", "k1", 1)
    assert job.payload == {"about": "BTC-USD", "price": "1.10"}
    assert await jobs.finish(job)
    assert not await jobs.put("insight", "k1", {})
    assert await claim(jobs) == []


async def test_workers_that_claim_at_once_share_the_jobs_and_each_has_one_owner(jobs: Jobs) -> None:
    for number in range(20):
        await jobs.put("insight", str(number), {})
    claimed = await asyncio.gather(*(claim(jobs, worker=str(worker), limit=5) for worker in range(8)))
    taken = [job.id for each in claimed for job in each]
    assert len(taken) == len(set(taken)) <= 20
    rest = await claim(jobs)
    assert len(taken) + len(rest) == 20


async def test_a_kind_that_nobody_here_knows_waits(jobs: Jobs) -> None:
    await jobs.put("of a newer version", "k", {})
    assert await claim(jobs) == []
    assert (await jobs.count()).waiting == 1


async def test_whoever_lost_the_lease_has_lost_the_job(jobs: Jobs, db: Database) -> None:
    await jobs.put("insight", "k", {})
    [first] = await claim(jobs, worker="a")
    assert await claim(jobs, worker="b") == []
    await end_leases(db)
    [second] = await claim(jobs, worker="b")
    assert (second.id, second.attempt) == (first.id, 2)
    assert await jobs.renew([first.claim, second.claim], lease_s=LEASE_S) == {second.claim}
    assert not await jobs.finish(first)
    assert not await jobs.fail(first, "late", retry_in_s=None)
    assert await jobs.finish(second)


async def test_a_renewed_lease_keeps_others_away(jobs: Jobs, db: Database) -> None:
    await jobs.put("insight", "k", {})
    [job] = await claim(jobs)
    await end_leases(db)
    assert await jobs.renew([job.claim], lease_s=LEASE_S) == {job.claim}
    assert await claim(jobs, worker="b") == []


async def test_what_has_failed_comes_back_later_and_keeps_its_error(jobs: Jobs, db: Database) -> None:
    await jobs.put("insight", "k", {})
    [job] = await claim(jobs)
    assert await jobs.fail(job, "the model\0 is silent" + "!" * 1000, retry_in_s=60)
    assert await claim(jobs) == []
    [listed] = await jobs.listed()
    assert listed.state == "waiting"
    assert listed.error is not None
    assert listed.error.startswith("the model is silent")
    assert len(listed.error) == 500
    await make_due(db)
    [again] = await claim(jobs)
    assert again.attempt == 2


async def test_a_parked_job_waits_for_people_who_retry_or_discard_it(jobs: Jobs) -> None:
    for key in ("k1", "k2"):
        await jobs.put("insight", key, {"n": 1})
    first, second = await claim(jobs)
    for job in (first, second):
        assert await jobs.fail(job, "no use", retry_in_s=None)
    assert await claim(jobs) == []
    assert [each.key for each in await jobs.listed(state="parked")] == ["k2", "k1"]
    assert await jobs.retry([first.id]) == [first.id]
    assert await jobs.retry([first.id]) == []  # not parked any more
    [again] = await claim(jobs)
    assert (again.id, again.attempt, again.payload) == (first.id, 1, {"n": 1})
    assert await jobs.discard() == [second.id]
    assert [each.id for each in await jobs.listed()] == [first.id]


async def test_what_people_decide_of_parked_jobs_has_a_row_in_the_audit_log(jobs: Jobs, db: Database) -> None:
    for key in ("k1", "k2"):
        await jobs.put("insight", key, {})
    first, second = await claim(jobs)
    for job in (first, second):
        await jobs.fail(job, "no use", retry_in_s=None)
    before, _ = await AuditTable(db).head()
    await jobs.retry([first.id])
    await jobs.discard()
    await jobs.discard()  # nothing any more: no change
    rows = await AuditTable(db).page(after=before)
    assert [(row.event, json.loads(row.detail)) for row in rows] == [
        ("jobs_retried", {"count": 1, "jobs": str(first.id)}),
        ("jobs_discarded", {"count": 1, "jobs": str(second.id)}),
    ]


async def test_what_takes_every_worker_with_it_is_parked(jobs: Jobs, db: Database) -> None:
    await jobs.put("insight", "k", {})
    for _ in range(MAX_ATTEMPTS):
        assert await jobs.park_lost() == []
        [job] = await claim(jobs)
        await end_leases(db)
    assert await claim(jobs) == []
    assert await jobs.park_lost() == [job.id]
    [listed] = await jobs.listed()
    assert (listed.state, listed.attempts) == ("parked", MAX_ATTEMPTS)


async def test_what_is_given_back_is_taken_at_once_and_has_lost_no_attempt(jobs: Jobs) -> None:
    await jobs.put("insight", "k", {})
    [job] = await claim(jobs, worker="a")
    await jobs.give_back([job.claim])
    [again] = await claim(jobs, worker="b")
    assert (again.id, again.attempt) == (job.id, 1)


async def test_a_full_queue_refuses_what_is_new_and_nothing_else(jobs: Jobs) -> None:
    for number in range(20):
        await jobs.put("insight", str(number), {})
    with pytest.raises(QueueFull, match="20 jobs of the kind insight"):
        await jobs.put("insight", "one more", {})
    assert not await jobs.put("insight", "3", {})  # that one is there
    assert await jobs.put("error", "another kind", {})
    [job, *_] = await claim(jobs, limit=1)
    await jobs.finish(job)
    assert await jobs.put("insight", "one more", {})


@pytest.mark.parametrize("payload", [{"text": "x" * MAX_PAYLOAD_BYTES}, {"text": "a\0b"}])
async def test_a_payload_that_cannot_be_kept_is_refused(jobs: Jobs, payload: dict[str, str]) -> None:
    with pytest.raises(Rejected):
        await jobs.put("insight", "k", payload)
    assert await jobs.listed() == []


async def test_the_counts_are_those_of_all_states(jobs: Jobs, db: Database) -> None:
    assert (await jobs.count()).late_s == 0
    for number in range(4):
        await jobs.put("insight", str(number), {})
    done, parked, _ = await claim(jobs, limit=3)
    await jobs.finish(done)
    await jobs.fail(parked, "no use", retry_in_s=None)
    await db.execute("UPDATE jobs SET due_at = due_at - interval '90 s' WHERE state = 'waiting'")
    counts = await jobs.count()
    assert (counts.waiting, counts.running, counts.parked) == (1, 1, 1)
    assert counts.late_s >= 90


async def test_a_bell_rings_for_what_is_put_and_for_what_is_retried(jobs: Jobs) -> None:
    rung = asyncio.Event()

    async def next_ring() -> None:
        async with asyncio.timeout(5):
            await rung.wait()
        rung.clear()

    listening = asyncio.create_task(jobs.listen(rung.set))
    try:
        await next_ring()  # it listens
        await jobs.put("insight", "k", {})
        await next_ring()
        [job] = await claim(jobs)
        await jobs.fail(job, "no use", retry_in_s=None)
        await jobs.retry()
        await next_ring()
    finally:
        listening.cancel()


async def test_whoever_listens_is_told_when_the_session_is_lost(jobs: Jobs, db: Database) -> None:
    rung = asyncio.Event()
    listening = asyncio.create_task(jobs.listen(rung.set))
    async with asyncio.timeout(5):
        await rung.wait()
        await db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        with pytest.raises(Unavailable):
            await listening


async def test_c86_jobs_about_a_person_are_handed_over_and_go_with_them(jobs: Jobs, db: Database) -> None:
    await jobs.put("insight", "of ann", {"page": {"rows": [{"author": "ann"}]}})
    await jobs.put("insight", "of bob", {"page": {"rows": [{"author": "bob, who knows ann"}]}})
    [mine, _] = await claim(jobs)
    privacy = Privacy(db, seal=lambda record, owner: b"sealed", own=[], hold_days={})
    now = datetime.now(UTC)
    asked = await privacy.begin("ann", "export", now=now)
    async with privacy.export("ann", asked, by="ann", now=now) as rows:
        exported = [row async for table, row in rows if table == "jobs"]
    assert len(exported) == 1
    assert b"of ann" in exported[0]
    await privacy.erase("ann", await privacy.begin("ann", "erase", now=now), b"hash", by="ann", now=now)
    assert [each.key for each in await jobs.listed()] == ["of bob"]
    assert not await jobs.finish(mine)


async def test_what_is_done_keeps_no_payload_and_goes_after_its_time(jobs: Jobs, db: Database) -> None:
    for key in ("old", "new", "waiting"):
        await jobs.put("insight", key, {"user": "ann"})
    old, new, _ = await claim(jobs)
    await jobs.finish(old)
    await jobs.finish(new)
    assert await db.fetch_value("SELECT count(*) FROM jobs WHERE payload = '{}'") == 2
    await db.execute("UPDATE jobs SET ended_at = ended_at - interval '31 days' WHERE id = $1", old.id)
    retention = Retention(db, MessageLog(db), days={"jobs": 30}, message_days={})
    assert await retention.apply(datetime.now(UTC) + timedelta(seconds=1)) == {"jobs": 1}
    assert {each.key for each in await jobs.listed()} == {"new", "waiting"}
