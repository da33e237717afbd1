"""Access tokens: what is accepted, and everything that only looks like one (RFC 8725, controls C38 to C42)."""

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
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from hub.auth.keys import KeySet, configured_keys, generate, key_of
from hub.auth.service import caller_of
from hub.auth.tokens import LEEWAY_S, MAX_TOKEN_BYTES, MAX_VERIFIED, Tokens
from hub.caller import Grant
from protocol.errors import ErrorCode, HubError

PRIVATE = generate("EdDSA")
KEY = key_of(PRIVATE, "EdDSA")
OTHER = key_of(generate("EdDSA"), "EdDSA")
SECRET = bytes(range(32))
PEM = KEY.verifying.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
RAW = KEY.verifying.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now_ms=time.time_ns() // 1_000_000)


@pytest.fixture
def tokens(clock: ManualClock) -> Tokens:
    return Tokens(KeySet([KEY], algorithm="EdDSA"), clock=clock)


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


def part(value: Any) -> str:
    return encoded(value if isinstance(value, bytes) else json.dumps(value).encode())


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def signed(payload: Any, *, key: Any = KEY, **header: Any) -> str:
    """By the hub's own key; a header of None is left out. PyJWT would not encode some of these; a forger does."""
    whole = {"alg": "EdDSA", "typ": "at+jwt", "kid": KEY.kid} | header
    message = f"{part({name: value for name, value in whole.items() if value is not None})}.{part(payload)}"
    return f"{message}.{encoded(key.signing.sign(message.encode()))}"


def hmac_signed(payload: Any, secret: bytes, *, algorithm: str = "HS256", **header: Any) -> str:
    whole = {"alg": algorithm, "typ": "at+jwt", "kid": KEY.kid} | header
    message = f"{part({name: value for name, value in whole.items() if value is not None})}.{part(payload)}"
    return f"{message}.{encoded(hmac.digest(secret, message.encode(), algorithm.replace('HS', 'sha')))}"


def unsigned(payload: Any, **header: Any) -> str:
    return f"{part({'typ': 'at+jwt', 'kid': KEY.kid} | header)}.{part(payload)}."


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
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "typ": "at+jwt", "kid": KEY.kid}


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


@pytest.mark.parametrize(
    "header", [{}, {"typ": "AT+JWT"}, {"typ": "application/at+jwt"}, {"cty": "x"}, {"x5t": "unknown, and so ignored"}]
)
def test_a_token_made_by_hand_with_the_right_key_is_accepted(
    tokens: Tokens, clock: ManualClock, header: dict[str, Any]
) -> None:
    assert tokens.verify(signed(claims(clock), **header)).sub == "eve"


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
        {"aud": ["krin2", "kri"]},
        {"aud": []},
        {"aud": {"krin": 1}},
        {"aud": ["krin", 1]},
        {"iss": "krin.evil"},
        {"iss": "kri"},
        {"iss": "Krin"},
        {"iss": ["krin"]},
        {"iss": 3},
        {"sub": 3},
        {"sub": ""},
        {"sub": "x" * 129},
        {"sub": ["ann"]},
        {"sub": "acme|ann"},
        {"sub": "krin"},
        {"jti": 3},
        {"roles": "admin"},
        {"roles": [1]},
        {"roles": {"admin": True}},
        {"teams": "alpha"},
        {"grant": {"publish": "custom:*"}},
        {"grant": {"admin": True}},
        {"exp": "soon"},
        {"exp": "9999999999"},
        {"exp": [1]},
        {"exp": 10**30},
        {"exp": -1},
        {"exp": float("inf")},
        {"exp": True},
        {"iat": "then"},
        {"iat": 10**12},
        {"nbf": 10**12},
        {"nbf": "now"},
        {"principal": "root"},
        {"principal": None, "amr": "pwd"},
        {"amr": [1]},
        {"auth_time": "now"},
        {"sid": 3},
    ],
    ids=str,
)
def test_c39_a_claim_that_is_missing_or_wrong_makes_the_token_invalid(
    tokens: Tokens, clock: ManualClock, changes: dict[str, Any]
) -> None:
    payload = {name: value for name, value in (claims(clock) | changes).items() if value is not None}

    assert refused(tokens, signed(payload)).code is ErrorCode.TOKEN_INVALID


