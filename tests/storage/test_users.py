from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from storage.database import Database
from storage.errors import Conflict, NotFound
from storage.revocations import Revocations
from storage.users import Consumed, OAuthClients, RefreshTokens, SignIn, Users

pytestmark = pytest.mark.asyncio

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=30)


async def test_a_user_is_created_once_found_changed_and_listed(db: Database) -> None:
    users = Users(db)
    made = await users.create("alice", password_hash="$argon2$", roles=["trader"], grants={"read": ["orders:*"]})
    with pytest.raises(Conflict, match="alice exists already"):
        await users.create("alice")
    await users.create("bob", teams=["alpha"])
    assert await users.get("alice") == made
    assert (made.roles, made.grants, made.teams, made.disabled) == (["trader"], {"read": ["orders:*"]}, [], False)
    changed = await users.update("alice", roles=[], disabled=True, now=NOW)
    assert (changed.roles, changed.disabled, changed.password_hash) == ([], True, "$argon2$")
    assert [user.name for user in await users.list()] == ["alice", "bob"]
    assert [user.name for user in await users.list(after="alice", limit=1)] == ["bob"]
    assert await users.get("carol") is None
    with pytest.raises(NotFound):
        await users.update("carol", disabled=True, now=NOW)


async def test_a_client_is_created_once_and_can_be_disabled(db: Database) -> None:
    clients = OAuthClients(db)
    made = await clients.create("bot", secret_hash="$argon2$", roles=["agent"], teams=["alpha"])
    with pytest.raises(Conflict):
        await clients.create("bot", secret_hash="")
    assert await clients.get("bot") == made
    await clients.set_disabled("bot", True)
    assert [client.disabled for client in await clients.list()] == [True]
    with pytest.raises(NotFound):
        await clients.set_disabled("nobody", True)


async def test_a_refresh_token_works_once_even_for_two_at_once(db: Database) -> None:
    tokens, sign_in = RefreshTokens(db), SignIn(family=uuid4(), amr=["pwd", "otp"], auth_time=1_767_225_600)
    await tokens.store(b"one", sign_in=sign_in, subject="alice", expires_at=LATER)
    outcomes = await asyncio.gather(*(tokens.consume(b"one", now=NOW) for _ in range(4)))
    assert [kind for kind, _ in outcomes].count(Consumed.FRESH) == 1


async def test_a_reused_token_revokes_its_whole_family(db: Database) -> None:
    tokens, sign_in = RefreshTokens(db), SignIn(family=uuid4(), amr=["pwd", "otp"], auth_time=1_767_225_600)
    await tokens.store(b"one", sign_in=sign_in, subject="alice", expires_at=LATER)
    kind, token = await tokens.consume(b"one", now=NOW)
    assert kind is Consumed.FRESH
    assert token is not None
    assert (token.sign_in, token.subject) == (sign_in, "alice")
    await tokens.store(b"two", sign_in=sign_in, subject="alice", expires_at=LATER)
    assert (await tokens.consume(b"one", now=NOW))[0] is Consumed.REUSED
    assert (await tokens.consume(b"two", now=NOW))[0] is Consumed.INVALID


async def test_expired_revoked_and_unknown_tokens_are_invalid(db: Database) -> None:
    tokens = RefreshTokens(db)
    await tokens.store(b"old", sign_in=SignIn(family=uuid4()), subject="alice", expires_at=NOW)
    await tokens.store(b"out", sign_in=SignIn(family=uuid4()), subject="alice", expires_at=LATER)
    await tokens.revoke_subject("alice", now=NOW)
    for token_hash in (b"old", b"out", b"unknown"):
        assert await tokens.consume(token_hash, now=NOW) == (Consumed.INVALID, None)


async def test_a_sign_in_that_has_ended_is_not_prolonged_by_a_refresh_that_was_under_way(db: Database) -> None:
    tokens, sign_in = RefreshTokens(db), SignIn(family=uuid4())
    await tokens.store(b"first", sign_in=sign_in, subject="alice", expires_at=LATER)
    outcome, _ = await tokens.consume(b"first", now=NOW)  # a new one is about to be stored

    await Revocations(db).end_sign_in(str(sign_in.family), now=NOW, lifetime=timedelta(minutes=15))

    assert outcome is Consumed.FRESH
    with pytest.raises(Conflict):
        await tokens.store(b"second", sign_in=sign_in, subject="alice", expires_at=LATER)
    assert await tokens.sign_ins("alice", now=NOW) == []


async def test_ending_and_prolonging_at_once_leaves_nothing_that_lives(db: Database) -> None:
    tokens, revocations = RefreshTokens(db), Revocations(db)
    for number in range(20):
        name, sign_in = f"alice-{number}", SignIn(family=uuid4())
        await tokens.store(b"%d" % number, sign_in=sign_in, subject=name, expires_at=LATER)
        await asyncio.gather(
            tokens.store(b"%d next" % number, sign_in=sign_in, subject=name, expires_at=LATER),
            revocations.end_user(name, now=NOW),
            return_exceptions=True,
        )

        assert await tokens.sign_ins(name, now=NOW) == []
