"""What people do at their own account: sign in, step up, change the password, and look after a second factor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from hub.auth.assurance import mfa_required, two_factors
from hub.auth.lockout import Attempt, Lockout
from hub.auth.multi_factor import MfaStatus, MultiFactor, OtpReused
from hub.auth.passwords import MAX_LENGTH, Passwords, weakness
from hub.auth.service import Authentication, TokenPair, wrong_password
from hub.caller import Caller
from hub.clock import Clock
from hub.guard.events import Report, SecurityEvent, Severity, denied
from protocol.errors import ErrorCode, HubError
from storage.errors import Conflict, NotFound, StorageError
from storage.users import User, Users

# RFC 8176: what was shown, and that it was more than one thing. A recovery code is a one-time password, too.
ONE_FACTOR = ["pwd"]
TWO_FACTORS = ["pwd", "otp", "mfa"]


class Confirmed(msgspec.Struct, frozen=True):
    """The recovery codes are shown only now; the token is of this session and has two factors."""

    recovery_codes: list[str]
    token: TokenPair


class Accounts:
    def __init__(
        self,
        authentication: Authentication,
        passwords: Passwords,
        multi_factor: MultiFactor,
        lockout: Lockout,
        *,
        users: Users,
        ring: Callable[[], None],
        report: Report,
        clock: Clock,
    ) -> None:
        """`ring` tells every node that something was revoked."""
        self._authentication = authentication
        self._passwords = passwords
        self._multi_factor = multi_factor
        self._lockout = lockout
        self._users = users
        self._ring = ring
        self._report = report
        self._clock = clock

    async def login(
        self, name: str, password: str, *, address: str, otp: str | None = None, recovery_code: str | None = None
    ) -> TokenPair:
        """Raises HubError(unauthorized): the same, after the same time, for an unknown name and a wrong password;
        HubError(mfa_required): the password is right and a code is needed; HubError(rate_limited).
        """
        with self._lockout.attempt(name, address) as attempt:
            user = await self._proven(name, password, attempt)
            amr = ONE_FACTOR
            with _stored():
                if await self._multi_factor.enabled(user):
                    await self._second(user, attempt, otp, recovery_code, address=address)
                    amr = TWO_FACTORS
            attempt.succeeded()
        self._tell("authn_login_success", user, address, amr=" ".join(amr))
        return await self._authentication.start_session(user, amr=amr)

    async def step_up(self, caller: Caller, *, otp: str | None, recovery_code: str | None) -> TokenPair:
        """The same session with two factors, as of now. Raises HubError as `login` does."""
        user = await self._account(caller)
        with self._lockout.attempt(user.name, caller.address) as attempt, _stored():
            if not await self._multi_factor.enabled(user):
                raise HubError(ErrorCode.ILLEGAL_TRANSITION, "there is no second factor: enrol one first")
            await self._second(user, attempt, otp, recovery_code, address=caller.address)
        return await self._authentication.step_up(user, caller.sid, amr=TWO_FACTORS)

    async def change_password(self, caller: Caller, old: str, new: str) -> None:
        """Every other session ends. Raises HubError(unauthorized) for a wrong old one, HubError(schema_invalid) for a
        new one that is easily guessed, HubError(mfa_required).
        """
        user = await self._account(caller)
        with _stored():
            if await self._multi_factor.enabled(user) and not two_factors(caller):
                raise mfa_required()
        if (why := weakness(new, words=[user.name])) is not None:
            raise HubError(ErrorCode.SCHEMA_INVALID, why, path="$.new_password")
        with self._lockout.attempt(user.name, caller.address) as attempt:
            proven = await self._proven(user.name, old, attempt)
        hashed = await self._passwords.hash(new)
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        with _stored():
            try:
                await self._users.update(
                    user.name,
                    password_hash=hashed,
                    proven_hash=proven.password_hash,
                    now=now,
                    spared=caller.sid,
                    by=user.name,
                )
            except Conflict:  # of two changes at once the second has shown a password that is none any more
                raise wrong_password() from None
        self._ring()
        self._tell("authn_password_change", user, caller.address)

    async def mfa_status(self, caller: Caller) -> MfaStatus:
        user = await self._account(caller)
        with _stored():
            return await self._multi_factor.status(user)

    async def enrol(self, caller: Caller, password: str) -> str:
        """The URI for an authenticator app. Asks for the password again: a token that was found is not enough."""
        user = await self._account(caller)
        with self._lockout.attempt(user.name, caller.address) as attempt:
            await self._proven(user.name, password, attempt)
        with _stored():
            return await self._multi_factor.begin(user)

    async def confirm(self, caller: Caller, otp: str) -> Confirmed:
        """From now on the second factor is needed; every other session ends."""
        user = await self._account(caller)
        with _stored():
            codes = await self._multi_factor.confirm(user, otp, by=user.name, spared=caller.sid)
        self._ring()
        return Confirmed(codes, await self._authentication.step_up(user, caller.sid, amr=TWO_FACTORS))

    async def new_recovery_codes(self, caller: Caller) -> list[str]:
        user = await self._account(caller)
        with _stored():
            return await self._multi_factor.new_recovery_codes(user)

    async def disable(self, caller: Caller) -> None:
        """Every other session ends."""
        user = await self._account(caller)
        with _stored():
            await self._multi_factor.remove(user, by=user.name, spared=caller.sid)
        self._ring()

    async def _account(self, caller: Caller) -> User:
        """Raises HubError(permission_denied) for whoever did not sign in here with a password, and for an application
        that acts for somebody who did."""
        own = caller.principal == "user" and caller.sid and not caller.client_id
        user = await self._authentication.find_user(caller.user) if own else None
        if user is None or user.disabled:
            raise HubError(ErrorCode.PERMISSION_DENIED, "this is for people who signed in here with a password")
        return user

    async def _proven(self, name: str, password: str, attempt: Attempt) -> User:
        user = await self._authentication.find_user(name)
        stored = user.password_hash if user is not None and not user.disabled else None
        if len(password) > MAX_LENGTH or not await self._passwords.verify(stored, password):
            attempt.failed()
            raise wrong_password()
        assert user is not None
        return user

    async def _second(
        self, user: User, attempt: Attempt, otp: str | None, recovery_code: str | None, *, address: str
    ) -> None:
        if otp is None and recovery_code is None:
            raise HubError(ErrorCode.MFA_REQUIRED, "this account has a second factor: send otp or recovery_code, too")
        try:
            if otp is not None:
                await self._multi_factor.check_otp(user, otp)
            else:
                assert recovery_code is not None
                await self._multi_factor.use_recovery_code(user, recovery_code)
                self._tell("authn_recovery_code_used", user, address, severity="WARN")
        except HubError as error:
            if error.code is ErrorCode.UNAUTHORIZED:
                attempt.failed()
            if isinstance(error, OtpReused):
                self._report(denied("sequence_fail", address, "otp", user=user.name))
            raise

    def _tell(self, name: str, user: User, address: str, *, severity: Severity = "INFO", **detail: object) -> None:
        self._report(
            SecurityEvent(
                name=name, user=user.name, address=address, target=user.name, severity=severity, detail=detail
            )
        )


@contextmanager
def _stored() -> Iterator[None]:
    """What the store says, in words for the peer."""
    try:
        yield
    except NotFound:
        raise HubError(ErrorCode.ILLEGAL_TRANSITION, "there is no second factor") from None
    except StorageError as failure:
        raise HubError(
            ErrorCode.NOT_AVAILABLE, "signing in is not possible right now", retry_after_ms=1000
        ) from failure
