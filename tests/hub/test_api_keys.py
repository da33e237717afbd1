"""API keys: shown once, stored hashed, scoped, expiring, revocable, and good wherever an access token is (C55)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable

import pytest
import pytest_asyncio
from scene import Scene

from hub.auth.api_keys import KEY_LENGTH, MAX_REMEMBERED, MAX_TTL_S, PREFIX, REMEMBER_S, ApiKeys
from hub.auth.tokens import Claims
from hub.caller import Grant
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode, HubError
from storage.api_keys import ApiKeyTable
from storage.database import Database
from storage.errors import NotFound

DAY_S = 86_400


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database).running() as running:
        yield running


async def made(scene: Scene, name: str = "robot", *, ttl_s: int = DAY_S) -> tuple[str, str]:
    return await scene.api_keys.create(
        name, roles=["agent"], teams=["alpha"], grant=Grant(subscribe=("custom:robots:*",)), ttl_s=ttl_s
    )


async def refused(keys: ApiKeys, key: str) -> ErrorCode:
    with pytest.raises(HubError) as caught:
        await keys.authenticate(key)
    assert key not in str(caught.value) or not key
    return caught.value.code


async def test_a_key_speaks_for_its_name_with_its_roles_teams_and_channels_until_it_ends(scene: Scene) -> None:
    id, key = await made(scene)

    found = scene.authentication.authenticate(key)

    assert isinstance(found, Awaitable)
    claims = await found
    assert (claims.sub, claims.roles, claims.teams, claims.principal, claims.jti) == (
        "robot",
        frozenset({"agent"}),
        frozenset({"alpha"}),
        "machine",
        id,
    )
    assert claims.grant == Grant(subscribe=("custom:robots:*",))
    assert claims.exp == scene.clock.now_ms() // 1000 + DAY_S
    assert isinstance(scene.authentication.authenticate(scene.token()), Claims), "a token needs no waiting"


async def test_c55_a_key_has_256_random_bits_and_only_its_hash_is_stored(scene: Scene, database: Database) -> None:
    keys = {(await made(scene))[1] for _ in range(20)}
    [key, *_] = keys
    stored = await database.fetch_value("SELECT string_agg(api_keys::text, ' ') FROM api_keys")
    audited = await database.fetch_value("SELECT string_agg(audit_log::text, ' ') FROM audit_log")

    assert len(keys) == 20
    assert {len(each) for each in keys} == {KEY_LENGTH}
    assert all(each.startswith(PREFIX) for each in keys)
    assert key.removeprefix(PREFIX) not in stored + audited


@pytest.mark.parametrize(
    "wrong",
    ["", "x", "y" * 43, "y" * 42, "y" * 44, "y" * 8000, "\x00" * 43, "\ud800" * 43, "é" * 43, "' OR true --".ljust(43)],
    ids=range(10),
)
async def test_what_only_looks_like_a_key_is_invalid(scene: Scene, wrong: str) -> None:
    await made(scene)

    assert await refused(scene.api_keys, PREFIX + wrong) is ErrorCode.TOKEN_INVALID


async def test_a_key_with_one_letter_changed_is_another_key(scene: Scene) -> None:
    _, key = await made(scene)
    changed = key[:-1] + ("A" if key[-1] != "A" else "B")

    assert await refused(scene.api_keys, changed) is ErrorCode.TOKEN_INVALID
    assert await refused(scene.api_keys, key.upper()) is ErrorCode.TOKEN_INVALID


async def test_a_key_expires_even_while_it_is_remembered(scene: Scene) -> None:
    _, key = await made(scene, ttl_s=2)
    await scene.api_keys.authenticate(key)
    scene.clock.advance(2)

    assert await refused(scene.api_keys, key) is ErrorCode.TOKEN_EXPIRED


async def test_a_revoked_key_is_refused_here_at_once_and_on_other_nodes_within_seconds(
    scene: Scene, database: Database
) -> None:
    id, key = await made(scene)
    elsewhere = ApiKeys(ApiKeyTable(database), clock=scene.clock)
    await elsewhere.authenticate(key)
    await scene.api_keys.authenticate(key)
    await scene.api_keys.revoke(id)

    assert await refused(scene.api_keys, key) is ErrorCode.TOKEN_INVALID
    scene.clock.advance(REMEMBER_S)
    assert await refused(elsewhere, key) is ErrorCode.TOKEN_INVALID
    with pytest.raises(NotFound):
        await scene.api_keys.revoke(id)
    with pytest.raises(NotFound):
        await scene.api_keys.revoke("nobody")


async def test_a_key_lives_for_a_bounded_time_and_never_for_a_name_that_is_not_to_be_had(scene: Scene) -> None:
    for name, ttl_s in (("robot", 0), ("robot", MAX_TTL_S + 1), ("acme|robot", DAY_S), ("krin", DAY_S)):
        with pytest.raises(HubError) as caught:
            await made(scene, name, ttl_s=ttl_s)
        assert caught.value.code is ErrorCode.BAD_REQUEST


async def test_what_is_remembered_is_bounded_and_unknown_keys_are_not(scene: Scene) -> None:
    _, key = await made(scene)
    for number in range(MAX_REMEMBERED // 64):
        assert await refused(scene.api_keys, PREFIX + f"{number:043d}") is ErrorCode.TOKEN_INVALID
    await scene.api_keys.authenticate(key)

    assert len(scene.api_keys._remembered) == 1


# --- on a socket


async def test_commands_sent_with_the_connect_of_a_key_are_run_after_it(scene: Scene) -> None:
    _, key = await made(scene)
    client = scene.socket()
    connect = client.command("connect", token=key, subscriptions={"custom:robots:1": {}, "orders:robot": {}})
    client.send(
        connect, client.command("subscribe", channel="team:alpha"), client.command("subscribe", channel="custom:x")
    )
    replies = [await client.reply(number) for number in (1, 2, 3)]

    assert replies[0]["result"]["user"] == "robot"
    assert "error" not in replies[0]["result"]["subscriptions"]["custom:robots:1"]
    assert replies[0]["result"]["subscriptions"]["orders:robot"]["error"]["code"] == ErrorCode.PERMISSION_DENIED
    assert "result" in replies[1]
    assert client.messages[0]["id"] == 1


async def test_a_connect_with_a_wrong_key_is_answered_and_ends_the_connection(scene: Scene) -> None:
    client = scene.socket()
    reply = await client.ask("connect", token=PREFIX + "y" * 43)

    assert reply["error"]["code"] == ErrorCode.TOKEN_INVALID
    assert client.socket.closed is not None
    assert client.socket.closed[0] == CloseCode.TOKEN_INVALID
    assert client.connection.session == ""


async def test_a_second_connect_while_a_key_is_looked_up_is_refused_and_changes_nobody(scene: Scene) -> None:
    _, key = await made(scene)
    client = scene.socket()
    client.send(client.command("connect", token=key), client.command("connect", token=scene.token("eve")))
    first, second = await client.reply(1), await client.reply(2)

    assert first["result"]["user"] == "robot"
    assert second["error"]["code"] == ErrorCode.BAD_REQUEST
    assert client.connection.caller.user == "robot"


async def test_a_living_connection_may_refresh_with_a_key_of_its_own_name(scene: Scene) -> None:
    _, key = await made(scene, "ann")
    _, other = await made(scene, "eve")
    client = await scene.client("ann", "agent")

    assert "result" in await client.ask("refresh", token=key)
    assert (await client.ask("refresh", token=other))["error"]["code"] == ErrorCode.TOKEN_INVALID
    assert client.connection.caller.principal == "machine"
