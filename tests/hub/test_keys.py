"""The key ring: made once, rotated without a refused token, shared by every process of a data folder (control C58)."""

from __future__ import annotations

import asyncio
import json
import secrets
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from clock import ManualClock
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from hub.auth.keyring import OVERLAP_S, RELOAD_S, SETTLE_S, UNNAMED, KeyRing, KeyUnusable
from hub.auth.keys import Algorithm, configured_keys, generate, key_of, thumbprint
from hub.auth.tokens import LEEWAY_S, Tokens
from protocol.errors import ErrorCode, HubError

ALGORITHMS: list[Algorithm] = ["EdDSA", "ES256", "RS256", "HS256"]
MANY_AT_ONCE = 4


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now_ms=time.time_ns() // 1_000_000)


def opened(folder: Path, clock: ManualClock, algorithm: Algorithm = "EdDSA") -> tuple[KeyRing, Tokens]:
    """What one process has."""
    ring = KeyRing(folder, algorithm=algorithm, clock=clock)
    return ring, Tokens(ring, clock=clock)


def pem(key: Any, *, private: bool = False) -> bytes:
    encoding = serialization.Encoding.PEM
    if private:
        whole: bytes = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return whole
    public: bytes = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    return public


def refused(tokens: Tokens, token: str) -> ErrorCode:
    with pytest.raises(HubError) as caught:
        tokens.verify(token)
    return caught.value.code


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_is_made_on_first_use_and_found_again(tmp_path: Path, clock: ManualClock, algorithm: Algorithm) -> None:
    _, tokens = opened(tmp_path, clock, algorithm)
    token = tokens.issue("ann", roles=["feed"], ttl_s=60)
    _, again = opened(tmp_path, clock, algorithm)

    assert again.verify(token).sub == "ann"
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    assert jwt.get_unverified_header(token)["kid"]


def test_the_ring_is_private_and_its_folder_holds_nothing_else(tmp_path: Path, clock: ManualClock) -> None:
    ring, _ = opened(tmp_path, clock)
    ring.rotate()

    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["ring.json"]
    assert stat.S_IMODE((tmp_path / "keys" / "ring.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from hub.auth.keyring import KeyRing; from hub.clock import SystemClock;"
        "sys.stdin.read(); ring = KeyRing(Path(sys.argv[1]), algorithm='EdDSA', clock=SystemClock());"
        "print(*[key.kid for key in ring.current.keys])"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(MANY_AT_ONCE)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    found = {process.communicate(timeout=30)[0] for process in processes}

    assert len(found) == 1
    assert len(found.pop().split()) == 1


def test_the_secret_of_an_earlier_version_keeps_verifying(tmp_path: Path, clock: ManualClock) -> None:
    secret = secrets.token_bytes(32)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "signing.key").write_text(secret.hex())
    earlier = Tokens(configured_keys("HS256", signing=b"k" + secret), clock=clock)  # strangers to each other
    old = jwt.encode(
        {
            "iss": "krin",
            "aud": "krin",
            "sub": "ann",
            "iat": 1,
            "exp": clock.now_ms() // 1000 + 9 * OVERLAP_S,
            "jti": "j",
        },
        secret,
        algorithm="HS256",
        headers={"typ": "at+jwt"},
    )
    ring, tokens = opened(tmp_path, clock)

    assert tokens.verify(old).sub == "ann"
    assert jwt.get_unverified_header(tokens.issue("ann", roles=[], ttl_s=60))["alg"] == "EdDSA"
    assert refused(tokens, earlier.issue("ann", roles=[], ttl_s=60)) is ErrorCode.TOKEN_INVALID
    ring.rotate()
    clock.advance(SETTLE_S + OVERLAP_S - 1)
    assert tokens.verify(old).sub == "ann"
    clock.advance(1)
    assert refused(tokens, old) is ErrorCode.TOKEN_INVALID


def test_the_secret_of_an_earlier_version_can_be_taken_out(tmp_path: Path, clock: ManualClock) -> None:
    secret = secrets.token_bytes(32)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "signing.key").write_text(secret.hex())
    ring, _ = opened(tmp_path, clock)

    assert ring.remove(UNNAMED)
    assert [key.algorithm for key in opened(tmp_path, clock)[0].current.keys] == ["EdDSA"]


