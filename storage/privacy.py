"""Everything that is stored about one person: where it is, how it is handed over, how it goes.

Rule: every table stands in `EXPORTS`, in `ERASURES`, or in `IMPERSONAL`; a test compares them with the schema.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from storage import audit, revocations
from storage.audit import AuditEntry
from storage.database import Database
from storage.errors import NotFound
from storage.revocations import erasing

# A channel of the person's own, in the namespaces where a channel carries its owner's name: `orders:ann`, and
# `orders:desk/ann` where names begin with a tenant.
OWN_CHANNEL = (
    "split_part(c.name, ':', 1) = ANY ($4)"
    " AND $1 IN (substr(c.name, strpos(c.name, ':') + 1), substr(c.name, strpos(c.name, '/') + 1))"
)
# Whoever has no account here has sessions all the same: see storage/sessions.py.
OWN_SESSIONS = "user_id IN ($2, md5($1)::uuid)"
# Likewise of an account's name.
OWN_ACCOUNT = "$1 IN (account, substr(account, strpos(account, '/') + 1))"
ABOUT = "jsonb_path_exists({}, '$.** ? (@ == $name)', jsonb_build_object('name', $1::text))"
ABOUT_BODY = ABOUT.format("body::jsonb")
ABOUT_JOB = ABOUT.format("payload")
ABOUT_ANY = " OR ".join(ABOUT.format(column) for column in ("context", "coalesce(ai_analysis, '{}')"))
# $1 is the person's name, $2 the id of the user of that name, $3 every pseudonym the name can have in the audit log,
# $4 the namespaces whose channels carry their owner's name.
RESTRICTED_ROWS = (
    "SELECT source, CASE source WHEN 'messages' THEN jsonb_set(content, '{body}',"
    " ('{' || convert_from((content ->> 'body')::bytea, 'UTF8') || '}')::jsonb) ELSE content END AS content"
    " FROM restricted_rows WHERE name = $1 ORDER BY id"
)
EXPORTS: Mapping[str, str] = {
    "users": "SELECT id, name, roles, grants, teams, disabled, created_at, password_hash IS NOT NULL AS has_password"
    " FROM users WHERE name = $1",
    "refresh_tokens": "SELECT family, amr, auth_time, created_at, expires_at, used_at, revoked_at FROM refresh_tokens"
    " WHERE subject = $1 ORDER BY created_at",
    "authorization_codes": "SELECT client_id, scope, expires_at, used_at FROM authorization_codes WHERE subject = $1",
    "api_keys": "SELECT id, roles, teams, grants, created_at, expires_at, revoked_at FROM api_keys WHERE name = $1",
    "oauth_clients": "SELECT client_id, roles, teams, disabled, created_at FROM oauth_clients WHERE client_id = $1",
    "second_factors": "SELECT confirmed_at, created_at FROM second_factors WHERE user_id = $2",
    "recovery_codes": "SELECT used_at FROM recovery_codes WHERE user_id = $2",
    "ai_enhanced_sessions": "SELECT id, session_data, ai_insights, embedding_model, created_at, expires_at"
    f" FROM ai_enhanced_sessions WHERE {OWN_SESSIONS} ORDER BY created_at",
    "messages": 'SELECT c.name AS channel, m."offset", m.timestamp_ms, m.type, m.publisher = $1 AS published,'
    " ('{' || convert_from(m.body, 'UTF8') || '}')::json AS content"
    f" FROM messages AS m JOIN channels AS c ON c.id = m.channel_id WHERE m.publisher = $1 OR {OWN_CHANNEL}"
    ' ORDER BY m.channel_id, m."offset"',
    # What a message says comes with the message.
    "documents": "SELECT kind, channel, timestamp_ms, type, content, embedding_model FROM documents"
    " WHERE publisher = $1 AND kind NOT IN ('message', 'insight') ORDER BY id",
    "specialist_coordination": f"SELECT * FROM specialist_coordination WHERE {ABOUT_ANY} ORDER BY timestamp",
    "revocations": "SELECT before_ms, rights, expires_at FROM revocations WHERE kind = 'user' AND subject = $1",
    "restrictions": "SELECT since FROM restrictions WHERE name = $1",
    "restricted_rows": RESTRICTED_ROWS,
    "consents": "SELECT purpose, version, granted, source, at FROM consents WHERE name = $1 ORDER BY purpose, version",
    "risk_limits": "SELECT limits FROM risk_limits WHERE scope = 'ACCOUNT' AND name = $1",
    "trading_states": "SELECT scope, name, mode, reason, actor = $1 AS by_this_person, ts_event FROM trading_states"
    " WHERE scope = 'ACCOUNT' AND name = $1 OR actor = $1",
    "orders": f"SELECT order_id, account, symbol, side, open FROM orders WHERE {OWN_ACCOUNT} ORDER BY sequence",
    "order_names": f"SELECT account, client_order_id, order_id FROM order_names WHERE {OWN_ACCOUNT}",
    "order_events": "SELECT sequence, order_id, account, exec_type, ts_event, recorded_us, body FROM order_events"
    f" WHERE {OWN_ACCOUNT} ORDER BY sequence",
    "order_switches": f"SELECT account, deadline_us FROM order_switches WHERE {OWN_ACCOUNT}",
    "strategy_runs": "SELECT account, strategy_id, strategy, symbols, parameters, started_by = $1 AS by_this_person,"
    " stopped_by = $1 AS stopped_by_this_person, started_us, ended_us, state, reason FROM strategy_runs"
    f" WHERE {OWN_ACCOUNT} OR $1 IN (started_by, stopped_by)",
    "coordination_records": f"SELECT kind, id, project_id, body FROM coordination_records WHERE {ABOUT_BODY}",
    "coordination_events": "SELECT position, kind, id, project_id, ts_event, body FROM coordination_events"
    f" WHERE actor = $1 OR {ABOUT_BODY} ORDER BY position",
    "knowledge_entries": "SELECT id, kind, project_id, title, body, tags, finding, added_us FROM knowledge_entries"
    " WHERE author = $1 ORDER BY added_us",
    "jobs": f"SELECT kind, key, payload, state, put_at FROM jobs WHERE {ABOUT_JOB} ORDER BY id",
    "insights": "SELECT id, subject, body, reason, made_us, expires_us, retracted_us FROM insights"
    " WHERE $1 = ANY (authors) ORDER BY made_us",
    "insight_feedback": "SELECT insight_id, verdict, outcome, said_us FROM insight_feedback WHERE name = $1"
    " ORDER BY said_us",
    "webhooks": "SELECT id, url, channels, enabled, reason, created_at FROM webhooks WHERE owner = $1 ORDER BY id",
    "webhook_positions": 'SELECT p.webhook_id, p.channel, p."offset" FROM webhook_positions AS p'
    " JOIN webhooks AS w ON w.id = p.webhook_id WHERE w.owner = $1",
    "webhook_deliveries": 'SELECT d.webhook_id, d.id, d.channel, d."offset", d.attempts, d.delivered, d.status, d.at'
    " FROM webhook_deliveries AS d JOIN webhooks AS w ON w.id = d.webhook_id WHERE w.owner = $1",
    "privacy_requests": "SELECT * FROM privacy_requests WHERE person = ANY ($3) ORDER BY requested_at",
    "audit_log": "SELECT sequence, time_us, event, outcome, severity, detail, actor = ANY ($3) AS by_this_person"
    " FROM audit_log WHERE actor = ANY ($3) OR split_part(target, ':', 2) = ANY ($3) OR target = ANY ($3)"
    " ORDER BY sequence",
}
ERASED_TYPE = "ERASED"
RESTRICTED_TYPE = "RESTRICTED"
# What was made of a person's messages goes with them, and is not made again: it may say what they said.
FORGET_INSIGHTS = (
    "WITH gone AS (DELETE FROM insights WHERE $1 = ANY (authors) RETURNING id, subject)"
    f" UPDATE messages AS m SET type = '{ERASED_TYPE}', body = convert_to('\"data\":{{}}', 'UTF8'),"
    " publisher = '', key = NULL, idempotency_key = NULL, body_hash = NULL, trace = NULL FROM channels AS c, gone"
    " WHERE c.name = 'insights:' || gone.subject AND m.channel_id = c.id AND m.key = gone.id"
)
# Out of the tables and back, with $1 to $4 as above. A message leaves its place and time behind, as in an erasure.
KEEP = "INSERT INTO restricted_rows (name, source, content)"
RESTRICT: Mapping[str, str] = {
    "messages": "WITH taken AS (SELECT m.* FROM messages AS m JOIN channels AS c ON c.id = m.channel_id"
    f" WHERE (m.publisher = $1 OR {OWN_CHANNEL}) AND m.type NOT IN ('{ERASED_TYPE}', '{RESTRICTED_TYPE}')),"
    f" kept AS ({KEEP} SELECT $1, 'messages', to_jsonb(taken) FROM taken)"
    f" UPDATE messages AS m SET type = '{RESTRICTED_TYPE}', body = convert_to('\"data\":{{}}', 'UTF8'),"
    " publisher = '', key = NULL, idempotency_key = NULL, body_hash = NULL, trace = NULL"
    ' FROM taken WHERE m.channel_id = taken.channel_id AND m."offset" = taken."offset"',
    "ai_enhanced_sessions": f"WITH taken AS (DELETE FROM ai_enhanced_sessions WHERE {OWN_SESSIONS} RETURNING *)"
    f" {KEEP} SELECT $1, 'ai_enhanced_sessions', to_jsonb(taken) FROM taken",
    "specialist_coordination": f"WITH taken AS (DELETE FROM specialist_coordination WHERE {ABOUT_ANY} RETURNING *)"
    f" {KEEP} SELECT $1, 'specialist_coordination', to_jsonb(taken) FROM taken",
    "insights": FORGET_INSIGHTS,
}
RELEASE: Mapping[str, str] = {
    "messages": "UPDATE messages AS m SET type = r.type, body = r.body, publisher = r.publisher, key = r.key,"
    " idempotency_key = r.idempotency_key, body_hash = r.body_hash, trace = r.trace"
    " FROM (SELECT (jsonb_populate_record(NULL::messages, content)).* FROM restricted_rows"
    " WHERE name = $1 AND source = 'messages') AS r"
    ' WHERE m.channel_id = r.channel_id AND m."offset" = r."offset"'
    f" AND m.type = '{RESTRICTED_TYPE}'",
    "ai_enhanced_sessions": "INSERT INTO ai_enhanced_sessions"
    " SELECT (jsonb_populate_record(NULL::ai_enhanced_sessions, content)).* FROM restricted_rows"
    " WHERE name = $1 AND source = 'ai_enhanced_sessions'",
    "specialist_coordination": "INSERT INTO specialist_coordination"
    " SELECT (jsonb_populate_record(NULL::specialist_coordination, content)).* FROM restricted_rows"
    " WHERE name = $1 AND source = 'specialist_coordination'",
}
CORRECT = """
UPDATE messages AS m
SET body = $4, key = $5, body_hash = NULL, idempotency_key = NULL
FROM channels AS c
WHERE c.id = m.channel_id AND c.name = $2 AND m."offset" = $3 AND m.publisher = $1
RETURNING m.type
"""
# In this order, with $1 to $4 as above.
ERASURES: Mapping[str, str] = {
    "messages": f"UPDATE messages AS m SET type = '{ERASED_TYPE}', body = convert_to('\"data\":{{}}', 'UTF8'),"
    " publisher = '', key = NULL, idempotency_key = NULL, body_hash = NULL, trace = NULL"
    f" FROM channels AS c WHERE c.id = m.channel_id AND (m.publisher = $1 OR {OWN_CHANNEL})",
    # Whoever comes back to the old name finds a channel that holds nothing.
    "channels": "UPDATE channels AS c SET name = split_part(c.name, ':', 1) || ':erased-' || gen_random_uuid()"
    f" WHERE {OWN_CHANNEL}",
    "documents": "DELETE FROM documents WHERE publisher = $1",  # those of messages went with their messages
    "jobs": f"DELETE FROM jobs WHERE {ABOUT_JOB}",
    "refresh_tokens": "DELETE FROM refresh_tokens WHERE subject = $1",
    "authorization_codes": "DELETE FROM authorization_codes WHERE subject = $1",
    "webhook_deliveries": "DELETE FROM webhook_deliveries AS d USING webhooks AS w"
    " WHERE w.id = d.webhook_id AND w.owner = $1",
    "webhook_positions": "DELETE FROM webhook_positions AS p USING webhooks AS w"
    " WHERE w.id = p.webhook_id AND w.owner = $1",
    "webhooks": "DELETE FROM webhooks WHERE owner = $1",
    "api_keys": "DELETE FROM api_keys WHERE name = $1",
    "oauth_clients": "DELETE FROM oauth_clients WHERE client_id = $1",
    "recovery_codes": "DELETE FROM recovery_codes WHERE user_id = $2",
    "second_factors": "DELETE FROM second_factors WHERE user_id = $2",
    "specialist_coordination": f"DELETE FROM specialist_coordination WHERE {ABOUT_ANY}",
    "restricted_rows": "DELETE FROM restricted_rows WHERE name = $1",
    "restrictions": "DELETE FROM restrictions WHERE name = $1",
    "consents": "DELETE FROM consents WHERE name = $1",
    "risk_limits": "DELETE FROM risk_limits WHERE scope = 'ACCOUNT' AND name = $1",
    # A halt outlives whoever ordered it.
    "trading_states": "UPDATE trading_states SET actor = CASE WHEN actor = $1 THEN '' ELSE actor END,"
    " name = CASE WHEN scope = 'ACCOUNT' AND name = $1 THEN 'erased-' || gen_random_uuid() ELSE name END"
    " WHERE scope = 'ACCOUNT' AND name = $1 OR actor = $1",
    # What the law wants kept of them is held with the messages about them; the rows keep their places in the chain.
    "order_events": f"UPDATE order_events SET account = '', exec_id = sequence::text, body = 'null'"
    f" WHERE {OWN_ACCOUNT}",
    "order_names": f"DELETE FROM order_names WHERE {OWN_ACCOUNT}",
    "order_switches": f"DELETE FROM order_switches WHERE {OWN_ACCOUNT}",
    "orders": f"UPDATE orders SET account = '', open = false WHERE {OWN_ACCOUNT}",
    "strategy_runs": f"UPDATE strategy_runs SET started_by = CASE WHEN started_by = $1 THEN '' ELSE started_by END,"
    f" stopped_by = nullif(stopped_by, $1), account = CASE WHEN {OWN_ACCOUNT} THEN '' ELSE account END,"
    f" strategy_id = CASE WHEN {OWN_ACCOUNT} THEN '' ELSE strategy_id END,"
    f" run = CASE WHEN {OWN_ACCOUNT} THEN gen_random_uuid()::text ELSE run END"
    f" WHERE {OWN_ACCOUNT} OR $1 IN (started_by, stopped_by)",
    # Work goes on under no name; who said what goes.
    "coordination_records": f"UPDATE coordination_records SET body = krin_without(body, $1) WHERE {ABOUT_BODY}",
    "coordination_events": "UPDATE coordination_events SET actor = CASE WHEN actor = $1 THEN '' ELSE actor END,"
    f" body = krin_without(body, $1) WHERE actor = $1 OR {ABOUT_BODY}",
    # What the team has learned stays the team's.
    "knowledge_entries": "UPDATE knowledge_entries SET author = '' WHERE author = $1",
    "insights": FORGET_INSIGHTS,
    "insight_feedback": "DELETE FROM insight_feedback WHERE name = $1",
    "ai_enhanced_sessions": f"DELETE FROM ai_enhanced_sessions WHERE {OWN_SESSIONS}",
    "revocations": "DELETE FROM revocations WHERE kind = 'user' AND subject = $1",
    "users": "DELETE FROM users WHERE name = $1",
    "person_keys": "DELETE FROM person_keys WHERE name = $1",
}
# Pseudonyms, hashes and ciphertext only, or nothing about anybody.
IMPERSONAL = frozenset(
    {
        *("schema_migrations", "lineage", "audit_head", "day_keys", "legal_holds", "erasures", "shared_secrets"),
        *("risk_head", "order_engine", "coordination_term", "document_positions", "document_requests"),
        *("model_spending", "error_groups"),
    }
)
GROUND = "GDPR Art. 17(3)(b) and (e): a legal duty to keep records of orders, and legal claims"

PSEUDONYMS = """
SELECT pseudonym FROM person_keys WHERE name = $1 UNION ALL SELECT krin_pseudonym(key, $1) FROM day_keys
"""
HELD = f"""
SELECT m.channel_id, m."offset", c.name, m.timestamp_ms, m.type, m.publisher, m.key, m.body
FROM messages AS m JOIN channels AS c ON c.id = m.channel_id
WHERE (m.publisher = $1 OR {OWN_CHANNEL}) AND split_part(c.name, ':', 1) = ANY ($5) AND m.type <> '{ERASED_TYPE}'
"""
KNOWN = """
SELECT name, max(since) FROM (
    SELECT name, created_at AS since FROM users
    UNION ALL SELECT client_id, created_at FROM oauth_clients
    UNION ALL SELECT name, NULL FROM person_keys
    UNION ALL SELECT name, NULL FROM api_keys
    UNION ALL SELECT owner, NULL FROM webhooks
    UNION ALL SELECT subject, NULL FROM refresh_tokens
    UNION ALL SELECT subject, NULL FROM authorization_codes
    UNION ALL SELECT name, NULL FROM consents
    UNION ALL SELECT name, NULL FROM risk_limits WHERE scope = 'ACCOUNT'
    UNION ALL SELECT name, NULL FROM trading_states WHERE scope = 'ACCOUNT'
    UNION ALL SELECT actor, NULL FROM trading_states
    UNION ALL SELECT DISTINCT account, NULL::timestamptz FROM orders
    UNION ALL SELECT unnest(ARRAY[account, started_by, stopped_by]), NULL FROM strategy_runs
    UNION ALL SELECT author, NULL FROM knowledge_entries
    UNION ALL SELECT unnest(authors), NULL FROM insights
    UNION ALL SELECT name, NULL FROM insight_feedback
    UNION ALL SELECT subject, NULL FROM revocations WHERE kind = 'user'
    UNION ALL SELECT DISTINCT publisher, NULL::timestamptz FROM messages
    UNION ALL SELECT substr(name, strpos(name, ':') + 1), NULL FROM channels
) AS known (name, since) WHERE name <> '' GROUP BY name
"""
BATCH = 100

Seal = Callable[[bytes, bytes], bytes]
"""(record, owner) -> ciphertext."""

Kind = Literal["export", "erase", "restrict", "correct"]


class Kept(msgspec.Struct, frozen=True):
    """Records that a duty to keep covers: from which namespace, how many, until when the last of them is held."""

    namespace: str
    rows: int
    hold_until: date
    ground: str = GROUND


class Erasure(msgspec.Struct, frozen=True):
    """What an erasure did: rows by table, and what must be kept. `person` is the pseudonym that remains."""

    request: UUID
    person: str
    deleted: dict[str, int]
    kept: list[Kept]


class Request(msgspec.Struct, frozen=True):
    id: UUID
    person: str
    kind: Kind
    requested_at: datetime
    confirm_by: datetime
    due_at: datetime
    completed_at: datetime | None


class _Person(NamedTuple):
    """What the statements above are given."""

    name: str
    user_id: UUID | None
    pseudonyms: list[str]
    own: list[str]


class Privacy:
    def __init__(self, db: Database, *, seal: Seal, own: Iterable[str], hold_days: Mapping[str, int]) -> None:
        """`own`: namespaces whose channels carry their owner's name. `hold_days`: for how many days the records of a
        namespace must be kept, counted from each record."""
        self._db = db
        self._seal = seal
        self._own = list(own)
        self._hold_days = hold_days

    async def begin(self, name: str, kind: Kind, *, now: datetime) -> UUID:
        """Note a request and when it is due."""
        async with self._db.connection() as connection, connection.transaction():
            person = await connection.fetchval("SELECT person_pseudonym($1)", name)
            request: UUID = await connection.fetchval(
                "INSERT INTO privacy_requests (person, kind, requested_at, confirm_by, due_at)"
                " VALUES ($1, $2, $3::timestamptz, $4, $3::timestamptz + interval '1 month') RETURNING id",
                *(person, kind, now, business_days(now, 10)),
            )
            return request

    async def requests(self, *, open_only: bool = False) -> list[Request]:
        """By the date on which they are due."""
        query = (
            "SELECT id, person, kind, requested_at, confirm_by, due_at, completed_at FROM privacy_requests"
            " WHERE completed_at IS NULL OR NOT $1 ORDER BY due_at"
        )
        return [Request(*row) for row in await self._db.fetch(query, open_only)]

    @asynccontextmanager
    async def export(
        self, name: str, request: UUID, *, by: str, now: datetime
    ) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """(table, row as JSON) for everything about a person as of one moment, table by table, read as it is taken."""
        async with self._db.session() as session:
            async with session.transaction():
                await session.execute("UPDATE privacy_requests SET completed_at = $2 WHERE id = $1", request, now)
                await audit.append(session, AuditEntry(event="sensitive_read", actor=by, target=name))
            async with session.transaction(isolation="repeatable_read", readonly=True):
                yield _exported(session, await self._person(session, name))

    async def erase(self, name: str, request: UUID, person_hash: bytes, *, by: str, now: datetime) -> Erasure:
        """Delete or unlink everything about a person in one transaction, and destroy the person's key.

        Messages of durable channels keep their offset, their place and their time, and lose everything else.
        """
        async with self._db.session() as session, session.transaction():
            # Whoever coordinates has the name in memory, and would write it again. First of all, as its commits do.
            await session.execute("UPDATE coordination_term SET epoch = epoch + 1")
            pseudonym = await session.fetchval("SELECT person_pseudonym($1)", name)
            person = await self._person(session, name)
            await self._release(session, person)  # also what is restricted may have to be kept
            kept = await self._hold(session, person, pseudonym)
            deleted: dict[str, int] = {}
            for table, statement in ERASURES.items():
                if table == "ai_enhanced_sessions":  # from here on nobody keeps one for the name
                    await revocations.record(session, erasing(name, now=now))
                if table == "person_keys":  # the last thing that can tell whose rows these are
                    detail = {"request": str(request), "rows": sum(deleted.values()), "kept": sum(k.rows for k in kept)}
                    entry = AuditEntry(event="personal_data_erased", actor=by, target=name, detail=detail)
                    await audit.append(session, entry)
                query, given = _bound(statement, person)
                deleted[table] = int((await session.execute(query, *given)).rpartition(" ")[2])
            erasure = Erasure(request, pseudonym, {table: rows for table, rows in deleted.items() if rows}, kept)
            await session.execute(
                "UPDATE privacy_requests SET completed_at = $2, outcome = $3 WHERE id = $1",
                *(request, now, msgspec.json.encode(erasure).decode()),
            )
            await session.execute(
                "INSERT INTO erasures VALUES ($1, $2) ON CONFLICT (person_hash) DO UPDATE SET erased_at = $2",
                *(person_hash, now),
            )
        return erasure

    async def restrict(self, name: str, request: UUID, *, by: str, now: datetime) -> dict[str, int]:
        """Take what is stored about a person out of everybody's sight; answer the rows by table.

        What has been added since an earlier restriction goes with it.
        """
        async with self._db.session() as session, session.transaction():
            person = await self._person(session, name)
            await session.execute("INSERT INTO restrictions VALUES ($1, $2) ON CONFLICT DO NOTHING", name, now)
            rows = await _each(session, RESTRICT, person)
            await revocations.record(session, revocations.changed(name, now=now))
            await session.execute("UPDATE privacy_requests SET completed_at = $2 WHERE id = $1", request, now)
            await audit.append(
                session,
                AuditEntry(
                    event="personal_data_restricted", actor=by, target=name, detail={"rows": sum(rows.values())}
                ),
            )
        return rows

    async def release(self, name: str, *, by: str, now: datetime) -> dict[str, int]:
        """End a restriction: what is still there of the rows' places gets its rows back. Raises `NotFound`."""
        async with self._db.session() as session, session.transaction():
            if not await session.fetchval("SELECT true FROM restrictions WHERE name = $1", name):
                raise NotFound(f"Nothing of {name} is restricted.")
            rows = await self._release(session, await self._person(session, name))
            await revocations.record(session, revocations.changed(name, now=now))
            await audit.append(
                session,
                AuditEntry(event="personal_data_released", actor=by, target=name, detail={"rows": sum(rows.values())}),
            )
        return rows

    async def restricted(self, name: str, *, by: str, reason: str) -> list[tuple[str, bytes]]:
        """(table, row as JSON) of what is restricted of a person. Looking is audited, with the reason."""
        async with self._db.connection() as connection, connection.transaction():
            query = f"SELECT source, content::text FROM ({RESTRICTED_ROWS}) AS r"
            rows = await connection.fetch(query, name)
            detail = {"reason": reason, "rows": len(rows)}
            await audit.append(connection, AuditEntry(event="sensitive_read", actor=by, target=name, detail=detail))
            return [(row[0], row[1].encode()) for row in rows]

    async def published(self, name: str, channel: str, offset: int) -> tuple[str, bytes]:
        """(type, body) of a message that this person has published. Raises `NotFound`."""
        row = await self._db.fetch_row(
            "SELECT m.type, m.body FROM messages AS m JOIN channels AS c ON c.id = m.channel_id"
            ' WHERE m.publisher = $1 AND c.name = $2 AND m."offset" = $3',
            *(name, channel, offset),
        )
        if row is None:
            raise NotFound(f"{name} has published no such message.")
        return row[0], row[1]

    async def correct(
        self,
        name: str,
        request: UUID,
        channel: str,
        offset: int,
        body: bytes,
        key: str | None,
        *,
        by: str,
        now: datetime,
    ) -> None:
        """Another body and key for a message that this person has published. Raises `NotFound`."""
        async with self._db.session() as session, session.transaction():
            if not await session.fetchval(CORRECT, name, channel, offset, body, key):
                raise NotFound(f"{name} has published no such message.")
            await revocations.record(session, revocations.changed(name, now=now))
            await session.execute("UPDATE privacy_requests SET completed_at = $2 WHERE id = $1", request, now)
            detail = {"channel": channel, "offset": offset}
            entry = AuditEntry(event="personal_data_corrected", actor=by, target=name, detail=detail)
            await audit.append(session, entry)

    async def _release(self, session: Any, person: _Person) -> dict[str, int]:
        rows = await _each(session, RELEASE, person)
        await session.execute("DELETE FROM restrictions WHERE name = $1", person.name)
        return rows

    async def _person(self, session: Any, name: str) -> _Person:
        user_id = await session.fetchval("SELECT id FROM users WHERE name = $1", name)
        pseudonyms = [row[0] for row in await session.fetch(PSEUDONYMS, name)]
        return _Person(name, user_id, pseudonyms, self._own)

    async def _hold(self, session: Any, person: _Person, pseudonym: str) -> list[Kept]:
        """Move the person's records of the namespaces under a duty to keep out of their channels, encrypted."""
        kept: dict[str, Kept] = {}
        batch: list[tuple[Any, ...]] = []
        query, given = _bound(HELD, person, list(self._hold_days))
        async for row in session.cursor(query, *given, prefetch=BATCH):
            namespace = row["name"].partition(":")[0]
            at = datetime.fromtimestamp(row["timestamp_ms"] / 1000, UTC).date()
            until = at + timedelta(days=self._hold_days[namespace])
            record = msgspec.json.encode(
                {
                    **{field: row[field] for field in ("name", "offset", "timestamp_ms", "type", "publisher", "key")},
                    "body": row["body"].decode(),
                }
            )
            sealed = self._seal(record, pseudonym.encode())
            batch.append((pseudonym, namespace, row["timestamp_ms"], sealed, until))
            before = kept.get(namespace)
            last = max(until, before.hold_until) if before else until
            kept[namespace] = Kept(namespace, (before.rows if before else 0) + 1, last)
            if len(batch) == BATCH:
                await session.executemany(INSERT_HOLD, batch)
                batch.clear()
        await session.executemany(INSERT_HOLD, batch)
        return list(kept.values())

    async def erased(self) -> set[bytes]:
        """The hashes of those who were erased from this database."""
        return {row[0] for row in await self._db.fetch("SELECT person_hash FROM erasures")}

    async def note_erased(self, person_hash: bytes, at: datetime) -> None:
        """Somebody of the hub's list of whom nothing is left here."""
        await self._db.execute("INSERT INTO erasures VALUES ($1, $2) ON CONFLICT DO NOTHING", person_hash, at)

    async def known_names(self) -> AsyncIterator[tuple[str, datetime | None]]:
        """Every name that anything is stored under, and since when there is a user of that name."""
        async with self._db.session() as session, session.transaction(readonly=True):
            async for row in session.cursor(KNOWN, prefetch=BATCH):
                yield row[0], row[1]

    async def holds(self, person: str, *, by: str, reason: str) -> list[tuple[date, bytes]]:
        """The sealed records kept of an erased person and until when. Looking is audited, with the reason."""
        async with self._db.connection() as connection, connection.transaction():
            rows = await connection.fetch(
                "SELECT hold_until, record FROM legal_holds WHERE person = $1 ORDER BY timestamp_ms, id", person
            )
            detail = {"reason": reason, "rows": len(rows)}
            await audit.append(connection, AuditEntry(event="sensitive_read", actor=by, target=person, detail=detail))
            return [tuple(row) for row in rows]


