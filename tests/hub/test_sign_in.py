"""Refresh tokens: each works once, and tells how and when somebody signed in (C45)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from scene import Scene

from hub.auth.service import REFRESH_TTL_S, TokenPair
from hub.auth.tokens import Claims
from protocol.errors import ErrorCode, HubError
from storage.database import Database
from storage.users import SignIn

PASSWORD = "a quiet horse in the rain"


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    await database.execute("DELETE FROM users")
    async with Scene(database).running() as running:
        await running.authentication.create_user("ann", PASSWORD, roles=["trader"], teams=[])
        yield running


async def signed_in(scene: Scene) -> TokenPair:
    user = await scene.authentication.find_user("ann")
    assert user is not None
    return await scene.authentication.start_session(user, amr=["pwd"])


def claims(scene: Scene, pair: TokenPair) -> Claims:
    found = scene.authentication.authenticate(pair.access_token)
    assert isinstance(found, Claims)
    return found


async def refused(scene: Scene, pair: TokenPair, *, client_id: str = "") -> None:
    with pytest.raises(HubError) as caught:
        await scene.authentication.refresh(pair.refresh_token or "", client_id=client_id)
    assert caught.value.code is ErrorCode.TOKEN_INVALID


async def test_a_refresh_is_no_new_proof_of_who_asks(scene: Scene) -> None:
    first = await signed_in(scene)
    scene.clock.advance(600)
    second = await scene.authentication.refresh(first.refresh_token or "")
    before, after = claims(scene, first), claims(scene, second)

    assert (after.amr, after.auth_time, after.sid) == (before.amr, before.auth_time, before.sid)
    assert (after.amr, after.principal) == (("pwd",), "user")
    assert after.iat == before.iat + 600
    assert UUID(after.sid)


async def test_c45_reuse_is_told_as_critical_once_for_each_time_and_names_no_token(scene: Scene) -> None:
    first = await signed_in(scene)
    second = await scene.authentication.refresh(first.refresh_token or "")
    sid = claims(scene, second).sid
    await refused(scene, first)
    await scene.watch.look()
    told = [event for event in scene.events if event.name == "authn_token_reuse"]

    assert [(each.severity, each.user, each.target, each.allowed) for each in told] == [("CRITICAL", "ann", sid, False)]
    for pair in (first, second):
        assert (pair.refresh_token or "") not in repr(told)
        with pytest.raises(HubError) as caught:
            scene.authentication.authenticate(pair.access_token)
        assert caught.value.code is ErrorCode.TOKEN_INVALID
    await refused(scene, second)


async def test_c45_who_is_about_to_be_given_a_token_while_reuse_is_noticed_gets_none(scene: Scene) -> None:
    """Of two who show a copy at the same moment the first has not got its next token yet when the second is noticed."""
    user = await scene.authentication.find_user("ann")
    assert user is not None
    sign_in = SignIn(family=uuid4(), amr=["pwd"])
    await scene.authentication.end_sign_in(str(sign_in.family))
    with pytest.raises(HubError) as caught:
        await scene.authentication.issue_pair(user, sign_in)
    assert caught.value.code is ErrorCode.TOKEN_INVALID


async def test_c45_another_sign_in_of_the_same_user_goes_on(scene: Scene) -> None:
    here, there = [await signed_in(scene) for _ in range(2)]
    await scene.authentication.refresh(here.refresh_token or "")
    await refused(scene, here)
    await scene.watch.look()

    assert claims(scene, there).sub == "ann"
    assert claims(scene, await scene.authentication.refresh(there.refresh_token or "")).sub == "ann"


async def test_c45_a_token_that_a_client_shows_which_never_got_it_ends_its_family(scene: Scene) -> None:
    pair = await signed_in(scene)
    await refused(scene, pair, client_id="thief")
    await refused(scene, pair)

    assert [event.name for event in scene.events] == ["authn_token_reuse"]


async def test_a_refresh_token_ends_and_so_do_those_of_users_who_may_not_come_in(
    scene: Scene, database: Database
) -> None:
    old, disabled = [await signed_in(scene) for _ in range(2)]
    await database.execute("UPDATE users SET disabled = true WHERE name = 'ann'")
    await refused(scene, disabled)
    await database.execute("UPDATE users SET disabled = false WHERE name = 'ann'")
    scene.clock.advance(REFRESH_TTL_S)
    await refused(scene, old)


@pytest.mark.parametrize("name", ["acme|ann", "krin"])
async def test_nobody_here_is_given_a_name_that_could_come_from_elsewhere_or_the_hubs_own(
    scene: Scene, name: str
) -> None:
    with pytest.raises(HubError) as caught:
        await scene.authentication.create_user(name, PASSWORD, roles=[], teams=[])
    assert caught.value.code is ErrorCode.BAD_REQUEST
