"""Numbers and names that clients depend on. They are written out here once more, so that no change goes unseen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.close_codes import REASONS, CloseCode, should_reconnect
from protocol.errors import TEMPORARY, ErrorCode, HubError
from protocol.messages import Disconnect, ErrorBody

ERRORS = {
    1000: "internal",
    1001: "unauthorized",
    1002: "unknown_channel",
    1003: "permission_denied",
    1004: "unknown_type",
    1005: "already_subscribed",
    1006: "limit_exceeded",
    1007: "bad_request",
    1008: "not_available",
    1009: "token_expired",
    1010: "token_invalid",
    1011: "rate_limited",
    1012: "unrecoverable_position",
    1013: "schema_invalid",
    1014: "version_conflict",
    1015: "illegal_transition",
    1016: "payload_too_large",
    1017: "idempotency_conflict",
    1018: "timeout",
    1019: "overloaded",
    1020: "mfa_required",
    1021: "not_found",
    1022: "proof_invalid",
}
TEMPORARY_ERRORS = {1000, 1008, 1011, 1018, 1019}
CLOSES = {
    4000: "bad protocol",
    4001: "unauthorized",
    4002: "token invalid",
    4003: "forbidden",
    4004: "connection limit",
    4006: "no connect in time",
    4007: "too many errors",
    4008: "message too big",
    4100: "server error",
    4101: "overloaded",
    4102: "slow consumer",
    4103: "rate limited",
    4200: "draining",
    4201: "no pong",
    4202: "token expired",
    4203: "insufficient state",
    4204: "rebalance",
    4205: "replaced",
}


def test_error_numbers_and_names_are_those_of_version_1() -> None:
    assert {code.value: code.wire_name for code in ErrorCode} == ERRORS


def test_temporary_errors_are_those_of_version_1() -> None:
    assert {code.value for code in TEMPORARY} == TEMPORARY_ERRORS
    assert {code.value for code in ErrorCode if code.temporary} == TEMPORARY_ERRORS


def test_close_codes_and_reasons_are_those_of_version_1() -> None:
    assert {code.value: code.reason for code in CloseCode} == CLOSES
    assert set(REASONS) == set(CloseCode)


@pytest.mark.parametrize("code", list(CloseCode))
def test_the_range_of_a_close_code_tells_whether_to_come_back(code: CloseCode) -> None:
    assert code.reconnect == (code.value >= 4100)
    assert 4000 <= code.value <= 4299
    assert len(code.reason.encode()) <= 123  # RFC 6455: a control frame's payload, less the code


@given(st.integers(min_value=4000, max_value=4999))
def test_a_client_need_not_know_a_code_to_know_what_to_do(code: int) -> None:
    assert should_reconnect(code) == (code >= 4100)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1000, False),
        (1001, True),
        (1002, False),
        (1003, False),
        (1006, True),
        (1007, False),
        (1008, True),
        (1009, False),
        (1011, True),
        (1012, True),
        (1013, True),
    ],
)
def test_standard_close_codes(code: int, expected: bool) -> None:
    assert should_reconnect(code) is expected


@pytest.mark.parametrize("code", list(CloseCode))
def test_the_goodbye_says_what_the_close_frame_says(code: CloseCode) -> None:
    assert Disconnect.of(code) == Disconnect(code=code.value, reason=code.reason, reconnect=code.reconnect)
    assert Disconnect.of(code, 250, "because").retry_after_ms == 250
    assert Disconnect.of(code, 250, "because").reason == "because"


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_error_goes_over_the_wire_with_number_name_and_whether_to_retry(code: ErrorCode) -> None:
    body = ErrorBody.of(HubError(code, "text", path="$.x", retry_after_ms=5))
    assert (body.code, body.name, body.temporary) == (code.value, ERRORS[code.value], code.value in TEMPORARY_ERRORS)
    assert (body.message, body.path, body.retry_after_ms) == ("text", "$.x", 5)
    assert str(HubError(code, "text", path="$.x")) == f"{code.value} {ERRORS[code.value]}: text at $.x"
