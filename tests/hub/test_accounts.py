"""People at their own account, with a real Postgres and a clock that stands still: sign-in, second factor, step-up."""

from __future__ import annotations

import asyncio
import base64
import itertools
import math
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import pytest_asyncio
from argon2 import PasswordHasher
from clock import ManualClock

from hub.auth import totp
from hub.auth.accounts import Accounts
from hub.auth.api_keys import ApiKeys
from hub.auth.dpop import Proofs
from hub.auth.keys import configured_keys
from hub.auth.lockout import Lockout
from hub.auth.multi_factor import MAX_TRIES, MultiFactor
from hub.auth.passwords import Hasher, Passwords
from hub.auth.providers import Providers
from hub.auth.revocations import Revoked
from hub.auth.sealing import Sealer
from hub.auth.service import Authentication, TokenPair, caller_of
from hub.auth.tokens import Tokens
from hub.caller import Caller
from hub.guard.events import SecurityEvent
from protocol.errors import ErrorCode, HubError
from storage.api_keys import ApiKeyTable
from storage.database import Database
from storage.revocations import Revocations
from storage.second_factors import SecondFactors
from storage.users import RefreshTokens, User, Users

KEY = bytes(range(32))
PASSWORD = "a quiet horse in the rain"
HOME = "10.0.0.1"
NAMES = (f"ann-{number}" for number in itertools.count())


class Desk:
    """Everything about one new person, on a node of their own."""

    def __init__(
        self,
        database: Database,
        *,
        key: bytes = KEY,
        clock: ManualClock | None = None,
        hasher: Hasher | None = None,
        users: Users | None = None,
    ) -> None:
        self.clock = clock or ManualClock(now_ms=1_732_330_000_000)
        self.events: list[SecurityEvent] = []
        self.tokens = Tokens(configured_keys("HS256", signing=KEY), clock=self.clock)
        self.revoked = Revoked()
        self.revocations = Revocations(database)
        self.rung = 0
        users, refresh_tokens = users or Users(database), RefreshTokens(database)
        passwords = Passwords(hasher)
        self.authentication = Authentication(
            self.tokens,
            passwords,
            users=users,
            refresh_tokens=refresh_tokens,
            api_keys=ApiKeys(ApiKeyTable(database), clock=self.clock),
            providers=Providers(),
            proofs=Proofs(announce=lambda topic, digest: None, clock=self.clock),
            revoked=self.revoked,
            revocations=self.revocations,
            report=self.events.append,
            clock=self.clock,
        )
        self.accounts = Accounts(
            self.authentication,
            passwords,
            MultiFactor(SecondFactors(database), Sealer(key), issuer="krin", clock=self.clock),
            Lockout(clock=self.clock, report=self.events.append),
            users=users,
            ring=self._ring,
            report=self.events.append,
            clock=self.clock,
        )
        self.name = ""
        self.secret = b""
        self.recovery_codes: list[str] = []

    def _ring(self) -> None:
        self.rung += 1

    async def counts(self, caller: Caller) -> bool:
        """Whether tokens of this caller's session are still accepted, once the nodes have looked."""
        now = datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC)
        self.revoked.apply(await self.revocations.after(self.revoked.number, now=now))
        try:
            return self.authentication.judge(caller) is not None
        except HubError:
            return False

    async def hire(self) -> None:
        self.name = next(NAMES)
        await self.authentication.create_user(self.name, PASSWORD, roles=["trader"], teams=[])

    async def login(self, password: str = PASSWORD, *, address: str = HOME, **codes: str) -> TokenPair:
        return await self.accounts.login(self.name, password, address=address, **codes)

    def caller(self, pair: TokenPair) -> Caller:
        return caller_of(self.tokens.verify(pair.access_token), transport="rest", address=HOME)

    async def enrol(self) -> Caller:
        """An app and recovery codes; answers the caller that has shown both factors."""
        caller = self.caller(await self.login())
        [text] = parse_qs(urlsplit(await self.accounts.enrol(caller, PASSWORD)).query)["secret"]
        self.secret = base64.b32decode(text)
        self.clock.advance(1)
        confirmed = await self.accounts.confirm(caller, self.code())
        self.recovery_codes = confirmed.recovery_codes
        self.clock.advance(29)
        return self.caller(confirmed.token)

    def code(self, away: int = 0) -> str:
        """What the app shows, or showed `away` steps ago (negative)."""
        return totp.code(self.secret, totp.step_at(self.clock.now_ms() / 1000) + away)

    def elsewhere(self, database: Database, **parts: Any) -> Desk:
        """The same person at another node."""
        made = Desk(database, **({"clock": self.clock} | parts))
        made.name, made.secret = self.name, self.secret
        return made

    def reported(self, name: str) -> list[SecurityEvent]:
        return [each for each in self.events if each.name == name]


