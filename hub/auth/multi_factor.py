"""Second factors of people: an authenticator app (RFC 6238) and recovery codes for the day it is lost.

A code is good for its own step of 30 s and the next (RFC 6238 section 5.2), once, on one node of all: the step is taken
under the row's lock in Postgres, and so are the tries.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
from datetime import UTC, datetime, timedelta

import msgspec

from hub.auth import totp
from hub.auth.sealing import Sealer, Unreadable
from hub.clock import Clock
from protocol.errors import ErrorCode, HubError
from storage.second_factors import SecondFactor, SecondFactors
from storage.users import User

MAX_TRIES = 5
TRIES_WINDOW = timedelta(minutes=5)
RECOVERY_CODES = 10
RECOVERY_BYTES = 15  # 120 bits: nobody guesses one, so a fast hash will do

logger = logging.getLogger("krin.auth")


class MfaStatus(msgspec.Struct, frozen=True):
    enabled: bool
    recovery_codes_left: int


class OtpReused(HubError):
    """The code is right, and somebody has used it."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.UNAUTHORIZED, "otp_reused: this code was used already, wait for the next one")


def judge(factor: SecondFactor, secret: bytes, given: str, *, now: datetime) -> tuple[SecondFactor, HubError | None]:
    """What a code makes of the factor, and why it is refused; None: it is right."""
    if not factor.tries or now - factor.tries_since >= TRIES_WINDOW:
        factor = msgspec.structs.replace(factor, tries=0, tries_since=now)
    if factor.tries >= MAX_TRIES:
        left = factor.tries_since + TRIES_WINDOW - now
        wait_ms = max(1, left // timedelta(milliseconds=1))
        return factor, HubError(ErrorCode.RATE_LIMITED, "too many wrong codes", retry_after_ms=wait_ms)
    step = totp.matching_step(secret, given, now_s=now.timestamp())
    if step is not None and step > factor.last_step:
        return msgspec.structs.replace(factor, last_step=step, tries=0), None
    refusal = HubError(ErrorCode.UNAUTHORIZED, "the code is not valid") if step is None else OtpReused()
    return msgspec.structs.replace(factor, tries=factor.tries + 1), refusal


class MultiFactor:
    def __init__(self, stored: SecondFactors, sealer: Sealer, *, issuer: str, clock: Clock) -> None:
        self._stored = stored
        self._sealer = sealer
        self._issuer = issuer
        self._clock = clock

    async def enabled(self, user: User) -> bool:
        factor = await self._stored.get(user)
        return factor is not None and factor.confirmed_at is not None

    async def status(self, user: User) -> MfaStatus:
        return MfaStatus(await self.enabled(user), await self._stored.recovery_codes_left(user))

    async def begin(self, user: User) -> str:
        """Start an enrolment; returns the URI for the QR code. Raises HubError(illegal_transition)."""
        secret = totp.new_secret()
        sealed = self._sealer.seal(secret, owner=user.id.bytes)
        if not await self._stored.begin(user, sealed, now=self._now()):
            raise HubError(ErrorCode.ILLEGAL_TRANSITION, "there is a second factor already: disable it first")
        return totp.uri(secret, account=user.name, issuer=self._issuer)

    async def confirm(self, user: User, otp: str, *, by: str, spared: str = "") -> list[str]:
        """The app shows the right code: from now on it is needed. Returns the recovery codes, which nobody keeps.
        Every session of the user but `spared` ends.

        Raises HubError(illegal_transition) when no enrolment waits for it, and what `check_otp` does.
        """
        if await self.enabled(user):
            raise HubError(ErrorCode.ILLEGAL_TRANSITION, "the second factor is confirmed already")
        await self.check_otp(user, otp)
        codes = _recovery_codes()
        hashes = [_hash(code) for code in codes]
        if not await self._stored.confirm(user, hashes, now=self._now(), spared=spared, by=by):
            raise HubError(ErrorCode.ILLEGAL_TRANSITION, "the second factor is confirmed already")
        return codes

    async def check_otp(self, user: User, otp: str) -> None:
        """Raises HubError(unauthorized) for a wrong or a used code, HubError(rate_limited) after five in five minutes,
        HubError(illegal_transition) for somebody without a second factor.
        """

        def decide(factor: SecondFactor) -> tuple[SecondFactor, HubError | None]:
            return judge(factor, self._secret(factor), otp, now=self._now())

        if (refusal := await self._stored.attempt(user, decide)) is not None:
            raise refusal

    async def use_recovery_code(self, user: User, code: str) -> None:
        """Raises HubError(unauthorized) for a wrong or a used one."""
        if not await self._stored.use_recovery_code(user, _hash(code), now=self._now()):
            raise HubError(ErrorCode.UNAUTHORIZED, "the recovery code is not valid")

    async def new_recovery_codes(self, user: User) -> list[str]:
        """In place of all earlier ones. Raises HubError(illegal_transition)."""
        if not await self.enabled(user):
            raise _without()
        codes = _recovery_codes()
        await self._stored.replace_recovery_codes(user, [_hash(code) for code in codes], by=user.name)
        return codes

    async def remove(self, user: User, *, by: str, spared: str = "") -> None:
        """Every session of the user but `spared` ends. Raises HubError(illegal_transition)."""
        if not await self._stored.remove(user, now=self._now(), spared=spared, by=by):
            raise _without()

    def _secret(self, factor: SecondFactor) -> bytes:
        try:
            return self._sealer.open(factor.secret, owner=factor.user_id.bytes)
        except Unreadable:
            logger.error("second factors cannot be read: this node has another encryption key than the one they had")
            raise HubError(ErrorCode.NOT_AVAILABLE, "second factors cannot be checked right now") from None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)


def _recovery_codes() -> list[str]:
    """Four groups of six characters each."""
    texts = (base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES))
    return ["-".join(text[start : start + 6] for start in range(0, len(text), 6)) for text in texts]


def _hash(code: str) -> bytes:
    """However it was typed: groups, spaces and case do not matter."""
    return hashlib.sha256("".join(code.split()).replace("-", "").lower().encode()).digest()


def _without() -> HubError:
    return HubError(ErrorCode.ILLEGAL_TRANSITION, "there is no second factor")