INSERT_HOLD = (
    "INSERT INTO legal_holds (person, namespace, timestamp_ms, record, hold_until) VALUES ($1, $2, $3, $4, $5)"
)


async def _each(session: Any, statements: Mapping[str, str], person: _Person) -> dict[str, int]:
    """Run them in their order; answer the rows by table, where there were any."""
    rows = {}
    for table, statement in statements.items():
        query, given = _bound(statement, person)
        if count := int((await session.execute(query, *given)).rpartition(" ")[2]):
            rows[table] = count
    return rows


async def _exported(session: Any, person: _Person) -> AsyncIterator[tuple[str, bytes]]:
    for table, statement in EXPORTS.items():
        query, given = _bound(statement, person)
        async for row in session.cursor(f"SELECT row_to_json(f)::text FROM ({query}) AS f", *given, prefetch=BATCH):
            yield table, row[0].encode()


def _bound(statement: str, person: _Person, *more: Any) -> tuple[str, list[Any]]:
    """A statement of the tables above and its arguments: Postgres wants no more of them than it uses."""
    query, given = statement, []
    for number, value in enumerate((*person, *more), start=1):
        if f"${number}" in query:
            given.append(value)
            query = query.replace(f"${number}", f"${len(given)}")
    return query, given


def business_days(start: datetime, count: int) -> datetime:
    """That many days from Monday to Friday later; holidays, which differ by place, make it no longer."""
    day = start
    while count:
        day += timedelta(days=1)
        count -= day.weekday() < 5
    return day
