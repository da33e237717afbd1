"""What a REST answer says of its own request's security: four checks and one number. Pure.

The names are the user's (`SecurityAudit`, `calculateSecurityScore`). Rule: an audit goes to whoever asked, so it holds
no secret, nothing of the request's content, and nothing about others.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hub.guard.limits import Usage
from protocol.errors import ErrorCode, HubError

Action = Literal["ALLOW", "SLOW", "CHALLENGE", "BLOCK"]

# Together 100. A token that is no good weighs as much as a full threat score: either alone is a reason to look.
TOKEN_WEIGHT = 30
RATE_WEIGHT = 20
RATE_USED_WEIGHT = 10  # of those 20, for a limit that is nearly used up
SANITIZATION_WEIGHT = 20
VIOLATION_WEIGHT = 10
CHANGE_WEIGHT = 2
THREAT_WEIGHT = 30

MALFORMED = (ErrorCode.BAD_REQUEST, ErrorCode.SCHEMA_INVALID, ErrorCode.PAYLOAD_TOO_LARGE, ErrorCode.UNKNOWN_TYPE)


class TokenCheck(msgspec.Struct, frozen=True, kw_only=True):
    """`reason` is None for a valid token, `not_needed` where none is asked for, and else says what is wrong."""

    valid: bool = False
    subject: str | None = None
    scopes: tuple[str, ...] = ()
    reason: str | None = None


class Violation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was refused, and where; never the value."""

    rule: str
    path: str | None = None


class Sanitization(msgspec.Struct, frozen=True, kw_only=True):
    """`changes`: what the hub put in the place of something it could not use."""

    ok: bool = True
    changes: tuple[str, ...] = ()
    violations: tuple[Violation, ...] = ()


class Threat(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of this address and user at the moment. `score` 0 to 100."""

    score: int = 0
    patterns: tuple[str, ...] = ()
    action: Action = "ALLOW"


class SecurityAudit(msgspec.Struct, frozen=True, kw_only=True):
    token: TokenCheck
    rate_limit: Usage = msgspec.field(name="rateLimit")
    sanitization: Sanitization
    threat: Threat
    timestamp: int  # milliseconds since 1970
    severity: int

    def after(self, error: HubError) -> SecurityAudit:
        """The audit of a request whose body or parameters were found wrong later, while it was being handled."""
        if error.code not in MALFORMED:
            return self
        violations = (*self.sanitization.violations, Violation(error.code.wire_name, error.path))
        sanitization = Sanitization(ok=False, changes=self.sanitization.changes, violations=violations)
        severity = calculate_security_score(self.token, self.rate_limit, sanitization, self.threat)
        return msgspec.structs.replace(self, sanitization=sanitization, severity=severity)


def calculate_security_score(token: TokenCheck, rate_limit: Usage, sanitization: Sanitization, threat: Threat) -> int:
    """0 (nothing to see) to 100. It never falls when one of the four gets worse."""
    score = 0.0 if token.valid or token.reason == "not_needed" else TOKEN_WEIGHT
    if not rate_limit.allowed:
        score += RATE_WEIGHT
    elif rate_limit.limit:
        score += RATE_USED_WEIGHT * (1 - rate_limit.remaining / rate_limit.limit)
    found = VIOLATION_WEIGHT * len(sanitization.violations) + CHANGE_WEIGHT * len(sanitization.changes)
    score += min(SANITIZATION_WEIGHT, found)
    score += THREAT_WEIGHT * threat.score / 100
    return round(score)
