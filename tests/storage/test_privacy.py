"""What is stored about people, table by table. The door-to-door tests are in tests/edge/test_privacy_doors.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.audit import AuditTable
from storage.consents import Consents
from storage.database import Database
from storage.errors import NotFound
from storage.messages import MessageLog, NewMessage, Stored
from storage.privacy import ERASURES, EXPORTS, IMPERSONAL, Privacy, business_days
from storage.retention import EXPIRE, Retention
from storage.users import Users

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOLD = {"orders": 1827, "fills": 1827}


def stored(db: Database) -> Privacy:
    return Privacy(db, seal=lambda record, owner: b"sealed", own=["orders", "fills"], hold_days=HOLD)


def message(channel: str, publisher: str, text: str = "x", **fields: str) -> NewMessage:
    body = b'"data":' + msgspec.json.encode({"text": text}) + b',"publisher":' + msgspec.json.encode(publisher)
    return NewMessage(channel, "NOTE", body, int(NOW.timestamp() * 1000), publisher, **fields)


async def test_c85_c86_every_table_is_exported_erased_or_holds_nobodys_data(db: Database) -> None:
    """Add a table, and say here what it holds of people: in storage/privacy.py."""
    tables = await db.fetch("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    known = EXPORTS.keys() | ERASURES.keys() | IMPERSONAL
    assert {row[0] for row in tables} == known
    kept = {"audit_log", "privacy_requests"}  # by pseudonym, which nothing resolves once the key is gone
    assert EXPORTS.keys() - ERASURES.keys() == kept
    assert not IMPERSONAL & (EXPORTS.keys() | ERASURES.keys())


async def test_c86_messages_keep_their_offset_and_lose_publisher_and_content(db: Database, log: MessageLog) -> None:
    await log.append(
        [message("team:a", name, idempotency_key=f"{name}{n}") for n in range(3) for name in ("ann", "bob")]
    )
    before = await log.read("team:a", after=0, limit=10)
    privacy = stored(db)
    erasure = await privacy.erase("ann", await privacy.begin("ann", "erase", now=NOW), b"hash", by="root", now=NOW)
    after = await log.read("team:a", after=0, limit=10)
    assert [(row.offset, row.epoch, row.timestamp_ms) for row in after] == [
        (row.offset, row.epoch, row.timestamp_ms) for row in before
    ]
    assert [(row.type, row.publisher, row.body) for row in after[0::2]] == [("ERASED", "", b'"data":{}')] * 3
    assert after[1::2] == before[1::2]
    assert erasure.deleted["messages"] == 3
    assert await log.find("team:a", "ann", "ann0") is None
    assert (await log.append([message("team:a", "bob")]))[0] == msgspec.structs.replace(
        await log.find("team:a", "bob", "bob0"),
        offset=7,
        duplicate=False,  # type: ignore[type-var]
    )


async def test_c87_orders_are_kept_encrypted_until_a_date_and_for_a_reason(db: Database, log: MessageLog) -> None:
    await log.append(
        [message("orders:ann", "ann", "buy"), message("orders:ann", "broker"), message("fills:ann", "broker")]
    )
    await log.append([message("orders:bob", "bob"), message("alerts:ann", "bob")])  # ann's name, and not hers
    privacy = stored(db)
    erasure = await privacy.erase("ann", await privacy.begin("ann", "erase", now=NOW), b"hash", by="ann", now=NOW)
    until = (NOW + timedelta(days=1827)).date()
    assert {(kept.namespace, kept.rows, kept.hold_until) for kept in erasure.kept} == {
        ("orders", 2, until),
        ("fills", 1, until),
    }
    assert all("Art. 17(3)" in kept.ground for kept in erasure.kept)
    channels = await log.channels()
    assert [name for name in channels if name.endswith(":ann")] == ["alerts:ann"]
    assert len([name for name in channels if ":erased-" in name]) == 2
    assert (await log.read("alerts:ann", after=0, limit=9))[0].publisher == "bob"
    assert (await log.head("orders:ann")).top == 0
    start, _ = await AuditTable(db).head()
    assert len(await privacy.holds(erasure.person, by="officer", reason="case 7")) == 3
    [looked] = await AuditTable(db).page(after=start)
    assert looked.event == "sensitive_read"
    assert "case 7" in looked.detail


async def coordination(db: Database, user: UUID, who: str) -> None:
    await db.execute(
        "INSERT INTO ai_enhanced_sessions (user_id, session_data, embedding, embedding_model, expires_at)"
        " VALUES ($1, '{}', array_fill(0.5, ARRAY[1536])::vector, 'm', $2)",
        *(user, NOW + timedelta(days=1)),
    )
    await db.execute(
        "INSERT INTO specialist_coordination (project_id, specialist_type, action_type, context)"
        " VALUES (gen_random_uuid(), 'ui', 'review', $1)",
        msgspec.json.encode({"by": who}).decode(),
    )


async def everything(db: Database) -> dict[str, list[str]]:
    """What is stored where anybody may look."""
    tables = ("messages", "ai_enhanced_sessions", "specialist_coordination")
    return {table: sorted(row[0] for row in await db.fetch(f"SELECT t::text FROM {table} AS t")) for table in tables}


async def test_c91_what_is_restricted_is_nowhere_to_be_seen_and_comes_back_as_it_was(
    db: Database, log: MessageLog
) -> None:
    for name in ("ann", "bob"):
        user = await Users(db).create(name)
        await coordination(db, user.id, name)
        await log.append([message("team:a", name, f"of {name}", idempotency_key="k", key="key", trace="t")])
    await log.append([message("orders:ann", "broker", "hers, by somebody else")])
    before = await everything(db)
    privacy = stored(db)
    rows = await privacy.restrict("ann", await privacy.begin("ann", "restrict", now=NOW), by="root", now=NOW)
    during = await everything(db)
    [hers, bobs] = await log.read("team:a", after=0, limit=9)
    [order] = await log.read("orders:ann", after=0, limit=9)

    assert rows == {"messages": 2, "ai_enhanced_sessions": 1, "specialist_coordination": 1}
    assert [(each.type, each.publisher, each.body) for each in (hers, order)] == [("RESTRICTED", "", b'"data":{}')] * 2
    assert bobs.publisher == "bob"
    assert not [row for table in during.values() for row in table if "ann" in row or "hers" in row]
    start, _ = await AuditTable(db).head()
    held = await privacy.restricted("ann", by="officer", reason="case 9")
    [looked] = await AuditTable(db).page(after=start)
    assert sorted(table for table, _ in held) == [
        "ai_enhanced_sessions", "messages", "messages", "specialist_coordination",
    ]  # fmt: skip
    assert b"hers, by somebody else" in b"".join(row for _, row in held)
    assert (looked.event, "case 9" in looked.detail) == ("sensitive_read", True)
    async with privacy.export("ann", await privacy.begin("ann", "export", now=NOW), by="ann", now=NOW) as exported:
        told = [row async for table, row in exported if table == "restricted_rows"]
    assert len(told) == 4, "what is restricted is still the person's to know"

    assert await privacy.release("ann", by="root", now=NOW) == rows
    assert await everything(db) == before
    assert await db.fetch_value("SELECT count(*) FROM restricted_rows") == 0
    [again] = await log.append([message("team:a", "ann", "of ann", idempotency_key="k", key="key", trace="t")])
    assert isinstance(again, Stored)
    assert again.duplicate
    with pytest.raises(NotFound):
        await privacy.release("ann", by="root", now=NOW)


async def test_c91_who_is_restricted_can_be_erased_and_what_must_be_kept_is(db: Database, log: MessageLog) -> None:
    await log.append([message("orders:ann", "ann", "buy"), message("team:a", "ann", "x")])
    privacy = stored(db)
    await privacy.restrict("ann", await privacy.begin("ann", "restrict", now=NOW), by="root", now=NOW)
    erasure = await privacy.erase("ann", await privacy.begin("ann", "erase", now=NOW), b"hash", by="root", now=NOW)

    assert [(kept.namespace, kept.rows) for kept in erasure.kept] == [("orders", 1)]
    assert [each.type for each in await log.read("team:a", after=0, limit=9)] == ["ERASED"]
    assert await db.fetch_value("SELECT count(*) FROM restrictions") == 0


async def test_c89_what_has_outlived_its_time_goes_and_the_report_says_how_many(db: Database, log: MessageLog) -> None:
    retention = Retention(
        db,
        log,
        days={"refresh_tokens": 30, "day_keys": 30, "specialist_coordination": 10, "legal_holds": 0},
        message_days={"team": 5},
    )
    await db.execute(
        "INSERT INTO refresh_tokens (token_hash, family, subject, expires_at)"
        " SELECT sha256(n::text::bytea), gen_random_uuid(), 'ann', $1::timestamptz + n * interval '1 day'"
        " FROM generate_series(-40, 40) AS n",
        NOW,
    )
    await db.execute("INSERT INTO day_keys VALUES ('2025-11-01', ''), ('2025-12-20', '')")
    await db.execute(
        "INSERT INTO legal_holds (person, namespace, timestamp_ms, record, hold_until)"
        " VALUES ('~1', 'orders', 0, '', '2025-12-31'), ('~2', 'orders', 0, '', '2026-01-02')"
    )
    await log.append([message("team:a", "ann"), message("custom:a", "ann")])
    start, _ = await AuditTable(db).head()
    assert await retention.apply(NOW) == {"refresh_tokens": 10, "day_keys": 1, "legal_holds": 1}
    assert await retention.apply(NOW) == {}
    assert await retention.apply(NOW + timedelta(days=6)) == {"refresh_tokens": 6, "legal_holds": 1, "messages": 1}
    reports = await AuditTable(db).page(after=start)
    assert [(row.event, msgspec.json.decode(row.detail)) for row in reports] == [
        ("data_retention_applied", {"refresh_tokens": 10, "day_keys": 1, "legal_holds": 1}),
        ("data_retention_applied", {"refresh_tokens": 6, "legal_holds": 1, "messages": 1}),
    ]
    assert [row.publisher for row in await log.read("custom:a", after=0, limit=9)] == ["ann"]


async def test_c89_every_window_is_a_statement_that_postgres_understands(db: Database, log: MessageLog) -> None:
    assert await Retention(db, log, days=dict.fromkeys(EXPIRE, 1), message_days={}).apply(NOW) == {}


async def test_c90_consent_is_asked_for_given_and_withdrawn_in_versions(db: Database) -> None:
    consents = Consents(db)
    assert not await consents.allows("ann", "ai_processing")
    for granted in (True, True, False):
        await consents.put("ann", "ai_processing", granted, source="rest", now=NOW, by="ann")
        assert await consents.allows("ann", "ai_processing") is granted
    assert not await consents.allows("bob", "ai_processing")
    [newest] = await consents.of("ann")
    assert (newest.purpose, newest.granted, newest.version, newest.source) == ("ai_processing", False, 2, "rest")


async def test_c92_requests_are_tracked_with_the_dates_on_which_they_are_due(db: Database) -> None:
    privacy = stored(db)
    erase = await privacy.begin("ann", "erase", now=NOW)
    await privacy.begin("ann", "export", now=NOW + timedelta(days=1))
    first, second = await privacy.requests(open_only=True)
    assert (first.id, first.kind, second.kind) == (erase, "erase", "export")
    assert first.due_at == datetime(2026, 2, 1, tzinfo=UTC)
    assert first.confirm_by == datetime(2026, 1, 15, tzinfo=UTC)
    await privacy.erase("ann", erase, b"hash", by="ann", now=NOW)
    assert [each.kind for each in await privacy.requests(open_only=True)] == ["export"]
    assert len(await privacy.requests()) == 2  # the record of a request outlives what it asked for
    assert "ann" not in str(await privacy.requests())


@given(
    st.dates().map(lambda day: datetime(day.year, day.month, day.day)).filter(lambda at: at.year < 9000),
    st.integers(0, 30),
)
def test_c92_business_days_are_counted_from_monday_to_friday(start: datetime, count: int) -> None:
    end = business_days(start, count)
    days = [start + timedelta(days=number) for number in range(1, (end - start).days + 1)]
    assert sum(day.weekday() < 5 for day in days) == count
    assert count == 0 or end.weekday() < 5
