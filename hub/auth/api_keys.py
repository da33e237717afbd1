"""API keys: what an agent shows in place of an access token, for weeks and not for minutes.

A key is told from a token by its prefix, by us and by those who search leaked text for secrets.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

import msgspec

from hub.auth.tokens import Claims, check_local
from hub.caller import Grant
from hub.clock import Clock
from protocol.errors import ErrorCode, HubError
from storage.api_keys import ApiKey, ApiKeyTable
from storage.errors import Rejected, StorageError

PREFIX = "krin_ak_"
KEY_BYTES = 32
KEY_LENGTH = len(PREFIX) + 43
MAX_TTL_S = 366 * 24 * 3600
REMEMBER_S = 5.0
MAX_REMEMBERED = 1024


class ApiKeys:
    """Makes keys and knows them again: from memory for a few seconds, else from Postgres."""

    def __init__(self, table: ApiKeyTable, *, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._remembered: dict[bytes, tuple[ApiKey, float]] = {}  # until when, on the monotonic clock

    async def create(
        self, name: str, *, roles: list[str], teams: list[str], grant: Grant, ttl_s: int
    ) -> tuple[str, str]:
        """A new key that speaks for `name`: (id, key). The key is told only here. Raises HubError(bad_request)."""
        check_local(name)
        if not 0 < ttl_s <= MAX_TTL_S:
            raise HubError(ErrorCode.BAD_REQUEST, f"a key lives for {MAX_TTL_S // 86_400} days at most")
        id, key = secrets.token_hex(6), PREFIX + secrets.token_urlsafe(KEY_BYTES)
        now = self._now()
        await self._table.create(
            id,
            key_hash=_hash(key),
            name=name,
            roles=roles,
            teams=teams,
            grants=msgspec.to_builtins(grant),
            created_at=now,
            expires_at=now + timedelta(seconds=ttl_s),
        )
        return id, key

    async def authenticate(self, key: str) -> Claims:
        """Raises HubError(token_invalid, token_expired, not_available); the text never quotes the key."""
        found = await self._find(key) if len(key) == KEY_LENGTH else None
        if found is None or found.revoked_at is not None:
            raise HubError(ErrorCode.TOKEN_INVALID, "the key is not valid here")
        if found.expires_at <= self._now():
            raise HubError(ErrorCode.TOKEN_EXPIRED, "the key has expired")
        return Claims(
            sub=found.name,
            iat=int(found.created_at.timestamp()),
            iat_ms=int(found.created_at.timestamp() * 1000),
            exp=int(found.expires_at.timestamp()),
            jti=found.id,
            roles=frozenset(found.roles),
            teams=frozenset(found.teams),
            grant=msgspec.convert(found.grants, Grant),
            principal="machine",
        )

    async def revoke(self, id: str) -> None:
        """Raises storage.errors.NotFound."""
        await self._table.revoke(id, now=self._now())
        self._remembered = {digest: kept for digest, kept in self._remembered.items() if kept[0].id != id}

    async def _find(self, key: str) -> ApiKey | None:
        digest = _hash(key)
        kept = self._remembered.get(digest)
        if kept is not None and self._clock.monotonic() < kept[1]:
            return kept[0]
        try:
            found = await self._table.get(digest)
        except Rejected:
            return None
        except StorageError as failure:
            raise HubError(
                ErrorCode.NOT_AVAILABLE, "no key can be looked up right now", retry_after_ms=1000
            ) from failure
        if found is not None:  # unknown ones are not kept: anybody can make any number of them
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[digest] = found, self._clock.monotonic() + REMEMBER_S
        return found

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
