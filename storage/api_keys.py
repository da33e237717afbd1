"""API keys. Rules as in storage/users.py: only hashes are here, and each change is audited in its transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from storage import audit, revocations
from storage.audit import HUB, AuditEntry
from storage.database import Database
from storage.errors import NotFound

API_KEY = "id, name, roles, teams, grants::text, created_at, expires_at, revoked_at"


class ApiKey(msgspec.Struct, frozen=True):
    """`name` is whom the key speaks for."""

    id: str
    name: str
    roles: list[str]
    teams: list[str]
    grants: dict[str, Any]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


class ApiKeyTable:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(
        self,
        id: str,
        *,
        key_hash: bytes,
        name: str,
        roles: Sequence[str],
        teams: Sequence[str],
        grants: Mapping[str, Any],
        created_at: datetime,
        expires_at: datetime,
        by: str = HUB,
    ) -> None:
        async with self._db.connection() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO api_keys (id, key_hash, name, roles, teams, grants, created_at, expires_at)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                *(id, key_hash, name, list(roles), list(teams), msgspec.json.encode(grants).decode()),
                *(created_at, expires_at),
            )
            detail = {"key": id, "roles": list(roles), "teams": list(teams)}
            await audit.append(connection, AuditEntry(event="api_key_created", actor=by, target=name, detail=detail))

    async def get(self, key_hash: bytes) -> ApiKey | None:
        row = await self._db.fetch_row(f"SELECT {API_KEY} FROM api_keys WHERE key_hash = $1", key_hash)
        return _api_key(row) if row else None

    async def list(self) -> Sequence[ApiKey]:
        """All of them, also those that have ended, by name and age."""
        rows = await self._db.fetch(f"SELECT {API_KEY} FROM api_keys ORDER BY name, created_at, id")
        return [_api_key(row) for row in rows]

    async def revoke(self, id: str, *, now: datetime, by: str = HUB) -> None:
        """Raises `NotFound` if there is no such key, or it is revoked already."""
        async with self._db.connection() as connection, connection.transaction():
            row = await connection.fetchrow(
                "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING name, expires_at",
                *(id, now),
            )
            if row is None:
                raise NotFound(f"There is no API key {id} that could be revoked.")
            await revocations.record(connection, revocations.ending_token(id, expires_at=row["expires_at"]))
            entry = AuditEntry(event="api_key_revoked", actor=by, target=row["name"], detail={"key": id})
            await audit.append(connection, entry)


def _api_key(row: Any) -> ApiKey:
    id, name, roles, teams, grants, *times = row
    return ApiKey(id, name, roles, teams, msgspec.json.decode(grants, type=dict[str, Any]), *times)
