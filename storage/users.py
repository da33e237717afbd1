"""Who may come in: users, machine clients, and the refresh tokens they hold.

Rules: a secret is never here, only its hash; hashing is the caller's work. Each change is audited in its transaction;
`by` is the name of who asked for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import msgspec

from storage import audit, revocations
from storage.audit import HUB, AuditEntry
from storage.database import Database
from storage.errors import Conflict, NotFound
from storage.revocations import Revocation

USER = "id, name, password_hash, roles, grants::text, teams, tenant, disabled, created_at"
CLIENT = "client_id, secret_hash, roles, teams, redirect_uris, disabled, created_at"


class User(msgspec.Struct, frozen=True):
    """`password_hash` is Argon2's, or None for somebody who cannot sign in with a password."""

    id: UUID
    name: str
    password_hash: str | None
    roles: list[str]
    grants: dict[str, Any]
    teams: list[str]
    tenant: str  # "": of none
    disabled: bool
    created_at: datetime

    @property
    def rights(self) -> dict[str, Any]:
        """What a token of this user carries besides its name."""
        return {"roles": self.roles, "grants": self.grants, "teams": self.teams, "tenant": self.tenant}


class OAuthClient(msgspec.Struct, frozen=True):
    """`secret_hash` is Argon2's, or None for a public client, which cannot keep a secret."""

    client_id: str
    secret_hash: str | None
    roles: list[str]
    teams: list[str]
    redirect_uris: list[str]
    disabled: bool
    created_at: datetime


class Consumed(Enum):
    """What became of a refresh token that was presented."""

    FRESH = "fresh"
    REUSED = "reused"  # somebody has a copy: the whole family is now revoked
    INVALID = "invalid"  # unknown, expired or revoked, or bound to a key that was not proven


class SignIn(msgspec.Struct, frozen=True, kw_only=True):
    """What every token of one family descends from: how (RFC 8176) and when, in seconds since 1970, somebody proved
    who they are, and for an OAuth client its id and the roles it was allowed (None: all the user has). `jkt`: the
    thumbprint of the key that its refresh tokens are bound to; "": none."""

    family: UUID
    amr: list[str] = []
    auth_time: int = 0
    client_id: str = ""
    scope: list[str] | None = None
    jkt: str = ""


class RefreshToken(msgspec.Struct, frozen=True):
    sign_in: SignIn
    subject: str
    expires_at: datetime


class Users:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(
        self,
        name: str,
        *,
        password_hash: str | None = None,
        roles: Sequence[str] = (),
        grants: Mapping[str, Any] | None = None,
        teams: Sequence[str] = (),
        tenant: str = "",
        by: str = HUB,
    ) -> User:
        """Raises `Conflict` if the name is taken."""
        async with self._db.connection() as connection, connection.transaction():
            row = await connection.fetchrow(
                "INSERT INTO users (name, password_hash, roles, grants, teams, tenant) VALUES ($1, $2, $3, $4, $5, $6)"
                f" ON CONFLICT (name) DO NOTHING RETURNING {USER}",
                *(name, password_hash, list(roles), _json(grants or {}), list(teams), tenant),
            )
            if row is None:
                raise Conflict(f"The user {name} exists already.")
            detail = {"roles": list(roles), "teams": list(teams)} | ({"tenant": tenant} if tenant else {})
            await audit.append(connection, AuditEntry(event="user_created", actor=by, target=name, detail=detail))
        return _user(row)

    async def get(self, name: str) -> User | None:
        row = await self._db.fetch_row(f"SELECT {USER} FROM users WHERE name = $1", name)
        return _user(row) if row else None

    async def list(self, *, after: str = "", limit: int = 100, tenant: str = "") -> Sequence[User]:
        """A page of users by name, those whose name comes after `after`; with a tenant, its users only."""
        query = f"SELECT {USER} FROM users WHERE name > $1 AND $3 IN ('', tenant) ORDER BY name LIMIT $2"
        return [_user(row) for row in await self._db.fetch(query, after, limit, tenant)]

    async def update(
        self,
        name: str,
        *,
        password_hash: str | None = None,
        roles: Sequence[str] | None = None,
        grants: Mapping[str, Any] | None = None,
        teams: Sequence[str] | None = None,
        disabled: bool | None = None,
        now: datetime,
        proven_hash: str | None = None,
        spared: str = "",
        by: str = HUB,
    ) -> User:
        """Change what is given, None leaves as it is. Raises `NotFound`, and `Conflict` if `proven_hash`, the hash of
        the password that whoever asks has shown, is no longer the user's.

        What is taken away is taken at once: tokens issued until `now` count no more after another password or being
        disabled, and for what the user may do now after other roles, grants or teams. With another password `spared`,
        the sign-in that changes it, goes on.
        """
        async with self._db.connection() as connection, connection.transaction():
            row = await connection.fetchrow(
                "UPDATE users SET password_hash = coalesce($2, password_hash), roles = coalesce($3, roles),"
                " grants = coalesce($4, grants), teams = coalesce($5, teams), disabled = coalesce($6, disabled)"
                f" WHERE name = $1 AND ($7::text IS NULL OR password_hash = $7) RETURNING {USER}",
                *(name, password_hash, _list(roles), None if grants is None else _json(grants), _list(teams), disabled),
                proven_hash,
            )
            if row is None and proven_hash is not None:
                raise Conflict(f"The password of {name} is another by now.")
            if row is None:
                raise NotFound(f"There is no user {name}.")
            for revocation in _revocations(_user(row), password_hash, roles, grants, teams, disabled, now, spared):
                await revocations.record(connection, revocation)
            if disabled or password_hash is not None:
                await revocations.end_sign_ins(connection, name, now=now, spared=spared)
            # A grant may name anybody's channel, and a hash is a secret: only that they changed is told.
            told = {
                "roles": _list(roles),
                "grants": None if grants is None else "changed",
                "teams": _list(teams),
                "password": None if password_hash is None else "changed",
                "disabled": disabled,
            }
            detail = {field: value for field, value in told.items() if value is not None}
            await audit.append(connection, AuditEntry(event="user_updated", actor=by, target=name, detail=detail))
        return _user(row)


