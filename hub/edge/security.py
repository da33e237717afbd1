"""The four checks before a REST request is handled: token, limits, sanitization, threats.

The names are the user's (`RevolutionarySecurityService`, `validateRequest`).
"""

from __future__ import annotations

import re

import msgspec
from starlette.requests import Request

from hub.auth.assurance import mfa_required, two_factors
from hub.auth.service import Authentication, caller_of
from hub.auth.tokens import Claims
from hub.caller import Caller
from hub.clock import Clock
from hub.edge.credentials import FORGERIES, Credentials
from hub.guard.addresses import party
from hub.guard.events import Report, SecurityEvent, denied
from hub.guard.limits import Kind, Limits, Usage
from hub.guard.security_audit import (
    MALFORMED,
    Sanitization,
    SecurityAudit,
    Threat,
    TokenCheck,
    calculate_security_score,
)
from hub.guard.threats import BLOCKED_MS, Threats
from protocol.errors import ErrorCode, HubError

FOREIGN_ORIGIN = "krin.foreign_origin"  # in the scope of a request that a page of another origin has sent
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,64}\Z")
# W3C Trace Context: ff is no version, and one after 00 may have more to say behind what is known of it.
TRACEPARENT = re.compile(
    r"(?:(?=00-.{52}\Z)|(?!00|ff))[0-9a-f]{2}-((?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(?:-.*)?\Z"
)


def traceparent_of(request: Request) -> str | None:
    """The request's `traceparent` as version 00 has it, or nothing of use."""
    found = TRACEPARENT.match(request.headers.get("traceparent", ""))
    return f"00-{found[1]}" if found else None


REASONS = {ErrorCode.TOKEN_INVALID, ErrorCode.TOKEN_EXPIRED, ErrorCode.PROOF_INVALID, ErrorCode.NOT_AVAILABLE}


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """The audit is there whatever was found; `refused` says why the request must not be handled."""

    audit: SecurityAudit
    caller: Caller
    refused: HubError | None


class RevolutionarySecurityService:
    def __init__(
        self,
        authentication: Authentication,
        limits: Limits,
        *,
        credentials: Credentials,
        threats: Threats,
        report: Report,
        clock: Clock,
    ) -> None:
        self._report = report
        self._authentication = authentication
        self._credentials = credentials
        self._limits = limits
        self._threats = threats
        self._clock = clock

    async def validate_request(
        self, request: Request, *, needs_token: bool, challenges: bool = True, limit: Kind = "request"
    ) -> Validation:
        """Check everything, and say everything: a limit is counted also for a token that is no good.

        `challenges`: whoever looks like a threat needs a second factor, where a token is needed at all.
        """
        address = request.client.host if request.client else ""
        rate_limit, refused = self._check_rate_limit(address, limit)
        stranger = Caller(user="", roles=frozenset(), transport="rest", address=address)
        if refused is None and request.scope.get(FOREIGN_ORIGIN):
            refused = HubError(ErrorCode.PERMISSION_DENIED, "pages of this origin may not ask")
        refused = refused or self._refusal(self._threats.assess(address), stranger, challenges=False)
        caller, token = stranger, TokenCheck(reason="not_checked")
        if not needs_token:
            token = TokenCheck(reason="not_needed")
        elif refused is None:  # a signature is the dear part: not for those who are sent away anyhow
            caller, token, refused = await self._validate_token(request, stranger)
        threat = self._threats.assess(address, caller.user)
        refused = refused or self._refusal(threat, caller, challenges=needs_token and challenges)
        sanitization = _sanitize_headers(request)
        audit = SecurityAudit(
            token=token,
            rate_limit=rate_limit,
            sanitization=sanitization,
            threat=threat,
            timestamp=self._clock.now_ms(),
            severity=calculate_security_score(token, rate_limit, sanitization, threat),
        )
        return Validation(audit=audit, caller=caller, refused=refused)

    def audit_request(self, name: str, caller: Caller) -> None:
        """A row of the audit log for a request whose handler failed: nobody knows what it had done by then."""
        failed = SecurityEvent(
            name="krin_request_failed", user=caller.user, address=caller.address, target=name, severity="WARN"
        )
        self._report(failed)

    def note_malformed(self, error: HubError, caller: Caller) -> None:
        """What a handler found wrong with the request itself."""
        if error.code in MALFORMED:
            self._report(denied("input_validation_fail", caller.address, error.code.wire_name, user=caller.user))

    async def _validate_token(self, request: Request, stranger: Caller) -> tuple[Caller, TokenCheck, HubError | None]:
        token, shown = self._credentials.token(request.scope)
        if not token:
            refused = HubError(ErrorCode.UNAUTHORIZED, "send Authorization: Bearer TOKEN")
            return stranger, TokenCheck(reason="missing"), refused
        try:
            claims = self._authentication.authenticate(token, shown)
            if not isinstance(claims, Claims):
                claims = await claims
        except HubError as error:
            reason = error.code.wire_name if error.code in REASONS else "refused"
            if error.code in FORGERIES:
                self._report(denied("authn_token_invalid", stranger.address, "authorization"))
            return stranger, TokenCheck(reason=reason), error
        caller = caller_of(claims, transport="rest", address=stranger.address)
        return caller, TokenCheck(valid=True, subject=caller.user, scopes=tuple(sorted(caller.roles))), None

    def _check_rate_limit(self, address: str, kind: Kind) -> tuple[Usage, HubError | None]:
        refused = None
        try:
            self._limits.spend_address(kind, address)
        except HubError as error:
            refused = error.with_traceback(None)  # or this frame and the error would hold each other
        return self._limits.usage(kind, party(address), address=address, allowed=refused is None), refused

    def _refusal(self, threat: Threat, caller: Caller, *, challenges: bool) -> HubError | None:
        if threat.action == "BLOCK":
            return HubError(ErrorCode.PERMISSION_DENIED, "blocked for now", retry_after_ms=BLOCKED_MS)
        if threat.action == "CHALLENGE" and challenges and not two_factors(caller):
            return mfa_required()
        return None


def _sanitize_headers(request: Request) -> Sanitization:
    """What the hub reads beside the body, and replaces when it is no use."""
    given = request.headers
    changes = tuple(
        f"{name} replaced"
        for name, grammar in (("x-request-id", REQUEST_ID), ("traceparent", TRACEPARENT))
        if name in given and not grammar.match(given[name])
    )
    return Sanitization(changes=changes)
