"""Taking away: what tokens are worth after it, at the doors and on connections that are open."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from doubles import SlowLog, caller
from hypothesis import given
from hypothesis import strategies as st
from scene import Scene

from hub.auth.revocations import LOOK_S, Revoked
from hub.auth.tokens import Claims
from hub.caller import Grant
from hub.guard.events import SecurityEvent
from protocol.errors import ErrorCode, HubError
from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.migrate import migrate
from storage.revocations import ALWAYS_MS, LONGEST_TOKEN, Kind, Revocation, Revocations
from storage.users import Users

NOW_S = 1_732_330_000
ORDER = {"account": "a", "client_order_id": "c1"}
NEVER = datetime.fromtimestamp(NOW_S, UTC) + LONGEST_TOKEN


def claims(sub: str = "ann", *, issued_ms: int = NOW_S * 1000, ttl_s: int = 600, **fields: Any) -> Claims:
    iat = issued_ms // 1000
    return Claims(sub=sub, iat=iat, iat_ms=issued_ms, exp=iat + ttl_s, **({"jti": "t1"} | fields))


def ended(
    subject: str, *, number: int = 1, kind: Kind = "user", before_ms: int = ALWAYS_MS, **fields: Any
) -> Revocation:
    return Revocation(
        number=number, kind=kind, subject=subject, before_ms=before_ms, **({"expires_at": NEVER} | fields)
    )


def is_admitted(revoked: Revoked, token: Claims) -> bool:
    try:
        revoked.admit(token)
    except HubError as error:
        assert error.code is ErrorCode.TOKEN_INVALID
        return False
    return True


# --- the table


@given(issued_ms=st.integers(0, 10**13), before_ms=st.integers(0, 10**13))
def test_c44_a_token_is_void_exactly_if_it_was_issued_before_the_revocation(issued_ms: int, before_ms: int) -> None:
    revoked = Revoked()
    revoked.apply([ended("ann", before_ms=before_ms)])

    assert is_admitted(revoked, claims(issued_ms=issued_ms)) is (issued_ms >= before_ms)
    assert is_admitted(revoked, claims("bob", issued_ms=issued_ms))


@pytest.mark.parametrize(
    ("revocation", "void", "valid"),
    [
        (ended("s1", kind="sign_in"), {"sid": "s1"}, {"sid": "s2"}),
        (ended("t1", kind="token"), {"jti": "t1"}, {"jti": "t2"}),
        (ended("ann"), {"principal": "operator"}, {"sub": "bob"}),
        (ended("ann"), {"principal": "machine"}, {"sub": "an"}),
        (ended("ann", spared="s1"), {"sid": "s2"}, {"sid": "s1"}),
        (ended("ann", spared="t2"), {"jti": "t1"}, {"jti": "t2"}),
        (ended("", kind="sign_in"), {"sid": ""}, {"sid": "s1"}),
    ],
)
def test_a_revocation_means_its_subject_and_nobody_else(
    revocation: Revocation, void: dict[str, Any], valid: dict[str, Any]
) -> None:
    revoked = Revoked()
    revoked.apply([revocation])

    assert not is_admitted(revoked, claims(**void))
    assert is_admitted(revoked, claims(**valid))


def test_nobody_is_spared_by_an_empty_name() -> None:
    revoked = Revoked()
    revoked.apply([ended("ann", spared="")])

    assert not is_admitted(revoked, claims(sid=""))


def test_c62_other_rights_replace_what_an_older_token_says_and_leave_a_newer_one_alone() -> None:
    revoked = Revoked()
    rights = {"roles": ["dashboard"], "teams": [], "grants": {"subscribe": ["orders:x"]}, "tenant": "acme"}
    revoked.apply([ended("ann", before_ms=NOW_S * 1000, rights=rights)])
    older = claims(issued_ms=NOW_S * 1000 - 1, roles=frozenset({"admin"}), teams=frozenset({"*"}))
    newer = claims(issued_ms=NOW_S * 1000, roles=frozenset({"admin"}))

    admitted = revoked.admit(older)

    assert (admitted.roles, admitted.teams, admitted.tenant) == (frozenset({"dashboard"}), frozenset(), "acme")
    assert admitted.grant.subscribe == ("orders:x",)
    assert (admitted.sub, admitted.exp, admitted.jti) == (older.sub, older.exp, older.jti)
    assert revoked.admit(newer) is newer


def test_rights_that_were_not_named_stay_as_the_token_says() -> None:
    revoked = Revoked()
    revoked.apply([ended("ann", rights={"roles": ["agent"]})])

    assert revoked.admit(claims(teams=frozenset({"alpha"}), tenant="acme")).teams == frozenset({"alpha"})


def test_c62_what_a_key_may_is_cut_with_its_users_roles_and_never_grows() -> None:
    revoked = Revoked()
    rights = {"roles": ["agent", "admin"], "teams": ["alpha"], "grants": {"publish": ["custom:a"]}}
    revoked.apply([ended("ann", rights=rights)])
    key = claims(
        principal="machine",
        roles=frozenset({"agent", "trader"}),
        teams=frozenset({"*"}),
        grant=Grant(publish=("custom:a", "custom:b"), subscribe=("orders:ann",)),
    )

    admitted = revoked.admit(key)

    assert (admitted.roles, admitted.teams) == (frozenset({"agent"}), frozenset({"alpha"}))
    assert admitted.grant == Grant(publish=("custom:a",))


def test_the_newest_of_each_effect_counts_and_an_old_page_read_again_changes_nothing() -> None:
    revoked = Revoked()
    blocked, freed = ended("ann", number=1), ended("ann", number=2, before_ms=NOW_S * 1000)

    assert revoked.apply([blocked, freed]) == {("user", "ann")}
    assert revoked.apply([blocked]) == set()
    assert is_admitted(revoked, claims())
    assert not is_admitted(revoked, claims(issued_ms=NOW_S * 1000 - 1))


def test_a_caller_whose_rights_are_the_same_stays_the_same_object() -> None:
    revoked = Revoked()
    revoked.apply([ended("ann", rights={"roles": ["trader"]})])
    ann = caller("ann", "trader")

    assert revoked.judge(ann) is ann
    assert revoked.judge(caller("ann", "admin")).roles == frozenset({"trader"})


def test_what_no_living_token_can_be_meant_by_is_forgotten_and_no_token_outlives_it() -> None:
    revoked = Revoked()
    revoked.apply([ended("ann"), ended("s1", number=2, kind="sign_in", rights={"roles": []})])

    revoked.forget(NEVER - timedelta(seconds=1))
    assert len(revoked) == 2
    revoked.forget(NEVER)
    assert len(revoked) == 0
    assert not is_admitted(revoked, claims(ttl_s=int(LONGEST_TOKEN.total_seconds()) + 1))
    assert is_admitted(revoked, claims(ttl_s=int(LONGEST_TOKEN.total_seconds())))


# --- a node


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    made = Scene(database)
    async with made.running():
        yield made


def somebody() -> str:
    """A name that no other test has taken anything from."""
    return f"ann-{secrets.token_hex(4)}"


def now(scene: Scene) -> datetime:
    return datetime.fromtimestamp(scene.clock.now_ms() / 1000, UTC)


async def learn(scene: Scene) -> None:
    """Ring, and wait until this node knows what was written."""
    scene.watch.ring()
    async with asyncio.timeout(5):
        while await scene.revocations.after(scene.revoked.number, now=now(scene)):
            await asyncio.sleep(0.001)


async def test_c44_a_revoked_user_is_closed_with_4001_on_every_connection_and_may_not_come_back(scene: Scene) -> None:
    ann = somebody()
    token = scene.token(ann, "agent")
    clients = [scene.socket() for _ in range(3)]
    for client in clients:
        await client.ask("connect", token=token, subscriptions={"custom:x": {}})
    other = await scene.client("bob", "agent")
    scene.clock.advance(0.01)

    await scene.revocations.end_user(ann, now=now(scene))
    await learn(scene)
    await other.publish("custom:x")

    for client in clients:
        await client.until(lambda each: each["type"] == "disconnect")
        assert client.socket.closed == (4001, "signed out")
        assert client.publications("custom:x") == []
    assert other.socket.closed is None
    late = scene.socket()
    reply = await late.ask("connect", token=token)
    assert reply["error"]["name"] == "token_invalid"
    assert late.socket.closed is not None


async def test_c44_a_token_from_the_handshake_is_looked_at_again_when_it_is_used(scene: Scene) -> None:
    ann = somebody()
    client = scene.socket()
    client.connection.claims = scene.authentication.authenticate(scene.token(ann, "agent"))
    scene.clock.advance(0.01)

    await scene.revocations.end_user(ann, now=now(scene))
    await learn(scene)

    assert (await client.ask("connect"))["error"]["name"] == "token_invalid"


async def test_c44_without_a_bell_a_node_finds_out_by_looking(scene: Scene) -> None:
    ann = somebody()
    client = await scene.client(ann, "agent")
    scene.clock.advance(0.01)

    await scene.revocations.end_user(ann, now=now(scene))
    assert client.socket.closed is None
    await scene.tick(LOOK_S)

    await client.until(lambda each: each["type"] == "disconnect")


async def test_c44_a_node_that_starts_later_knows_what_was_taken_before(database: Database) -> None:
    ann = somebody()
    first, second = Scene(database), Scene(database)
    await first.revocations.block(ann, True, now=now(first))

    await second.watch.look()

    for _ in range(2):
        assert (await second.socket().ask("connect", token=second.token(ann)))["error"]["name"] == "token_invalid"
        second.clock.advance(1)


async def test_c44_numbers_that_a_restored_table_gives_out_again_are_not_taken_for_old_ones(
    database: Database, scene: Scene
) -> None:
    ann, bob = somebody(), somebody()
    for _ in range(3):
        await scene.revocations.end_user(bob, now=now(scene))
    await learn(scene)
    client, token = await scene.client(ann, "agent"), scene.token(bob)
    old = scene.token(ann)
    scene.clock.advance(0.01)
    await database.execute("TRUNCATE revocations RESTART IDENTITY")  # what a restore begins with; here nothing follows

    await scene.revocations.end_user(ann, now=now(scene))
    await scene.tick(LOOK_S)

    await client.until(lambda each: each["type"] == "disconnect")
    assert scene.revoked.number == 1
    assert "result" in await scene.socket().ask("connect", token=token)
    assert "result" not in await scene.socket().ask("connect", token=old)


async def test_a_history_goes_on_until_the_table_gets_another_file(database: Database) -> None:
    revocations = Revocations(database)
    before = await revocations.history()
    await revocations.end_user(somebody(), now=datetime.now(UTC))
    assert await revocations.history() == before
    await database.execute("TRUNCATE revocations RESTART IDENTITY")
    assert await revocations.history() != before


async def test_a_server_that_was_restarted_begins_another_history(tmp_path: Path) -> None:
    """So a cold copy of a data folder put back is noticed: nothing else tells it from what was there."""
    histories = []
    for _ in range(2):
        async with EmbeddedPostgres(tmp_path) as address, Database.open(address) as database:
            await migrate(database)
            histories.append(await Revocations(database).history())
    assert histories[0] != histories[1]


async def test_c62_changed_roles_end_what_is_no_longer_allowed_and_leave_the_rest(scene: Scene) -> None:
    ann = somebody()
    client = await scene.client(ann, "agent", "trader", subscriptions={f"orders:{ann}": {}, "custom:x": {}})
    boss = await scene.client("root", "admin")
    scene.clock.advance(0.01)

    await scene.revocations.change_rights(ann, {"roles": ["agent"]}, now=now(scene))
    await learn(scene)
    gone = await client.until(lambda each: each["type"] == "unsubscribed")
    await boss.publish(f"orders:{ann}", "ORDER_EVENT", ORDER)
    await boss.publish("custom:x")
    await client.until_offset("custom:x", 1)

    assert (gone["channel"], gone["code"]) == (f"orders:{ann}", ErrorCode.PERMISSION_DENIED.value)
    assert client.publications(f"orders:{ann}") == []
    assert client.socket.closed is None
    refused = await client.ask("publish", channel=f"orders:{ann}", message={"type": "ORDER_EVENT", "data": ORDER})
    assert refused["error"]["name"] == "permission_denied"
    again = await client.ask("subscribe", channel=f"orders:{ann}")
    assert again["error"]["name"] == "permission_denied"


async def test_c62_every_node_hears_of_rights_that_have_just_changed_and_of_no_old_ones(
    database: Database, scene: Scene
) -> None:
    ann = somebody()
    await scene.revocations.end_user(ann, now=now(scene))
    await scene.revocations.change_rights(ann, {"roles": ["admin"]}, now=now(scene))
    await learn(scene)
    late = Scene(database, clock=scene.clock)
    scene.clock.advance(3600)
    await late.watch.look()

    def heard(signals: list[SecurityEvent]) -> list[str]:
        return [each.name for each in signals if each.user == ann]

    assert heard(scene.signals) == ["privilege_permissions_changed"]
    assert heard(late.signals) == []


async def test_c62_a_page_of_history_that_was_being_read_is_not_handed_out_afterwards(database: Database) -> None:
    log = SlowLog(database)
    async with Scene(database, log=log).running() as scene:
        ann = somebody()
        client = await scene.client(ann, "trader")
        boss = await scene.client("root", "admin")
        await boss.publish(f"orders:{ann}", "ORDER_EVENT", ORDER)
        scene.clock.advance(0.01)
        await scene.revocations.change_rights(ann, {"roles": []}, now=now(scene))

        asked = client.command("history", channel=f"orders:{ann}")
        client.send(asked)
        await log.until_read(1)
        await scene.watch.look()
        log.arrive.set()

        assert (await client.reply(asked["id"]))["error"]["name"] == "permission_denied"


async def test_c44_a_disabled_user_is_out_and_comes_back_only_with_a_new_token(
    database: Database, scene: Scene
) -> None:
    ann, users = somebody(), Users(database)
    await users.create(ann, roles=["agent"])
    client = await scene.client(ann, "agent")
    old = scene.token(ann, "agent")
    scene.clock.advance(0.01)

    await users.update(ann, disabled=True, now=now(scene))
    await learn(scene)
    assert client.socket.closed == (4001, "signed out")
    scene.clock.advance(1)
    assert "error" in await scene.socket().ask("connect", token=scene.token(ann, "agent"))

    await users.update(ann, disabled=False, now=now(scene))
    await learn(scene)
    assert "error" in await scene.socket().ask("connect", token=old)
    assert "result" in await scene.socket().ask("connect", token=scene.token(ann, "agent"))


async def test_c44_another_password_ends_every_sign_in_but_the_one_that_changed_it(
    database: Database, scene: Scene
) -> None:
    ann, users = somebody(), Users(database)
    await scene.authentication.create_user(ann, "a quiet horse in the rain", roles=["agent"], teams=[])
    user = await users.get(ann)
    assert user is not None
    mine, others = [
        scene.authentication.authenticate(scene.tokens.issue(ann, roles=["agent"], ttl_s=600, sid=sid))
        for sid in ("mine", "others")
    ]
    scene.clock.advance(0.01)

    await users.update(ann, password_hash="another", now=now(scene), spared="mine")
    await learn(scene)

    assert scene.authentication.admit(mine) is mine
    with pytest.raises(HubError):
        scene.authentication.admit(others)
