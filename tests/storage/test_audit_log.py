from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]  # ships neither stubs nor py.typed
import pytest

from protocol.audit import AuditRow, verify_rows
from storage import audit
from storage.audit import AuditEntry, AuditTable
from storage.database import Database
from storage.errors import Conflict, NotFound, StorageError
from storage.lineage import verify_lineage
from storage.migrate import packaged
from storage.users import OAuthClients, RefreshTokens, SignIn, Users

pytestmark = pytest.mark.asyncio

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def rows(db: Database) -> list[AuditRow]:
    async with AuditTable(db).snapshot() as (_, _, found):
        return [row async for row in found]


async def newest(db: Database, count: int = 1) -> list[AuditRow]:
    """The newest rows, oldest first."""
    return (await rows(db))[-count:]


async def test_c78_the_database_hashes_a_row_as_an_outsider_computes_it(db: Database) -> None:
    entries = [
        AuditEntry(
            event="user_created", actor="ann", target="bob", detail={"roles": ["trader"], "z": 1.50, "aa": None}
        ),
        AuditEntry(event="authz_fail", actor="mallory", address="192.0.2.1", outcome="denied", severity="WARN"),
        AuditEntry(event="authn_login_fail", actor='a\r\n{"level":"CRITICAL"}', detail={"né": "“x” \u2028"}, time_us=1),
        AuditEntry(
            event="authn_login_fail", actor="nul\0 and half \ud800", detail={"k\0": "\0\ud800"}, outcome="denied"
        ),
    ]
    await AuditTable(db).append_all(entries)
    found = await rows(db)
    assert verify_rows(found) is None
    assert [row.sequence for row in found] == list(range(1, len(found) + 1))
    assert await AuditTable(db).head() == (found[-1].sequence, found[-1].hash)
    assert [row.event for row in found[-4:]] == [entry.event for entry in entries]


async def test_c78_numbers_have_no_gap_when_many_append_and_some_roll_back(dsn: str) -> None:
    async def work(db: Database, number: int) -> None:
        async with db.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await audit.append(connection, AuditEntry(event="work", target=str(number), actor=f"user{number % 7}"))
            await (transaction.rollback() if number % 3 == 0 else transaction.commit())

    async with Database.open(dsn, max_size=8, acquire_timeout_s=20, command_timeout_s=20) as db:
        before = len(await rows(db))
        await asyncio.gather(*(work(db, number) for number in range(120)))
        found = await rows(db)
    assert verify_rows(found) is None
    assert len(found) - before == 80


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET event = 'other' WHERE sequence = 1",
        "UPDATE audit_log SET event = event WHERE false",
        "DELETE FROM audit_log WHERE sequence = 1",
        "TRUNCATE audit_log",
        "TRUNCATE audit_log CASCADE",
    ],
)
async def test_c74_the_log_can_only_grow_even_for_its_owner(db: Database, statement: str) -> None:
    before = await rows(db)
    with pytest.raises(StorageError, match="append-only"):
        await db.execute(statement)
    assert await rows(db) == before != []


ROLE_RIGHTS = "GRANT SELECT ON audit_log, audit_head TO krin_app; GRANT SELECT ON users TO krin_app"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET event = 'other'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "DROP TABLE audit_log",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "ALTER TABLE audit_log DISABLE TRIGGER audit_log_append_only",
        "SET session_replication_role = replica",
        "INSERT INTO audit_log SELECT * FROM audit_log",
        "UPDATE public.audit_head SET sequence = 0",
        "SELECT key FROM person_keys",
        "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
    ],
)
async def test_c74_a_role_of_the_hubs_own_can_append_and_nothing_else(db: Database, statement: str) -> None:
    """Roles belong to the whole server: this one lives for the length of a transaction that is rolled back."""
    async with db.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"CREATE ROLE krin_app; {ROLE_RIGHTS}; SET LOCAL ROLE krin_app")
        assert await audit.append(connection, AuditEntry(event="sys_startup", actor="ann")) > 0
        await connection.execute("CREATE TEMPORARY TABLE audit_head (sequence bigint, hash bytea)")  # no way around
        sequence = await audit.append(connection, AuditEntry(event="sys_startup"))
        assert sequence == await connection.fetchval("SELECT max(sequence) FROM audit_log")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
        await transaction.rollback()


