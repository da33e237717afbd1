"""Second factors of users: the secret of an authenticator app, and recovery codes.

Rules: secrets arrive encrypted and codes hashed; both are the caller's work. Each change is audited in its own
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

import msgspec

from storage import audit, revocations
from storage.audit import HUB, AuditEntry
from storage.database import Database
from storage.errors import NotFound
from storage.users import User

T = TypeVar("T")
FACTOR = "user_id, secret, confirmed_at, last_step, tries, tries_since"


class SecondFactor(msgspec.Struct, frozen=True):
    """`last_step`: the newest time step whose code was used. `tries`: failed ones since `tries_since`."""

    user_id: UUID
    secret: bytes
    confirmed_at: datetime | None
    last_step: int
    tries: int
    tries_since: datetime


class SecondFactors:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(self, user: User, secret: bytes, *, now: datetime) -> bool:
        """Keep a secret until it is confirmed; one that was never confirmed makes way. False: one is confirmed."""
        query = (
            "INSERT INTO second_factors (user_id, secret, tries_since) VALUES ($1, $2, $3)"
            " ON CONFLICT (user_id) DO UPDATE SET secret = $2 WHERE second_factors.confirmed_at IS NULL"
            " RETURNING true"
        )
        return bool(await self._db.fetch_value(query, user.id, secret, now))

    async def get(self, user: User) -> SecondFactor | None:
        row = await self._db.fetch_row(f"SELECT {FACTOR} FROM second_factors WHERE user_id = $1", user.id)
        return SecondFactor(*row) if row else None

    async def attempt(self, user: User, decide: Callable[[SecondFactor], tuple[SecondFactor, T]]) -> T:
        """Decide about a code while nobody else can, on any node; keep what the factor becomes and answer the rest.

        `decide` must be quick: it runs under the row's lock. Raises `NotFound`.
        """
        async with self._db.connection() as connection, connection.transaction():
            row = await connection.fetchrow(
                f"SELECT {FACTOR} FROM second_factors WHERE user_id = $1 FOR UPDATE", user.id
            )
            if row is None:
                raise NotFound(f"The user {user.name} has no second factor.")
            after, answer = decide(SecondFactor(*row))
            await connection.execute(
                "UPDATE second_factors SET last_step = $2, tries = $3, tries_since = $4 WHERE user_id = $1",
                *(user.id, after.last_step, after.tries, after.tries_since),
            )
            return answer

    async def confirm(
        self, user: User, code_hashes: Sequence[bytes], *, now: datetime, spared: str = "", by: str = HUB
    ) -> bool:
        """The enrolment is complete, with these recovery codes; every session of the user but `spared` ends.

        False: it was complete already, or was never begun.
        """
        async with self._db.connection() as connection, connection.transaction():
            query = (
                "UPDATE second_factors SET confirmed_at = $2 WHERE user_id = $1 AND confirmed_at IS NULL RETURNING true"
            )
            if not await connection.fetchval(query, user.id, now):
                return False
            await connection.execute(ADD_CODES, user.id, [*code_hashes])
            await _end_sessions(connection, user, now=now, spared=spared)
            await _audit(connection, user, "second_factor_added", by)
            return True

    async def remove(self, user: User, *, now: datetime, spared: str = "", by: str = HUB) -> bool:
        """With its recovery codes; every session of the user but `spared` ends. False: there was none."""
        async with self._db.connection() as connection, connection.transaction():
            query = "DELETE FROM second_factors WHERE user_id = $1 RETURNING true"
            if not await connection.fetchval(query, user.id):
                return False
            await _end_sessions(connection, user, now=now, spared=spared)
            await _audit(connection, user, "second_factor_removed", by)
            return True

    async def replace_recovery_codes(self, user: User, code_hashes: Sequence[bytes], *, by: str = HUB) -> None:
        async with self._db.connection() as connection, connection.transaction():
            await connection.execute("DELETE FROM recovery_codes WHERE user_id = $1", user.id)
            await connection.execute(ADD_CODES, user.id, [*code_hashes])
            await _audit(connection, user, "recovery_codes_replaced", by)

    async def use_recovery_code(self, user: User, code_hash: bytes, *, now: datetime) -> bool:
        """Of two who present the same code at once exactly one is told True."""
        query = (
            "UPDATE recovery_codes SET used_at = $3 WHERE user_id = $1 AND code_hash = $2 AND used_at IS NULL"
            " RETURNING true"
        )
        async with self._db.connection() as connection, connection.transaction():
            if not await connection.fetchval(query, user.id, code_hash, now):
                return False
            await _audit(connection, user, "recovery_code_used", user.name, severity="WARN")
            return True

    async def recovery_codes_left(self, user: User) -> int:
        query = "SELECT count(*) FROM recovery_codes WHERE user_id = $1 AND used_at IS NULL"
        return int(await self._db.fetch_value(query, user.id))


ADD_CODES = "INSERT INTO recovery_codes (user_id, code_hash) SELECT $1, unnest($2::bytea[])"


async def _end_sessions(connection: Any, user: User, *, now: datetime, spared: str) -> None:
    if not user.disabled:  # those have ended, and for good
        await revocations.record(connection, revocations.ending(user.name, now=now, spared=spared))
        await revocations.end_sign_ins(connection, user.name, now=now, spared=spared)


async def _audit(
    connection: Any, user: User, change: str, by: str, *, severity: Literal["INFO", "WARN"] = "INFO"
) -> None:
    entry = AuditEntry(event="user_updated", actor=by, target=user.name, detail={"change": change}, severity=severity)
    await audit.append(connection, entry)