FORGERIES: dict[str, Callable[[dict[str, Any]], str]] = {
    # C38; RFC 8725 section 2.1: weak signatures and insufficient signature validation
    "alg none": lambda payload: unsigned(payload, alg="none"),
    "alg None": lambda payload: unsigned(payload, alg="None"),
    "alg nOnE": lambda payload: unsigned(payload, alg="nOnE"),
    "alg empty": lambda payload: unsigned(payload, alg=""),
    "alg null": lambda payload: unsigned(payload, alg=None),
    "alg a list": lambda payload: unsigned(payload, alg=["EdDSA"]),
    "no alg": lambda payload: unsigned(payload),
    "no signature": lambda payload: signed(payload).rpartition(".")[0] + ".",
    "no signature at all": lambda payload: signed(payload).rpartition(".")[0],
    "a signature of zeros": lambda payload: signed(payload).rpartition(".")[0] + "." + encoded(bytes(64)),
    "HS256 with the public key as PEM": lambda payload: hmac_signed(payload, PEM),
    "HS256 with the public key as bytes": lambda payload: hmac_signed(payload, RAW),
    "HS256 with the public key's own name": lambda payload: hmac_signed(payload, str(KEY.kid).encode()),
    "HS512 with the public key": lambda payload: hmac_signed(payload, PEM, algorithm="HS512"),
    "HS256 and no kid": lambda payload: hmac_signed(payload, SECRET, kid=None),
    "HS256 with an empty secret": lambda payload: hmac_signed(payload, b""),
    "says EdDSA, is HMAC": lambda payload: hmac_signed(payload, PEM, alg="EdDSA"),
    "says RS256": lambda payload: signed(payload, alg="RS256"),
    "says ES256": lambda payload: signed(payload, alg="ES256"),
    "says Ed25519": lambda payload: signed(payload, alg="Ed25519"),
    "says eddsa": lambda payload: signed(payload, alg="eddsa"),
    "another key": lambda payload: signed(payload, key=OTHER),
    "another key by its own name": lambda payload: signed(payload, key=OTHER, kid=OTHER.kid),
    "the end of the signature changed": lambda payload: signed(payload)[:-4] + "AAAA",
    "the payload of another token": lambda payload: _swapped(payload),
    "another spelling of the signature": lambda payload: _respelled(signed(payload)),
    # C40; RFC 8725 sections 2.8 and 3.11: one kind of token for another
    "typ JWT": lambda payload: signed(payload, typ="JWT"),
    "typ of a refresh token": lambda payload: signed(payload, typ="refresh+jwt"),
    "typ of an identity token": lambda payload: signed(payload, typ="id+jwt"),
    "typ with at+jwt inside": lambda payload: signed(payload, typ="not-at+jwt"),
    "typ missing": lambda payload: signed(payload, typ=None),
    "typ a number": lambda payload: signed(payload, typ=1),
    # C41; RFC 8725 section 3.10 and RFC 7515 section 4.1
    "crit": lambda payload: signed(payload, crit=["x"], x=1),
    "crit empty": lambda payload: signed(payload, crit=[]),
    "crit b64": lambda payload: signed(payload, crit=["b64"], b64=True),
    "jku": lambda payload: signed(payload, jku="https://evil.example/jwks.json"),
    "jwk": lambda payload: signed(payload, key=OTHER, jwk=OTHER.public_jwk()),
    "jwk of the right key": lambda payload: signed(payload, jwk=KEY.public_jwk()),
    "x5u": lambda payload: signed(payload, x5u="https://evil.example/x.pem"),
    "x5c": lambda payload: signed(payload, x5c=["MII"]),
    "zip": lambda payload: signed(payload, zip="DEF"),
    "unknown kid": lambda payload: signed(payload, kid="somebody"),
    "kid missing": lambda payload: signed(payload, kid=None),
    "kid a path": lambda payload: signed(payload, kid="../../../dev/null"),
    "kid a statement": lambda payload: signed(payload, kid="x' UNION SELECT 'k"),
    "kid a number": lambda payload: signed(payload, kid=1),
    "kid with a NUL": lambda payload: signed(payload, kid=f"{KEY.kid}\x00"),
    # C42; RFC 8725 section 2.4 to 2.6: shape and size
    "too long by one": lambda payload: "A" * (MAX_TOKEN_BYTES + 1),
    "64 KiB, well signed": lambda payload: signed(payload | {"pad": "x" * 65_536}),
    "a header of 8 KiB": lambda payload: signed(payload, pad="x" * 8000),
    "empty": lambda payload: "",
    "one dot": lambda payload: ".",
    "two dots": lambda payload: "..",
    "three words": lambda payload: "a.b.c",
    "five parts, as of an encrypted token": lambda payload: signed(payload) + ".AAAA.AAAA",
    "a dot more": lambda payload: signed(payload).replace(".", ".A.", 1),
    "two tokens": lambda payload: signed(payload) + "." + signed(payload),
    "a space before": lambda payload: " " + signed(payload),
    "a line after": lambda payload: signed(payload) + "\n",
    "padded": lambda payload: signed(payload) + "==",
    "standard base64": lambda payload: signed(payload).replace("-", "+").replace("_", "/") + "+",
    "letters beyond ASCII": lambda payload: "é.ü.ö",
    "a lone surrogate": lambda payload: "\ud800.x.y",
    "NUL": lambda payload: "\x00",
    "a list for a header": lambda payload: part([1]) + "." + part([2]) + ".x",
    "a payload that is a list": lambda payload: signed([payload]),
    "a payload that is no JSON": lambda payload: signed(b"{"),
    "a payload in UTF-16": lambda payload: signed(json.dumps(payload).encode("utf-16")),
    "a payload of depth": lambda payload: signed(b"[" * 5000),
    "a header of depth": lambda payload: part(b"[" * 5000) + "." + part(payload) + ".AAAA",
    "a token in a token": lambda payload: signed(signed(payload).encode(), cty="JWT"),
}