async def test_c88_people_are_written_down_by_pseudonyms_that_die_with_their_key(db: Database) -> None:
    await Users(db).create("alice", by="root")
    table = AuditTable(db)
    entry = AuditEntry(
        event="authz_fail",
        actor="alice",
        address="192.0.2.7",
        target="orders:alice",
        detail={"user": "alice", "address": "192.0.2.7", "channel": "fills:alice", "count": 3},
        outcome="denied",
    )
    await table.append_all([entry])
    [created, denied] = await newest(db, 2)
    key = await db.fetch_value("SELECT key FROM person_keys WHERE name = 'alice'")
    alice, address = ("~" + hmac.new(key, value, hashlib.sha256).hexdigest()[:32] for value in (b"alice", b"192.0.2.7"))
    assert (created.target, denied.actor, denied.address) == (alice, alice, address)
    assert denied.target == f"orders:{alice}"
    assert denied.detail == (f'{{"user": "{alice}", "count": 3, "address": "{address}", "channel": "fills:{alice}"}}')
    assert await table.names([created.actor, created.target, "~none"]) == {created.actor: "root", alice: "alice"}
    await db.execute("DELETE FROM person_keys WHERE name = 'alice'")
    assert await table.names([alice]) == {}
    assert verify_rows(await rows(db)) is None


async def test_c88_guessing_names_makes_no_key_of_its_own(db: Database) -> None:
    before = await db.fetch_value("SELECT count(*) FROM person_keys")
    guesses = [AuditEntry(event="authn_login_fail", actor=f"guess{n}", outcome="denied") for n in range(50)]
    await AuditTable(db).append_all(guesses)
    assert await db.fetch_value("SELECT count(*) FROM person_keys") == before
    assert await db.fetch_value("SELECT count(*) FROM day_keys") == 1
    found = await newest(db, 50)
    assert len({row.actor for row in found}) == 50
    assert not any("guess" in row.actor for row in found)


async def test_c77_each_change_is_one_row_and_what_failed_is_none(db: Database) -> None:
    users, clients, tokens = Users(db), OAuthClients(db), RefreshTokens(db)
    await verify_lineage(db)
    start = len(await rows(db))
    await users.create("alice", roles=["trader"], by="root")
    with pytest.raises(Conflict):
        await users.create("alice", by="root")
    await users.update("alice", roles=[], password_hash="$secret$", now=NOW, by="root")
    with pytest.raises(NotFound):
        await users.update("nobody", disabled=True, now=NOW, by="root")
    await clients.create("robot", secret_hash="$secret$", by="root")
    await clients.set_disabled("robot", True, by="root")
    sign_in = SignIn(family=uuid4(), amr=["pwd"], auth_time=1)
    await tokens.store(b"1", sign_in=sign_in, subject="alice", expires_at=NOW + timedelta(days=1))
    await tokens.consume(b"1", now=NOW)
    await tokens.consume(b"1", now=NOW)  # used again: the family ends
    await tokens.consume(b"1", now=NOW)
    await tokens.revoke_family(sign_in.family, now=NOW)  # it has ended already
    await tokens.revoke_subject("alice", now=NOW)
    await db.execute("UPDATE lineage SET timeline = '000000FF'")
    await verify_lineage(db)
    await verify_lineage(db)
    found = (await rows(db))[start:]
    assert [(row.event, row.severity) for row in found] == [
        ("user_created", "INFO"),
        ("user_updated", "INFO"),
        ("client_created", "INFO"),
        ("client_updated", "INFO"),
        ("authn_token_revoked", "CRITICAL"),
        ("sys_history_restored", "WARN"),
    ]
    assert not any("secret" in row.detail for row in found)
    assert found[1].detail == '{"roles": [], "password": "changed"}'


async def test_c77_every_migration_since_the_log_exists_is_in_it(db: Database) -> None:
    logged = [row.target for row in await rows(db) if row.event == "sys_schema_migrated"]
    assert logged == [each.label for each in packaged() if each.number >= 30]


async def test_c88_a_channel_that_somebody_made_up_is_not_written_down_in_their_words(db: Database) -> None:
    await db.execute("INSERT INTO channels (name) VALUES ('team:alpha')")
    targets = ["team:alpha", "orders:my secret diary", "GET /v1/audit"]
    await AuditTable(db).append_all(
        [AuditEntry(event="authz_fail", actor="mallory", target=each, outcome="denied") for each in targets]
    )
    known, made_up, route = await newest(db, 3)
    assert (known.target, route.target) == ("team:alpha", "GET /v1/audit")
    assert re.fullmatch("orders:~[0-9a-f]{32}", made_up.target)
