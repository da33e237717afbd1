"""Access tokens: what is accepted, and everything that only looks like one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from clock import ManualClock
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hub.auth.service import caller_of
from hub.auth.tokens import LEEWAY_S, Tokens
from hub.caller import Grant
from protocol.errors import ErrorCode, HubError

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))


@pytest.fixture
def clock() -> ManualClock:
    # PyJWT reads the wall clock itself, so the manual one starts there.
    return ManualClock(now_ms=time.time_ns() // 1_000_000)


@pytest.fixture
def tokens(clock: ManualClock) -> Tokens:
    return Tokens(clock=clock, signing_key=KEY, verifying_key=KEY)


def claims(clock: ManualClock, **changes: Any) -> dict[str, Any]:
    now = clock.now_ms() // 1000
    whole = {
        "iss": "krin",
        "aud": "krin",
        "sub": "eve",
        "iat": now,
        "exp": now + 600,
        "jti": "j1",
        "roles": ["admin"],
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def signed(
    payload: dict[str, Any], *, key: Any = KEY, algorithm: str = "HS256", typ: Any = "at+jwt", **header: Any
) -> str:
    return jwt.encode(payload, key, algorithm=algorithm, headers={"typ": typ, **header})


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def refused(tokens: Tokens, token: str) -> HubError:
    with pytest.raises(HubError) as caught:
        tokens.verify(token)
    assert token[:20] not in str(caught.value) or not token
    return caught.value


def test_what_the_hub_issues_it_accepts_with_all_it_says(tokens: Tokens) -> None:
    grant = Grant(publish=("custom:*",))
    token = tokens.issue("ann", roles=["trader", "agent"], teams=["alpha"], grant=grant, ttl_s=60)

    found = tokens.verify(token)

    assert (found.sub, found.roles, found.teams, found.grant) == (
        "ann",
        frozenset({"trader", "agent"}),
        frozenset({"alpha"}),
        grant,
    )


def test_a_token_says_how_and_when_somebody_signed_in_and_who_it_speaks_for(tokens: Tokens) -> None:
    token = tokens.issue(
        "ann", roles=[], ttl_s=60, principal="user", amr=["pwd", "otp"], auth_time=1_700_000_000, sid="family-1"
    )

    caller = caller_of(tokens.verify(token), transport="rest", address="127.0.0.1")

    assert (caller.principal, caller.amr, caller.auth_time, caller.sid) == (
        "user",
        ("pwd", "otp"),
        1_700_000_000,
        "family-1",
    )
    assert caller.jti == tokens.verify(token).jti


def test_a_token_that_no_sign_in_produced_claims_none(tokens: Tokens) -> None:
    found = tokens.verify(tokens.issue("robot", roles=[], ttl_s=60, principal="machine"))

    assert (found.principal, found.amr, found.auth_time, found.sid) == ("machine", (), 0, "")


def test_a_token_made_by_hand_with_the_right_key_is_accepted(tokens: Tokens, clock: ManualClock) -> None:
    assert tokens.verify(signed(claims(clock))).sub == "eve"


def test_two_tokens_never_have_the_same_id(tokens: Tokens) -> None:
    ids = {tokens.verify(tokens.issue("ann", roles=[], ttl_s=60)).jti for _ in range(50)}

    assert len(ids) == 50


@pytest.mark.parametrize(
    "changes",
    [
        {"jti": None},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"aud": None},
        {"iss": None},
        {"aud": "other"},
        {"aud": "krin2"},
        {"aud": "kri"},
        {"aud": ["other"]},
        {"aud": []},
        {"aud": {"krin": 1}},
        {"iss": "krin.evil"},
        {"iss": "kri"},
        {"iss": ["krin"]},
        {"iss": 3},
        {"sub": 3},
        {"sub": ""},
        {"sub": ["ann"]},
        {"jti": 3},
        {"roles": "admin"},
        {"roles": [1]},
        {"roles": {"admin": True}},
        {"teams": "alpha"},
        {"grant": {"publish": "custom:*"}},
        {"grant": {"admin": True}},
        {"exp": "soon"},
        {"exp": [1]},
        {"exp": 10**30},
        {"iat": "then"},
        {"nbf": 10**12},
        {"principal": "root"},
        {"principal": None, "amr": "pwd"},
        {"amr": [1]},
        {"auth_time": "now"},
        {"sid": 3},
    ],
    ids=str,
)
def test_a_claim_that_is_missing_or_wrong_makes_the_token_invalid(
    tokens: Tokens, clock: ManualClock, changes: dict[str, Any]
) -> None:
    payload = claims(clock) | changes
    payload = {name: value for name, value in payload.items() if value is not None}
    # PyJWT would not encode some of these; a forger is not so kind.
    head, body = part({"alg": "HS256", "typ": "at+jwt"}), part(payload)
    mac = hmac.new(KEY, f"{head}.{body}".encode(), hashlib.sha256).digest()
    token = f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    assert refused(tokens, token).code is ErrorCode.TOKEN_INVALID


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize(
    "forge",
    [
        lambda payload: signed(payload, key=OTHER_KEY),
        lambda payload: signed(payload, algorithm="HS512"),
        lambda payload: signed(payload, algorithm="HS384"),
        lambda payload: signed(payload, key="", algorithm="none"),
        lambda payload: f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{part(payload)}.",
        lambda payload: f"{part({'alg': 'None', 'typ': 'at+jwt'})}.{part(payload)}.",
        lambda payload: f"{part({'alg': 'HS256', 'typ': 'at+jwt'})}.{part(payload)}.",
        lambda payload: f"{part({'typ': 'at+jwt'})}.{part(payload)}.",
        lambda payload: signed(payload, typ="JWT"),
        lambda payload: signed(payload, typ="refresh+jwt"),
        lambda payload: signed(payload, typ=None),
        lambda payload: signed(payload, crit=["x"], x=1),
        lambda payload: signed(payload)[:-4] + "AAAA",
        lambda payload: signed(payload).replace(".", ".A", 1),
        lambda payload: signed(payload) + "." + signed(payload),
        lambda payload: " " + signed(payload),
        lambda payload: "",
        lambda payload: ".",
        lambda payload: "..",
        lambda payload: "a.b.c",
        lambda payload: "é.ü.ö",
        lambda payload: "\ud800.x.y",
        lambda payload: "\x00",
        lambda payload: "A" * 8193,
        lambda payload: signed(payload | {"pad": "x" * 9000}),
        lambda payload: part([1]) + "." + part([2]) + ".x",
    ],
)
def test_a_forged_or_malformed_token_is_invalid(
    tokens: Tokens, clock: ManualClock, forge: Callable[[dict[str, Any]], str]
) -> None:
    assert refused(tokens, forge(claims(clock))).code is ErrorCode.TOKEN_INVALID


def test_a_public_key_is_not_an_hmac_secret(clock: ManualClock) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    tokens = Tokens(clock=clock, algorithm="RS256", verifying_key=public)
    head, body = part({"alg": "HS256", "typ": "at+jwt"}), part(claims(clock))
    mac = hmac.new(public, f"{head}.{body}".encode(), hashlib.sha256).digest()
    token = f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    assert refused(tokens, token).code is ErrorCode.TOKEN_INVALID
    assert tokens.verify(signed(claims(clock), key=private, algorithm="RS256")).sub == "eve"


def test_a_hub_that_only_verifies_takes_tokens_from_elsewhere(clock: ManualClock) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    tokens = Tokens(clock=clock, algorithm="ES256", verifying_key=public, issuer="elsewhere")

    assert tokens.verify(signed(claims(clock, iss="elsewhere"), key=private, algorithm="ES256")).sub == "eve"
    assert refused(tokens, signed(claims(clock), key=private, algorithm="ES256")).code is ErrorCode.TOKEN_INVALID


def test_an_expired_token_is_told_apart_from_an_invalid_one(tokens: Tokens, clock: ManualClock) -> None:
    now = clock.now_ms() // 1000

    assert refused(tokens, signed(claims(clock, exp=now - LEEWAY_S - 2))).code is ErrorCode.TOKEN_EXPIRED


def test_an_expired_token_with_a_wrong_signature_is_invalid_and_says_nothing_of_its_age(
    tokens: Tokens, clock: ManualClock
) -> None:
    old = signed(claims(clock, exp=clock.now_ms() // 1000 - 3600), key=OTHER_KEY)

    assert refused(tokens, old).code is ErrorCode.TOKEN_INVALID


def test_expiry_is_judged_by_the_hubs_own_clock(tokens: Tokens, clock: ManualClock) -> None:
    token = tokens.issue("ann", roles=[], ttl_s=60)
    clock.advance(60 + LEEWAY_S + 2)

    assert refused(tokens, token).code is ErrorCode.TOKEN_EXPIRED
