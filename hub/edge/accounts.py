"""`/v1/auth`: signing in with a password and a second factor, and looking after both."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import segno
from msgspec import Meta
from starlette.requests import Request

from hub.auth.accounts import Accounts
from hub.caller import Caller
from hub.edge.body import read_struct
from hub.edge.envelope import KrinAPIService
from protocol.fields import shaped

Otp = Annotated[str, shaped(r"^[0-9]{6}\Z", "the six digits that the authenticator app shows")]
RecoveryCode = Annotated[str, Meta(min_length=1, max_length=64)]


class LoginBody(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    password: str
    otp: Otp | None = None
    recovery_code: RecoveryCode | None = None


class StepUpBody(msgspec.Struct, forbid_unknown_fields=True):
    otp: Otp | None = None
    recovery_code: RecoveryCode | None = None


class PasswordBody(msgspec.Struct, forbid_unknown_fields=True):
    old_password: str
    new_password: str


class EnrolBody(msgspec.Struct, forbid_unknown_fields=True):
    password: str


class ConfirmBody(msgspec.Struct, forbid_unknown_fields=True):
    otp: Otp


class Enrolment(msgspec.Struct, frozen=True):
    """`uri` is what the QR code holds; `qr` is that code as an image, a `data:` URI."""

    uri: str
    qr: str


class RecoveryCodes(msgspec.Struct, frozen=True):
    recovery_codes: list[str]


class Done(msgspec.Struct, frozen=True):
    """Nothing to tell."""


class AccountRoutes:
    def __init__(self, service: KrinAPIService, accounts: Accounts, *, max_body_bytes: int) -> None:
        self._accounts = accounts
        self._max_body_bytes = max_body_bytes
        self.routes = [
            service.route("POST /v1/auth/login", self._login),
            service.route("POST /v1/auth/step-up", self._step_up),
            service.route("POST /v1/auth/password", self._password),
            service.route("GET /v1/auth/mfa", self._mfa),
            service.route("POST /v1/auth/mfa/enrol", self._enrol),
            service.route("POST /v1/auth/mfa/confirm", self._confirm),
            service.route("POST /v1/auth/mfa/recovery-codes", self._recovery_codes),
            service.route("POST /v1/auth/mfa/disable", self._disable),
        ]

    async def _login(self, request: Request, caller: Caller) -> Any:
        body: LoginBody = await self._body(request, LoginBody)
        return await self._accounts.login(
            body.name, body.password, address=caller.address, otp=body.otp, recovery_code=body.recovery_code
        )

    async def _step_up(self, request: Request, caller: Caller) -> Any:
        body: StepUpBody = await self._body(request, StepUpBody)
        return await self._accounts.step_up(caller, otp=body.otp, recovery_code=body.recovery_code)

    async def _password(self, request: Request, caller: Caller) -> Any:
        body: PasswordBody = await self._body(request, PasswordBody)
        await self._accounts.change_password(caller, body.old_password, body.new_password)
        return Done()

    async def _mfa(self, request: Request, caller: Caller) -> Any:
        return await self._accounts.mfa_status(caller)

    async def _enrol(self, request: Request, caller: Caller) -> Any:
        body: EnrolBody = await self._body(request, EnrolBody)
        uri = await self._accounts.enrol(caller, body.password)
        return Enrolment(uri, segno.make(uri, error="m", micro=False).svg_data_uri(scale=4))

    async def _confirm(self, request: Request, caller: Caller) -> Any:
        body: ConfirmBody = await self._body(request, ConfirmBody)
        return await self._accounts.confirm(caller, body.otp)

    async def _recovery_codes(self, request: Request, caller: Caller) -> Any:
        return RecoveryCodes(await self._accounts.new_recovery_codes(caller))

    async def _disable(self, request: Request, caller: Caller) -> Any:
        await self._accounts.disable(caller)
        return Done()

    async def _body(self, request: Request, kind: type[Any]) -> Any:
        return await read_struct(request, self._max_body_bytes, kind)
