"""The one number of a security audit (checklist 118 to 125): bounded, and it never falls when something gets worse."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hub.guard.limits import Usage
from hub.guard.security_audit import (
    MALFORMED,
    Sanitization,
    SecurityAudit,
    Threat,
    TokenCheck,
    Violation,
    calculate_security_score,
)
from protocol.errors import ErrorCode, HubError

GOOD, BAD, NONE = (
    TokenCheck(valid=True, subject="ann"),
    TokenCheck(reason="token_invalid"),
    TokenCheck(reason="not_needed"),
)
tokens = st.sampled_from([GOOD, BAD, NONE])
usages = st.builds(
    lambda allowed, limit, used: Usage(allowed, limit, max(0, limit - used), 0), st.booleans(), st.integers(1, 1000), st.integers(0, 2000)
)  # fmt: skip
sanitizations = st.builds(
    lambda changes, violations: Sanitization(
        ok=not violations, changes=("c",) * changes, violations=(Violation("bad_request"),) * violations
    ),
    st.integers(0, 30),
    st.integers(0, 30),
)
threats = st.builds(lambda score: Threat(score=score), st.integers(0, 100))


@given(tokens, usages, sanitizations, threats)
def test_the_score_lies_between_0_and_100(
    token: TokenCheck, usage: Usage, sanitization: Sanitization, threat: Threat
) -> None:
    assert 0 <= calculate_security_score(token, usage, sanitization, threat) <= 100


@given(tokens, usages, sanitizations, threats, st.integers(0, 100), st.integers(0, 5))
def test_the_score_never_falls_when_one_input_gets_worse(
    token: TokenCheck, usage: Usage, sanitization: Sanitization, threat: Threat, more: int, added: int
) -> None:
    score = calculate_security_score(token, usage, sanitization, threat)
    dirtier = Sanitization(
        ok=False,
        changes=sanitization.changes + ("c",) * added,
        violations=(*sanitization.violations, Violation("schema_invalid")),
    )
    fuller = msgspec.structs.replace(usage, remaining=max(0, usage.remaining - more))
    assert calculate_security_score(BAD, usage, sanitization, threat) >= score
    assert calculate_security_score(token, fuller, sanitization, threat) >= score
    assert calculate_security_score(token, Usage(False, usage.limit, 0, 0), sanitization, threat) >= score
    assert calculate_security_score(token, usage, dirtier, threat) >= score
    worse = Threat(score=min(100, threat.score + more))
    assert calculate_security_score(token, usage, sanitization, worse) >= score


def test_nothing_to_see_is_0_and_everything_wrong_is_100() -> None:
    full = Usage(True, 100, 100, 0)
    dirty = Sanitization(ok=False, violations=(Violation("bad_request"),) * 2)
    assert calculate_security_score(GOOD, full, Sanitization(), Threat()) == 0
    assert calculate_security_score(BAD, Usage(False, 100, 0, 0), dirty, Threat(score=100)) == 100


def test_what_is_found_wrong_while_handling_is_added_without_the_value() -> None:
    audit = SecurityAudit(
        token=GOOD, rate_limit=Usage(True, 1, 1, 0), sanitization=Sanitization(), threat=Threat(), timestamp=1, severity=0
    )  # fmt: skip
    after = audit.after(HubError(ErrorCode.SCHEMA_INVALID, "expected `int`", path="$.limit"))
    assert not after.sanitization.ok
    assert after.sanitization.violations == (Violation("schema_invalid", "$.limit"),)
    assert after.severity == 10
    assert msgspec.json.decode(msgspec.json.encode(after))["rateLimit"]["limit"] == 1
    assert ErrorCode.PERMISSION_DENIED not in MALFORMED
    assert audit.after(HubError(ErrorCode.PERMISSION_DENIED, "no")) is audit