@pytest_asyncio.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    made = Desk(database)
    await made.hire()
    yield made


async def refused(work: Any) -> HubError:
    with pytest.raises(HubError) as caught:
        await work
    return caught.value


# --- signing in


async def test_a_password_alone_is_one_factor_and_a_code_makes_it_two(desk: Desk) -> None:
    single = desk.caller(await desk.login())
    double = await desk.enrol()
    again = desk.caller(await desk.login(otp=desk.code()))

    assert (single.amr, single.auth_time) == (("pwd",), 1_732_330_000)
    assert double.amr == again.amr == ("pwd", "otp", "mfa")
    assert double.sid not in (single.sid, again.sid)
    assert not await desk.counts(single)
    assert await desk.counts(double)
    assert desk.rung == 1
    assert [each.user for each in desk.reported("authn_login_success")] == [desk.name] * 3


async def test_a_refresh_keeps_how_and_when_somebody_signed_in(desk: Desk) -> None:
    await desk.enrol()
    pair = await desk.login(otp=desk.code())
    desk.clock.advance(600)
    assert pair.refresh_token is not None
    fresh = desk.caller(await desk.authentication.refresh(pair.refresh_token))

    assert (fresh.amr, fresh.auth_time, fresh.sid) == (
        ("pwd", "otp", "mfa"),
        desk.caller(pair).auth_time,
        desk.caller(pair).sid,
    )


async def test_c51_the_right_password_without_a_code_says_what_is_missing_and_a_wrong_one_does_not(desk: Desk) -> None:
    await desk.enrol()
    missing = await refused(desk.login())
    wrong = await refused(desk.login("wrong", otp=desk.code()))
    unknown = await refused(desk.accounts.login("nobody", "wrong", address=HOME, otp="123456"))

    assert missing.code is ErrorCode.MFA_REQUIRED
    assert "otp" in missing.message and "recovery_code" in missing.message
    assert wrong.code is unknown.code is ErrorCode.UNAUTHORIZED
    assert wrong.message == unknown.message


async def test_c48_wrong_codes_count_like_wrong_passwords(desk: Desk) -> None:
    await desk.enrol()
    outcomes = []
    for _ in range(10):
        desk.clock.advance(75)  # past the bound of the code itself, within that of the account
        outcomes.append((await refused(desk.login(otp="000000", address="10.6.6.6"))).code)
    eleventh = await refused(desk.login(otp=desk.code(), address="10.6.6.6"))

    assert outcomes == [ErrorCode.UNAUTHORIZED] * 10
    assert (eleventh.code, eleventh.message) == (ErrorCode.RATE_LIMITED, "too many failed sign-ins")
    assert desk.caller(await desk.login(otp=desk.code())).user == desk.name  # from home


async def test_c47_a_disabled_user_is_told_what_an_unknown_one_is(desk: Desk, database: Database) -> None:
    await Users(database).update(desk.name, disabled=True, now=datetime.now(UTC))
    disabled = await refused(desk.login())
    unknown = await refused(desk.accounts.login("nobody", PASSWORD, address=HOME))

    assert (disabled.code, disabled.message) == (unknown.code, unknown.message)


# --- codes


