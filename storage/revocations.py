"""What was taken back: tokens that count no more, and tokens that count for something else.

Rule: a change that takes something away and its revocation are one transaction; `record` joins the change's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from storage import audit
from storage.audit import HUB, AuditEntry
from storage.database import Database

Kind = Literal["user", "sign_in", "token", "erased", "changed"]
"""What a revocation is about: everything that speaks for a name, one sign-in, one token or API key by its id, or what
spoke for a name of which only `erased_mark` is left. "changed" takes nothing away: what nodes hold in memory of
the name with this mark they have to read anew."""

LONGEST_TOKEN = timedelta(days=366)  # none that lives longer is accepted, so a revocation need not be kept for longer
ALWAYS_MS = 2**53 - 1  # `before_ms` that every token is issued before
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
# A sign-in under way has read the rights it will put into its token: what is taken now must reach that token, too.
UNDER_WAY_MS = 2_000
# A token that is about to be signed may come after the end of its sign-in: those of just now end by name, too.
JUST_NOW = timedelta(seconds=10)
KEPT = timedelta(days=1)  # longer than any access token of a sign-in
PAGE = 10_000

LOCK = 0x72766B65  # "rvke"
COLUMNS = "number, kind, subject, before_ms, rights::text, spared, expires_at"
HISTORY = """
SELECT pg_postmaster_start_time(), (SELECT oid FROM pg_database WHERE datname = current_database()),
    pg_relation_filenode('revocations')
"""


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of `subject` issued before `before_ms` (milliseconds since 1970) are worth `rights`, which replace what
    they say themselves; None: nothing. `spared` is the one sign-in or token that is not meant."""

    number: int = 0  # given by the table
    kind: Kind
    subject: str
    before_ms: int
    rights: dict[str, Any] | None = None
    spared: str = ""
    expires_at: datetime


class History(NamedTuple):
    """What a number means something within. Whoever puts an older state of the table back restarts the server, makes
    the database anew, or gives the table another file; then numbers may be given out again."""

    server_started_at: datetime
    database: int
    file: int


async def hold(connection: Any) -> None:
    """Let nothing be revoked until this transaction ends: what it looks at then stays true."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", LOCK)


async def record(connection: Any, revocation: Revocation) -> int:
    """Write one with this connection, within its transaction, in the place of an earlier one to the same effect.

    Before the change itself where that ends sign-ins: from here on none of them can be prolonged (see `hold`).
    """
    await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
    await connection.execute(
        "DELETE FROM revocations WHERE kind = $1 AND subject = $2 AND (rights IS NULL) = $3",
        *(revocation.kind, revocation.subject, revocation.rights is None),
    )
    number: int = await connection.fetchval(
        "INSERT INTO revocations (kind, subject, before_ms, rights, spared, expires_at)"
        " VALUES ($1, $2, $3, $4::text::jsonb, $5, $6) RETURNING number",
        *(revocation.kind, revocation.subject, revocation.before_ms, _json(revocation.rights), revocation.spared),
        revocation.expires_at,
    )
    return number


async def end_sign_ins(connection: Any, name: str, *, now: datetime, spared: str = "") -> None:
    """End the refresh tokens of a name but those of one sign-in, after `record` and within the same transaction."""
    ended = await connection.fetch(
        "UPDATE refresh_tokens SET revoked_at = $2 WHERE subject = $1 AND revoked_at IS NULL AND family::text <> $3"
        " RETURNING family::text, created_at > now() - $4::interval OR auth_time > $5",
        *(name, now, spared, JUST_NOW, int((now - JUST_NOW).timestamp())),
    )
    for family in sorted({family for family, just_now in ended if just_now}):
        await record(
            connection,
            Revocation(kind="sign_in", subject=family, before_ms=ALWAYS_MS, expires_at=now + KEPT),
        )


class Revocations:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def history(self) -> History:
        [row] = await self._db.fetch(HISTORY)
        return History(*row)

    async def after(self, number: int, *, now: datetime) -> list[Revocation]:
        """Those that came after `number` and still matter, in order; a page of them."""
        rows = await self._db.fetch(
            f"SELECT {COLUMNS} FROM revocations WHERE number > $1 AND expires_at > $2 ORDER BY number LIMIT {PAGE}",
            *(number, now),
        )
        return [_revocation(row) for row in rows]

    async def end_user(self, name: str, *, now: datetime, spared: str = "", by: str = HUB) -> None:
        """Every token of this name issued until now, but those of one sign-in or one token, counts no more."""
        async with self._db.connection() as connection, connection.transaction():
            await record(connection, ending(name, now=now, spared=spared))
            await end_sign_ins(connection, name, now=now, spared=spared)
            await _audit(connection, "user", name, by)

    async def end_sign_in(self, sid: str, *, now: datetime, lifetime: timedelta, by: str = HUB) -> None:
        """`lifetime`: of the access tokens of a sign-in."""
        async with self._db.connection() as connection, connection.transaction():
            await record(
                connection, Revocation(kind="sign_in", subject=sid, before_ms=ALWAYS_MS, expires_at=now + lifetime)
            )
            query = "UPDATE refresh_tokens SET revoked_at = $1 WHERE revoked_at IS NULL AND family::text = $2"
            await connection.execute(query, now, sid)
            await _audit(connection, "sign_in", sid, by)

    async def end_token(self, jti: str, *, expires_at: datetime, by: str = HUB) -> None:
        async with self._db.connection() as connection, connection.transaction():
            await record(connection, ending_token(jti, expires_at=expires_at))
            await _audit(connection, "token", jti, by)

    async def block(self, name: str, blocked: bool, *, now: datetime, by: str = HUB) -> None:
        """For a name that is no user's: nothing signed for it counts, until it is allowed again."""
        entry = AuditEntry(event="user_updated", actor=by, target=name, detail={"disabled": blocked})
        async with self._db.connection() as connection, connection.transaction():
            await record(connection, disabling(name, blocked, now=now))
            await audit.append(connection, entry)

    async def change_rights(self, name: str, rights: Mapping[str, Any], *, now: datetime, by: str = HUB) -> None:
        """For a name that is no user's: what tokens issued until now are worth."""
        entry = AuditEntry(
            event="privilege_permissions_changed",
            actor=by,
            target=name,
            detail={field: rights[field] for field in ("roles", "teams") if field in rights},
        )
        async with self._db.connection() as connection, connection.transaction():
            await record(connection, changing(name, rights, now=now))
            await audit.append(connection, entry)

    async def sweep(self, *, now: datetime) -> int:
        """Forget what no token can be meant by any more; answer how many."""
        return int((await self._db.execute("DELETE FROM revocations WHERE expires_at <= $1", now)).split()[-1])