class OAuthClients:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(
        self,
        client_id: str,
        *,
        secret_hash: str | None,
        roles: Sequence[str] = (),
        teams: Sequence[str] = (),
        redirect_uris: Sequence[str] = (),
        by: str = HUB,
    ) -> OAuthClient:
        """Raises `Conflict` if the id is taken."""
        async with self._db.connection() as connection, connection.transaction():
            row = await connection.fetchrow(
                "INSERT INTO oauth_clients (client_id, secret_hash, roles, teams, redirect_uris)"
                " VALUES ($1, $2, $3, $4, $5)"
                f" ON CONFLICT (client_id) DO NOTHING RETURNING {CLIENT}",
                *(client_id, secret_hash, list(roles), list(teams), list(redirect_uris)),
            )
            if row is None:
                raise Conflict(f"The client {client_id} exists already.")
            detail = {"roles": list(roles), "teams": list(teams)}
            await audit.append(
                connection, AuditEntry(event="client_created", actor=by, target=client_id, detail=detail)
            )
        return OAuthClient(*row)

    async def get(self, client_id: str) -> OAuthClient | None:
        row = await self._db.fetch_row(f"SELECT {CLIENT} FROM oauth_clients WHERE client_id = $1", client_id)
        return OAuthClient(*row) if row else None

    async def list(self) -> Sequence[OAuthClient]:
        return [OAuthClient(*row) for row in await self._db.fetch(f"SELECT {CLIENT} FROM oauth_clients ORDER BY 1")]

    async def set_disabled(self, client_id: str, disabled: bool, *, by: str = HUB) -> None:
        """Raises `NotFound`."""
        query = "UPDATE oauth_clients SET disabled = $2 WHERE client_id = $1 RETURNING true"
        async with self._db.connection() as connection, connection.transaction():
            if not await connection.fetchval(query, client_id, disabled):
                raise NotFound(f"There is no client {client_id}.")
            entry = AuditEntry(event="client_updated", actor=by, target=client_id, detail={"disabled": disabled})
            await audit.append(connection, entry)