async def test_c47_whoever_is_refused_cost_one_look_up_and_one_hash(desk: Desk, database: Database) -> None:
    class CountingUsers(Users):
        async def get(self, name: str) -> User | None:
            work.append("look-up")
            return await super().get(name)

    class CountingHasher(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:
            work.append(str(hash).rsplit("$", 2)[0])
            return super().verify(hash, password)

    work: list[str] = []
    hasher = CountingHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    counted = desk.elsewhere(database, users=CountingUsers(database), hasher=hasher)
    gone, without = next(NAMES), next(NAMES)
    await counted.authentication.create_user(gone, PASSWORD, roles=[], teams=[])
    await Users(database).update(gone, disabled=True, now=datetime.now(UTC))
    await counted.authentication.create_user(without, None, roles=[], teams=[])
    asked = [(desk.name, "a loud horse"), ("nobody", PASSWORD), (gone, PASSWORD), (without, PASSWORD), ("a\0b", "x")]
    for name, password in asked:
        work.clear()
        error = await refused(counted.accounts.login(name, password, address=HOME))

        assert (error.code, error.message) == (ErrorCode.UNAUTHORIZED, "unknown name or wrong password")
        assert work == ["look-up", "$argon2id$v=19$m=19456,t=2,p=1"], name


async def test_c49_a_code_works_once_on_all_nodes_together(desk: Desk, database: Database) -> None:
    await desk.enrol()
    other = Desk(database, clock=desk.clock)
    other.name = desk.name
    code = desk.code()
    outcomes = await asyncio.gather(*(each.login(otp=code) for each in (desk, other) * 2), return_exceptions=True)

    refusals = [each for each in outcomes if isinstance(each, HubError)]
    assert len(refusals) == 3
    assert {each.code for each in refusals} == {ErrorCode.UNAUTHORIZED}
    assert all(each.message.startswith("otp_reused") for each in refusals)
    reported = [(event.name, event.user, event.allowed) for event in (*desk.events, *other.events)]
    assert reported.count(("sequence_fail", desk.name, False)) == 3


@pytest.mark.parametrize(("away", "right"), [(-2, False), (-1, True), (0, True), (1, False)])
async def test_c49_the_current_step_and_one_past_step_are_accepted(desk: Desk, away: int, right: bool) -> None:
    await desk.enrol()
    desk.clock.advance(300)
    if right:
        await desk.login(otp=desk.code(away))
    else:
        assert (await refused(desk.login(otp=desk.code(away)))).code is ErrorCode.UNAUTHORIZED


async def test_c49_an_older_step_is_refused_when_a_newer_one_was_used(desk: Desk) -> None:
    await desk.enrol()
    desk.clock.advance(300)
    await desk.login(otp=desk.code())

    assert (await refused(desk.login(otp=desk.code(-1)))).message.startswith("otp_reused")


async def test_c49_the_sixth_try_in_five_minutes_waits_even_when_it_is_right(desk: Desk) -> None:
    caller = await desk.enrol()
    wrong = [await refused(desk.accounts.step_up(caller, otp="000000", recovery_code=None)) for _ in range(MAX_TRIES)]
    desk.clock.advance(100)
    sixth = await refused(desk.accounts.step_up(caller, otp=desk.code(), recovery_code=None))
    desk.clock.advance(200)
    await desk.accounts.step_up(caller, otp=desk.code(), recovery_code=None)

    assert {each.code for each in wrong} == {ErrorCode.UNAUTHORIZED}
    assert sixth.code is ErrorCode.RATE_LIMITED
    assert sixth.retry_after_ms == 200_000


async def test_c49_the_secret_is_not_in_the_database_and_opens_with_one_key_for_one_user(
    desk: Desk, database: Database
) -> None:
    await desk.enrol()
    elsewhere = Desk(database, key=bytes(32), clock=desk.clock)
    elsewhere.name = desk.name
    everything = await database.fetch("SELECT s::text FROM second_factors s UNION ALL SELECT a::text FROM audit_log a")

    assert not any(desk.secret.hex() in row[0] for row in everything)
    assert (await refused(elsewhere.login(otp=desk.code()))).code is ErrorCode.NOT_AVAILABLE


async def test_c50_each_of_ten_recovery_codes_works_once_and_is_reported(desk: Desk) -> None:
    caller = await desk.enrol()
    first = desk.recovery_codes[0]
    await desk.login(recovery_code=first.upper().replace("-", " "))
    again = await refused(desk.login(recovery_code=first))

    assert len(set(desk.recovery_codes)) == 10
    assert all(math.log2(32) * len(each.replace("-", "")) >= 112 for each in desk.recovery_codes)
    assert again.code is ErrorCode.UNAUTHORIZED
    assert (await desk.accounts.mfa_status(caller)).recovery_codes_left == 9
    assert [each.severity for each in desk.reported("authn_recovery_code_used")] == ["WARN"]


async def test_c50_of_two_who_use_a_recovery_code_at_once_one_comes_in(desk: Desk) -> None:
    await desk.enrol()
    outcomes = await asyncio.gather(
        *(desk.login(recovery_code=desk.recovery_codes[0]) for _ in range(4)), return_exceptions=True
    )

    assert sum(isinstance(each, TokenPair) for each in outcomes) == 1


async def test_c50_new_recovery_codes_end_the_old_ones(desk: Desk, database: Database) -> None:
    caller = await desk.enrol()
    fresh = await desk.accounts.new_recovery_codes(caller)
    await desk.login(recovery_code=fresh[0])
    hashes = await database.fetch("SELECT code_hash FROM recovery_codes")

    assert (await refused(desk.login(recovery_code=desk.recovery_codes[0]))).code is ErrorCode.UNAUTHORIZED
    assert not any(code.encode() in row[0] for row in hashes for code in fresh)


# --- enrolment


async def test_an_app_counts_only_after_it_has_shown_a_right_code(desk: Desk) -> None:
    caller = desk.caller(await desk.login())
    await desk.accounts.enrol(caller, PASSWORD)
    wrong = await refused(desk.accounts.confirm(caller, "000000"))
    await desk.login()

    assert wrong.code is ErrorCode.UNAUTHORIZED
    assert not (await desk.accounts.mfa_status(caller)).enabled
    assert (await refused(desk.accounts.step_up(caller, otp="000000", recovery_code=None))).code is (
        ErrorCode.ILLEGAL_TRANSITION
    )


async def test_enrolment_wants_the_password_and_only_one_second_factor(desk: Desk) -> None:
    single = desk.caller(await desk.login())
    wrong = await refused(desk.accounts.enrol(single, "wrong"))
    double = await desk.enrol()
    second = await refused(desk.accounts.enrol(double, PASSWORD))
    confirmed = await refused(desk.accounts.confirm(double, desk.code()))

    assert wrong.code is ErrorCode.UNAUTHORIZED
    assert second.code is confirmed.code is ErrorCode.ILLEGAL_TRANSITION


async def test_without_a_second_factor_again_a_password_is_enough(desk: Desk) -> None:
    caller = await desk.enrol()
    other = desk.caller(await desk.login(otp=desk.code()))
    desk.clock.advance(1)
    await desk.accounts.disable(caller)

    assert not await desk.counts(other)
    assert await desk.counts(caller)
    assert desk.caller(await desk.login()).amr == ("pwd",)
    assert (await refused(desk.accounts.disable(caller))).code is ErrorCode.ILLEGAL_TRANSITION
    assert (await refused(desk.accounts.new_recovery_codes(caller))).code is ErrorCode.ILLEGAL_TRANSITION


@pytest.mark.parametrize("principal", ["machine", "operator", "external"])
async def test_whoever_did_not_sign_in_here_has_no_account_to_look_after(desk: Desk, principal: Any) -> None:
    caller = msgspec.structs.replace(desk.caller(await desk.login()), principal=principal)

    assert (await refused(desk.accounts.enrol(caller, PASSWORD))).code is ErrorCode.PERMISSION_DENIED
    assert (await refused(desk.accounts.mfa_status(caller))).code is ErrorCode.PERMISSION_DENIED


# --- step-up


async def test_c51_stepping_up_is_the_same_session_with_two_factors_as_of_now(desk: Desk) -> None:
    await desk.enrol()
    earlier = await desk.login(recovery_code=desk.recovery_codes[0])
    desk.clock.advance(400)
    caller = desk.caller(earlier)
    stepped = await desk.accounts.step_up(caller, otp=desk.code(), recovery_code=None)
    after = desk.caller(stepped)

    assert stepped.refresh_token is None
    assert (after.amr, after.sid, after.roles) == (("pwd", "otp", "mfa"), caller.sid, caller.roles)
    assert after.auth_time == caller.auth_time + 400
    assert earlier.refresh_token is not None
    refreshed = desk.caller(await desk.authentication.refresh(earlier.refresh_token))
    assert (refreshed.amr, refreshed.auth_time) == (after.amr, after.auth_time)


async def test_a_session_that_has_ended_cannot_step_up(desk: Desk, database: Database) -> None:
    caller = await desk.enrol()
    now = await database.fetch_value("SELECT now()")
    await RefreshTokens(database).revoke_subject(desk.name, now=now)

    error = await refused(desk.accounts.step_up(caller, otp=desk.code(), recovery_code=None))
    assert error.code is ErrorCode.TOKEN_INVALID


# --- passwords


async def test_c46_another_password_takes_the_old_one_and_ends_the_other_sessions(desk: Desk) -> None:
    caller, other = desk.caller(await desk.login()), desk.caller(await desk.login())
    desk.clock.advance(1)
    await desk.accounts.change_password(caller, PASSWORD, "a loud horse in the sun")

    assert not await desk.counts(other)
    assert await desk.counts(caller)
    assert desk.rung == 1
    assert (await refused(desk.login())).code is ErrorCode.UNAUTHORIZED
    await desk.login("a loud horse in the sun")
    assert len(desk.reported("authn_password_change")) == 1


@pytest.mark.parametrize("new", ["password1", "short", "krin2026!", "x" * 1025])
async def test_c46_a_password_that_is_easily_guessed_is_refused_with_its_place(desk: Desk, new: str) -> None:
    caller = desk.caller(await desk.login())
    error = await refused(desk.accounts.change_password(caller, PASSWORD, new))

    assert (error.code, error.path) == (ErrorCode.SCHEMA_INVALID, "$.new_password")
    await desk.login()


async def test_another_password_wants_the_old_one_and_the_second_factor(desk: Desk) -> None:
    single = desk.caller(await desk.login())
    wrong = await refused(desk.accounts.change_password(single, "wrong", "a loud horse in the sun"))
    await desk.enrol()
    alone = await refused(desk.accounts.change_password(single, PASSWORD, "a loud horse in the sun"))

    assert wrong.code is ErrorCode.UNAUTHORIZED
    assert alone.code is ErrorCode.MFA_REQUIRED


class HeldHasher(PasswordHasher):
    """Checks a password and keeps the answer back, from `hold` until `release`."""

    def __init__(self) -> None:
        super().__init__(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self.checked = threading.Event()
        self._open = threading.Event()

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:
        matches = super().verify(hash, password)
        self.checked.set()
        assert self._open.wait(10)
        return matches

    def release(self) -> None:
        self._open.set()


async def test_a_sign_in_with_the_old_password_that_is_under_way_ends_with_the_change(
    desk: Desk, database: Database
) -> None:
    hasher = HeldHasher()
    caller = desk.caller(await desk.login())
    under_way = asyncio.create_task(desk.elsewhere(database, hasher=hasher).login())
    await asyncio.to_thread(hasher.checked.wait, 10)
    await desk.accounts.change_password(caller, PASSWORD, "a loud horse in the snow")
    hasher.release()

    assert (await refused(under_way)).code is ErrorCode.UNAUTHORIZED


async def test_of_two_changes_of_a_password_at_once_one_counts(desk: Desk) -> None:
    caller = desk.caller(await desk.login())
    news = [f"a loud horse in the snow {number}" for number in range(4)]
    done = await asyncio.gather(
        *(desk.accounts.change_password(caller, PASSWORD, new) for new in news), return_exceptions=True
    )
    [winner] = [new for new, outcome in zip(news, done, strict=True) if outcome is None]

    assert {each.code for each in done if isinstance(each, HubError)} == {ErrorCode.UNAUTHORIZED}
    await desk.login(winner)


@pytest.mark.parametrize("by", ["login", "step_up"])
async def test_a_token_signed_a_moment_after_the_change_by_another_clock_does_not_outlive_it(
    desk: Desk, database: Database, by: str
) -> None:
    caller = await desk.enrol()
    late = ManualClock(now_ms=desk.clock.now_ms() - 3_000)
    changing = caller_of(
        desk.tokens.verify((await desk.login(otp=desk.code())).access_token), transport="rest", address=HOME
    )
    desk.clock.advance(30)
    if by == "login":
        other = desk.caller(await desk.login(otp=desk.code()))
    else:
        other = desk.caller(await desk.accounts.step_up(caller, otp=desk.code(), recovery_code=None))
    late.advance(30)
    await desk.elsewhere(database, clock=late).accounts.change_password(changing, PASSWORD, "a loud horse in the snow")

    assert not await desk.counts(other)
    assert await desk.counts(changing)


async def test_nothing_that_was_reported_holds_a_secret(desk: Desk) -> None:
    caller = await desk.enrol()
    code = desk.code()
    await desk.login(otp=code)
    await refused(desk.login("a wrong password", otp=code))
    await desk.accounts.change_password(caller, PASSWORD, "a loud horse in the sun")
    told = msgspec.json.encode(desk.events).decode()

    assert len(desk.events) >= 4
    assert not [each for each in (PASSWORD, "a wrong password", "a loud horse", code) if each in told]