def _swapped(payload: dict[str, Any]) -> str:
    head, _, signature = signed(payload).split(".")
    return f"{head}.{part(payload | {'sub': 'root'})}.{signature}"


def _respelled(token: str) -> str:
    """The last letter of 64 bytes in base64 carries two bits that decode to nothing."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + letters[letters.index(token[-1]) ^ 1]


@pytest.mark.parametrize("name", FORGERIES)
def test_c38_c40_c41_c42_a_forged_or_malformed_token_is_invalid(tokens: Tokens, clock: ManualClock, name: str) -> None:
    token = FORGERIES[name](claims(clock))

    assert refused(tokens, token).code is ErrorCode.TOKEN_INVALID
    assert refused(tokens, token).code is ErrorCode.TOKEN_INVALID  # nothing wrong is remembered as right


def test_there_are_at_least_sixty_forgeries() -> None:
    assert len(FORGERIES) >= 60


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_c38_a_public_key_is_not_an_hmac_secret(clock: ManualClock, algorithm: Any) -> None:
    private: Any = {
        "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[algorithm]()
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    tokens = Tokens(configured_keys(algorithm, signing=None, verifying=public), clock=clock)
    head, body = part({"alg": "HS256", "typ": "at+jwt"}), part(claims(clock))
    mac = hmac.new(public, f"{head}.{body}".encode(), hashlib.sha256).digest()

    assert refused(tokens, f"{head}.{body}.{encoded(mac)}").code is ErrorCode.TOKEN_INVALID
    genuine = jwt.encode(claims(clock), private, algorithm=algorithm, headers={"typ": "at+jwt"})
    assert tokens.verify(genuine).sub == "eve"
    with pytest.raises(HubError, match="no key to sign"):
        tokens.issue("ann", roles=[], ttl_s=60)


def test_c38_a_key_verifies_its_own_algorithm_and_no_other(clock: ManualClock) -> None:
    """RFC 8725 section 3.1: the same id under another algorithm names no key."""
    secret = key_of({"kty": "oct", "k": encoded(SECRET), "kid": KEY.kid}, "HS256")
    tokens = Tokens(KeySet([KEY, secret], algorithm="EdDSA"), clock=clock)

    assert tokens.verify(signed(claims(clock))).sub == "eve"
    assert tokens.verify(hmac_signed(claims(clock), SECRET)).sub == "eve"
    assert refused(tokens, hmac_signed(claims(clock), RAW)).code is ErrorCode.TOKEN_INVALID
    assert refused(tokens, hmac_signed(claims(clock), SECRET, algorithm="HS512")).code is ErrorCode.TOKEN_INVALID


def test_c39_the_issuer_and_audience_are_those_of_the_configuration(clock: ManualClock) -> None:
    tokens = Tokens(KeySet([KEY], algorithm="EdDSA"), clock=clock, issuer="elsewhere", audience="desk")

    assert tokens.verify(signed(claims(clock, iss="elsewhere", aud=["x", "desk"]))).sub == "eve"
    assert refused(tokens, signed(claims(clock))).code is ErrorCode.TOKEN_INVALID


def test_an_expired_token_is_told_apart_from_an_invalid_one(tokens: Tokens, clock: ManualClock) -> None:
    now = clock.now_ms() // 1000

    assert refused(tokens, signed(claims(clock, exp=now - LEEWAY_S - 2))).code is ErrorCode.TOKEN_EXPIRED


def test_an_expired_token_with_a_wrong_signature_is_invalid_and_says_nothing_of_its_age(
    tokens: Tokens, clock: ManualClock
) -> None:
    old = signed(claims(clock, exp=clock.now_ms() // 1000 - 3600), key=OTHER)

    assert refused(tokens, old).code is ErrorCode.TOKEN_INVALID


def test_expiry_is_judged_anew_each_time_by_the_hubs_own_clock(tokens: Tokens, clock: ManualClock) -> None:
    token = tokens.issue("ann", roles=[], ttl_s=60)
    assert tokens.verify(token).sub == "ann"
    clock.advance(60 + LEEWAY_S + 2)

    assert refused(tokens, token).code is ErrorCode.TOKEN_EXPIRED


def test_a_remembered_token_is_the_same_as_one_seen_first_and_memory_is_bounded(
    tokens: Tokens, clock: ManualClock
) -> None:
    first = tokens.issue("ann", roles=["feed"], ttl_s=600)
    assert tokens.verify(first) == tokens.verify(first)
    secret = Tokens(configured_keys("HS256", signing=SECRET), clock=clock)
    for number in range(MAX_VERIFIED + 10):
        secret.verify(secret.issue(f"user-{number}", roles=[], ttl_s=60))

    assert secret.remembered == MAX_VERIFIED


@pytest.mark.parametrize("name", ["acme|ann", "krin"])
def test_nobody_gets_a_token_for_a_name_from_elsewhere_or_the_hubs_own(tokens: Tokens, name: str) -> None:
    with pytest.raises(HubError) as caught:
        tokens.issue(name, roles=["admin"], ttl_s=60)
    assert caught.value.code is ErrorCode.BAD_REQUEST
