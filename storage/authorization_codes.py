"""Authorization codes: each works once, and only as a hash it is here."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from storage import audit
from storage.audit import AuditEntry
from storage.database import Database
from storage.users import Consumed, SignIn

KEPT = timedelta(days=1)  # after its end, so that a second use is noticed


class AuthorizationCode(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody (`subject`) allowed an application: the sign-in that its tokens will descend from."""

    sign_in: SignIn
    subject: str
    redirect_uri: str
    challenge: str
    expires_at: datetime


class AuthorizationCodes:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def store(self, code_hash: bytes, code: AuthorizationCode, *, now: datetime) -> None:
        """Also forgets codes of long ago."""
        sign_in = code.sign_in
        async with self._db.connection() as connection, connection.transaction():
            await connection.execute("DELETE FROM authorization_codes WHERE expires_at < $1", now - KEPT)
            await connection.execute(
                "INSERT INTO authorization_codes (code_hash, family, amr, auth_time, client_id, scope, jkt, subject,"
                " redirect_uri, challenge, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                *(code_hash, sign_in.family, sign_in.amr, sign_in.auth_time, sign_in.client_id, sign_in.scope),
                *(sign_in.jkt, code.subject, code.redirect_uri, code.challenge, code.expires_at),
            )
            detail = {"client": sign_in.client_id, "scope": sign_in.scope}
            entry = AuditEntry(event="authorization_granted", actor=code.subject, target=code.subject, detail=detail)
            await audit.append(connection, entry)

    async def consume(self, code_hash: bytes, *, now: datetime) -> tuple[Consumed, AuthorizationCode | None]:
        """Use a code up. What it stands for comes with FRESH and REUSED, else None.

        Of two who present the same code at once exactly one gets FRESH.
        """
        async with self._db.connection() as connection, connection.transaction():
            row = await connection.fetchrow(
                "SELECT family, amr, auth_time, client_id, scope, jkt, subject, redirect_uri, challenge, expires_at,"
                " used_at FROM authorization_codes WHERE code_hash = $1 FOR UPDATE",
                code_hash,
            )
            if row is None:
                return Consumed.INVALID, None
            code = AuthorizationCode(
                sign_in=SignIn(**{field: row[field] for field in SignIn.__struct_fields__}),
                subject=row["subject"],
                redirect_uri=row["redirect_uri"],
                challenge=row["challenge"],
                expires_at=row["expires_at"],
            )
            if row["used_at"] is not None:
                return Consumed.REUSED, code
            if row["expires_at"] <= now:
                return Consumed.INVALID, None
            await connection.execute("UPDATE authorization_codes SET used_at = $2 WHERE code_hash = $1", code_hash, now)
            return Consumed.FRESH, code