class RefreshTokens:
    """Each token works once. A second use of one means that it was copied, and ends its whole family."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def store(
        self, token_hash: bytes, *, sign_in: SignIn, subject: str, expires_at: datetime, proven_hash: str | None = None
    ) -> None:
        """Raises `Conflict` if this token is stored already, its sign-in has ended meanwhile, or `proven_hash`, the
        hash of the password that was shown for it, is no longer the subject's.
        """
        async with self._db.connection() as connection, connection.transaction():
            await revocations.hold(connection)
            unchanged = "SELECT true FROM users WHERE name = $1 AND password_hash = $2"
            if proven_hash is not None and not await connection.fetchval(unchanged, subject, proven_hash):
                raise Conflict("The password is another by now.")
            ended = (  # which an authorization code's may have before its first token
                "SELECT true FROM refresh_tokens WHERE family = $1::uuid AND revoked_at IS NOT NULL UNION ALL"
                " SELECT true FROM revocations WHERE kind = 'sign_in' AND subject = $1::uuid::text LIMIT 1"
            )
            if await connection.fetchval(ended, sign_in.family):
                raise Conflict("The sign-in has ended.")
            await connection.execute(
                "INSERT INTO refresh_tokens"
                " (token_hash, family, amr, auth_time, client_id, scope, jkt, subject, expires_at)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                *(token_hash, sign_in.family, sign_in.amr, sign_in.auth_time, sign_in.client_id, sign_in.scope),
                *(sign_in.jkt, subject, expires_at),
            )

    async def consume(self, token_hash: bytes, *, jkt: str = "", now: datetime) -> tuple[Consumed, RefreshToken | None]:
        """Use a token up, for whoever has proven to have the key of the thumbprint `jkt`. The token's sign-in and
        subject come with FRESH and REUSED, else None.

        Of two who present the same token at once exactly one gets FRESH.
        """
        async with self._db.connection() as connection, connection.transaction():
            row = await connection.fetchrow(
                "SELECT family, amr, auth_time, client_id, scope, jkt, subject, expires_at, used_at, revoked_at"
                " FROM refresh_tokens"
                " WHERE token_hash = $1 FOR UPDATE",
                token_hash,
            )
            if row is None or row["revoked_at"] is not None or row["expires_at"] <= now:
                return Consumed.INVALID, None
            if row["jkt"] not in ("", jkt):  # a copy without the key: worth nothing, and no reason to end the family
                return Consumed.INVALID, None
            sign_in = SignIn(**{field: row[field] for field in SignIn.__struct_fields__})
            token = RefreshToken(sign_in, row["subject"], row["expires_at"])
            if row["used_at"] is not None:
                await _revoke(connection, "family", sign_in.family, now=now, by=token.subject, severity="CRITICAL")
                return Consumed.REUSED, token
            await connection.execute("UPDATE refresh_tokens SET used_at = $2 WHERE token_hash = $1", token_hash, now)
            return Consumed.FRESH, token

    async def get(self, token_hash: bytes, *, now: datetime) -> RefreshToken | None:
        """A token that could still be used."""
        row = await self._db.fetch_row(
            "SELECT family, amr, auth_time, client_id, scope, jkt, subject, expires_at FROM refresh_tokens"
            " WHERE token_hash = $1 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $2",
            *(token_hash, now),
        )
        if row is None:
            return None
        sign_in = SignIn(**{field: row[field] for field in SignIn.__struct_fields__})
        return RefreshToken(sign_in, row["subject"], row["expires_at"])

    async def revoke_family(self, family: UUID, *, now: datetime, by: str = HUB) -> None:
        async with self._db.connection() as connection, connection.transaction():
            await _revoke(connection, "family", family, now=now, by=by)

    async def revoke_subject(self, subject: str, *, now: datetime, by: str = HUB) -> None:
        """Sign somebody out everywhere."""
        async with self._db.connection() as connection, connection.transaction():
            await _revoke(connection, "subject", subject, now=now, by=by)

    async def step_up(self, sign_in: SignIn) -> bool:
        """The same sign-in has been proven again, in another way. False: it has ended."""
        query = "UPDATE refresh_tokens SET amr = $2, auth_time = $3 WHERE family = $1 AND revoked_at IS NULL"
        done = await self._db.execute(query, sign_in.family, sign_in.amr, sign_in.auth_time)
        return int(done.split()[-1]) > 0

    async def sign_ins(self, subject: str, *, now: datetime) -> Sequence[tuple[SignIn, datetime]]:
        """Those that can still be refreshed, the newest first, and until when."""
        query = (
            "SELECT family, amr, auth_time, expires_at FROM refresh_tokens WHERE subject = $1 AND used_at IS NULL"
            " AND revoked_at IS NULL AND expires_at > $2 ORDER BY auth_time DESC, family"
        )
        rows = await self._db.fetch(query, subject, now)
        return [(SignIn(family=row[0], amr=row[1], auth_time=row[2]), row[3]) for row in rows]


async def _revoke(
    connection: Any,
    column: Literal["family", "subject"],
    value: UUID | str,
    *,
    now: datetime,
    by: str,
    severity: Literal["INFO", "CRITICAL"] = "INFO",
) -> None:
    """End the refresh tokens of a family or a subject. Nothing left to end is no change, and is not audited."""
    query = f"UPDATE refresh_tokens SET revoked_at = $2 WHERE {column} = $1 AND revoked_at IS NULL"
    ended = int((await connection.execute(query, value, now)).split()[-1])
    if ended:
        entry = AuditEntry(
            event="authn_token_revoked", actor=by, target=str(value), severity=severity, detail={"tokens": ended}
        )
        await audit.append(connection, entry)


def _revocations(
    user: User,
    password_hash: str | None,
    roles: Sequence[str] | None,
    grants: Mapping[str, Any] | None,
    teams: Sequence[str] | None,
    disabled: bool | None,
    now: datetime,
    spared: str,
) -> Iterator[Revocation]:
    """What tokens of before an update are worth after it."""
    if disabled is not None:
        yield revocations.disabling(user.name, disabled, now=now)
    elif password_hash is not None and not user.disabled:
        yield revocations.ending(user.name, now=now, spared=spared)
    if roles is not None or grants is not None or teams is not None:
        yield revocations.changing(user.name, user.rights, now=now)


def _user(row: Any) -> User:
    return User(row[0], row[1], row[2], row[3], msgspec.json.decode(row[4], type=dict[str, Any]), *row[5:])


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def _list(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else [*values]