def test_c58_a_rotation_refuses_no_valid_token_and_later_every_old_one(tmp_path: Path, clock: ManualClock) -> None:
    """Two nodes, of which one reads the ring as late as it may, and a token every second from either."""
    ring, tokens = opened(tmp_path, clock)
    late_ring, late = opened(tmp_path, clock)
    old = tokens.issue("ann", roles=[], ttl_s=10 * OVERLAP_S)
    [old_kid] = {key.kid for key in ring.current.keys}
    ring.rotate(overlap_s=100)
    issued = []
    for second in range(SETTLE_S + 90):
        if second == RELOAD_S:
            late_ring._reload()
        issued += [each.issue("ann", roles=[], ttl_s=60) for each in (tokens, late)]
        assert {each.verify(token).sub for token in issued[-80:] for each in (tokens, late)} == {"ann"}
        clock.advance(1)
    signers = [jwt.get_unverified_header(token)["kid"] for token in issued]

    assert signers[:2] == [old_kid, old_kid]
    assert signers[-1] != old_kid
    assert len(tokens.jwks()["keys"]) == 2
    assert tokens.verify(old).sub == "ann"
    clock.advance(10)
    assert refused(tokens, old) is ErrorCode.TOKEN_INVALID  # remembered, but its key is no longer live
    assert refused(late, old) is ErrorCode.TOKEN_INVALID
    assert [key["kid"] for key in tokens.jwks()["keys"]] == [signers[-1]]


async def test_c58_a_running_node_notices_a_rotation_and_a_removal_by_itself(
    tmp_path: Path, clock: ManualClock
) -> None:
    ring, tokens = opened(tmp_path, clock)
    running, seen = opened(tmp_path, clock)
    token = tokens.issue("ann", roles=[], ttl_s=600)
    assert seen.verify(token).sub == "ann"
    task = asyncio.create_task(running.run())

    async def a_round() -> None:
        await clock.until_somebody_sleeps()
        clock.advance(RELOAD_S)
        await clock.until_somebody_sleeps()

    ring.rotate()
    await a_round()
    assert {key.kid for key in running.current.keys} == {key.kid for key in ring.current.keys}
    ring.remove(jwt.get_unverified_header(token)["kid"])
    await a_round()
    assert refused(seen, token) is ErrorCode.TOKEN_INVALID
    (tmp_path / "keys" / "ring.json").write_text("{ half")
    await a_round()
    assert seen.jwks() == tokens.jwks()
    task.cancel()


def test_no_file_is_read_for_a_token(tmp_path: Path, clock: ManualClock) -> None:
    _, tokens = opened(tmp_path, clock)
    token = tokens.issue("ann", roles=[], ttl_s=60)
    (tmp_path / "keys" / "ring.json").unlink()

    assert tokens.verify(token).sub == "ann"
    assert tokens.verify(tokens.issue("ann", roles=[], ttl_s=60)).sub == "ann"


def test_the_only_key_that_signs_is_replaced_when_it_is_taken_out(tmp_path: Path, clock: ManualClock) -> None:
    ring, tokens = opened(tmp_path, clock)
    token = tokens.issue("ann", roles=[], ttl_s=60)
    kid = jwt.get_unverified_header(token)["kid"]

    assert not ring.remove("nobody")
    assert ring.remove(kid)
    assert refused(tokens, token) is ErrorCode.TOKEN_INVALID
    assert tokens.verify(tokens.issue("ann", roles=[], ttl_s=60)).sub == "ann"


def test_a_key_that_is_about_to_end_has_a_successor_when_the_next_was_taken_out(
    tmp_path: Path, clock: ManualClock
) -> None:
    ring, tokens = opened(tmp_path, clock)
    ring.rotate(overlap_s=60)
    [added] = [key.kid for key in ring.current.keys if key.expires_at is None]
    assert added is not None
    ring.remove(added)
    token = tokens.issue("ann", roles=[], ttl_s=600)
    clock.advance(SETTLE_S)

    assert tokens.verify(token).sub == "ann"
    assert jwt.get_unverified_header(tokens.issue("ann", roles=[], ttl_s=60))["kid"] not in (
        added,
        jwt.get_unverified_header(token)["kid"],
    )


def test_another_algorithm_in_the_configuration_makes_a_key_and_keeps_the_old(
    tmp_path: Path, clock: ManualClock
) -> None:
    _, tokens = opened(tmp_path, clock, "EdDSA")
    token = tokens.issue("ann", roles=[], ttl_s=60)
    _, others = opened(tmp_path, clock, "ES256")

    assert others.verify(token).sub == "ann"
    assert jwt.get_unverified_header(others.issue("ann", roles=[], ttl_s=60))["alg"] == "ES256"