async def _audit(connection: Any, kind: Kind, subject: str, by: str) -> None:
    entry = AuditEntry(event="authn_token_revoked", actor=by, target=subject, detail={"of": kind})
    await audit.append(connection, entry)


def ending(name: str, *, now: datetime, spared: str = "") -> Revocation:
    return Revocation(kind="user", subject=name, before_ms=_ms(now), spared=spared, expires_at=now + LONGEST_TOKEN)


def ending_token(jti: str, *, expires_at: datetime) -> Revocation:
    return Revocation(kind="token", subject=jti, before_ms=ALWAYS_MS, expires_at=expires_at)


def erasing(name: str, *, now: datetime) -> Revocation:
    return Revocation(kind="erased", subject=erased_mark(name), before_ms=_ms(now), expires_at=now + LONGEST_TOKEN)


def changed(name: str, *, now: datetime) -> Revocation:
    return Revocation(kind="changed", subject=erased_mark(name), before_ms=0, expires_at=now + KEPT)


def erased_mark(name: str) -> str:
    return hashlib.sha256(f"krin erased {name}".encode()).hexdigest()


def disabling(name: str, disabled: bool, *, now: datetime) -> Revocation:
    """Void is every token, of the past and to come; after enabling only those of the past."""
    return Revocation(
        kind="user",
        subject=name,
        before_ms=ALWAYS_MS if disabled else _ms(now),
        expires_at=FOREVER if disabled else now + LONGEST_TOKEN,
    )


def changing(name: str, rights: Mapping[str, Any], *, now: datetime) -> Revocation:
    return Revocation(
        kind="user",
        subject=name,
        before_ms=_ms(now) + UNDER_WAY_MS,
        rights=dict(rights),
        expires_at=now + LONGEST_TOKEN,
    )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _revocation(row: Any) -> Revocation:
    rights = None if row[4] is None else msgspec.json.decode(row[4], type=dict[str, Any])
    return Revocation(
        number=row[0],
        kind=row[1],
        subject=row[2],
        before_ms=row[3],
        rights=rights,
        spared=row[5],
        expires_at=row[6],
    )
