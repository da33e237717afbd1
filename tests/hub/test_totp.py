"""Time-based codes: the vectors of RFC 6238, and which steps are accepted (C49)."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth import totp

RFC_SECRET = b"12345678901234567890"
# RFC 6238 appendix B, the rows of SHA-1.
VECTORS = {
    59: "94287082",
    1111111109: "07081804",
    1111111111: "14050471",
    1234567890: "89005924",
    2000000000: "69279037",
    20000000000: "65353130",
}


@pytest.mark.parametrize(("now_s", "expected"), VECTORS.items())
def test_c49_the_vectors_of_rfc_6238(now_s: int, expected: str) -> None:
    assert totp.code(RFC_SECRET, totp.step_at(now_s), digits=8) == expected
    assert totp.code(RFC_SECRET, totp.step_at(now_s)) == expected[2:]


def test_c49_a_secret_has_160_random_bits() -> None:
    secrets = {totp.new_secret() for _ in range(100)}

    assert len(secrets) == 100
    assert {len(each) for each in secrets} == {20}


@given(st.binary(min_size=20, max_size=20), st.integers(100, 10**8), st.integers(-5, 5))
def test_c49_the_current_step_and_one_past_step_are_accepted_and_no_other(secret: bytes, step: int, away: int) -> None:
    accepted = {totp.code(secret, step - 1): step - 1} | {totp.code(secret, step): step}
    given = totp.code(secret, step + away)

    assert totp.matching_step(secret, given, now_s=step * 30 + 29.9) == accepted.get(given)


@pytest.mark.parametrize(
    "text", ["", "0", "287082x", "２８７０８２", "\u0662\u0668\u0667\u0660\u0668\u0662", " 287082"]
)
def test_what_only_looks_like_the_code_is_not_the_code(text: str) -> None:
    assert totp.matching_step(RFC_SECRET, text, now_s=59) is None


def test_the_uri_carries_the_secret_and_survives_any_name() -> None:
    parts = urlsplit(totp.uri(RFC_SECRET, account="ann b/c?d@e:f", issuer="Krin & Co"))
    query = parse_qs(parts.query)

    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert unquote(parts.path) == "/Krin & Co:ann b/c?d@e:f"
    assert base64.b32decode(query["secret"][0]) == RFC_SECRET
    assert query["issuer"] == ["Krin & Co"]