def test_keys_that_have_expired_leave_the_file_at_the_next_change(tmp_path: Path, clock: ManualClock) -> None:
    ring, _ = opened(tmp_path, clock)
    for _ in range(3):
        ring.rotate(overlap_s=60)
        clock.advance(SETTLE_S + LEEWAY_S + 60)
    ring.rotate()

    assert len(json.loads((tmp_path / "keys" / "ring.json").read_text())["keys"]) == 2


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_c58_anybody_can_verify_with_the_jwk_set_and_it_holds_no_private_half(
    tmp_path: Path, clock: ManualClock, algorithm: Algorithm
) -> None:
    ring, tokens = opened(tmp_path, clock, algorithm)
    ring.rotate()
    token = tokens.issue("ann", roles=[], ttl_s=60)
    jwks = json.loads(json.dumps(tokens.jwks()))

    assert len(jwks["keys"]) == 2
    for jwk in jwks["keys"]:
        assert not set(jwk) & {"d", "p", "q", "dp", "dq", "qi", "k", "nbf", "exp"}
        assert (jwk["use"], jwk["alg"]) == ("sig", algorithm)
    key = jwt.PyJWKSet.from_dict(jwks)[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, audience="krin", issuer="krin")["sub"] == "ann"


def test_a_shared_secret_is_in_no_jwk_set(tmp_path: Path, clock: ManualClock) -> None:
    assert opened(tmp_path, clock, "HS256")[1].jwks() == {"keys": []}


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    """The example of its section 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    )
    jwk = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}

    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"keys": {}}', '{"keys": [1]}', '{"keys": [{"kty": "oct"}]}',
     '{"keys": [{"kty": "oct", "k": "c2hvcnQ", "alg": "HS256"}]}', '{"keys": [{"kty": "oct", "k": "", "alg": "none"}]}'],
)  # fmt: skip
def test_a_damaged_ring_is_one_sentence_and_never_replaced(tmp_path: Path, clock: ManualClock, content: str) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "ring.json").write_text(content)
    with pytest.raises(KeyUnusable) as caught:
        opened(tmp_path, clock)

    assert "\n" not in str(caught.value)
    assert "c2hvcnQ" not in str(caught.value)
    assert (tmp_path / "keys" / "ring.json").read_text() == content


def test_a_configured_private_key_is_enough_and_a_file_may_hold_the_key_before(clock: ManualClock) -> None:
    old, new = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    before = Tokens(configured_keys("ES256", signing=pem(old, private=True)), clock=clock)
    token = before.issue("ann", roles=[], ttl_s=60)
    after = Tokens(configured_keys("ES256", signing=pem(new, private=True), verifying=pem(old) + pem(new)), clock=clock)

    assert before.verify(token).sub == "ann"
    assert after.verify(token).sub == "ann"
    assert (
        jwt.get_unverified_header(after.issue("ann", roles=[], ttl_s=60))["kid"]
        != jwt.get_unverified_header(token)["kid"]
    )
    assert len(after.jwks()["keys"]) == 2


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("ES256", ec.generate_private_key(ec.SECP384R1())),
        ("ES256", ed25519.Ed25519PrivateKey.generate()),
        ("EdDSA", ec.generate_private_key(ec.SECP256R1())),
        ("RS256", ec.generate_private_key(ec.SECP256R1())),
        ("RS256", rsa.generate_private_key(public_exponent=65537, key_size=1024)),
    ],
    ids=["another curve", "Ed25519 for ES256", "EC for EdDSA", "EC for RS256", "RSA of 1024 bits"],
)
def test_c38_a_key_of_another_kind_or_a_weak_one_is_refused(algorithm: Algorithm, key: Any) -> None:
    with pytest.raises(ValueError):
        configured_keys(algorithm, signing=pem(key, private=True))


@pytest.mark.parametrize("secret", [b"", b"x" * 31, b" " * 40])
def test_c42_a_secret_is_at_least_32_bytes(secret: bytes) -> None:
    with pytest.raises(ValueError):
        configured_keys("HS256", signing=secret)
    with pytest.raises(ValueError):
        key_of({"kty": "oct", "k": "c2hvcnQ"}, "HS256")


def test_two_keys_never_have_the_same_name() -> None:
    assert len({generate(algorithm)["kid"] for algorithm in ("EdDSA", "ES256", "HS256") for _ in range(20)}) == 60


def test_no_name_of_a_key_looks_like_an_option_of_the_command_that_removes_it() -> None:
    assert not [kid for _ in range(400) if (kid := generate("EdDSA")["kid"]).startswith("-")]
