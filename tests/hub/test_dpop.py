"""Proofs of possession (RFC 9449, control C54): which are in order, that each counts once, and what a socket is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from clock import ManualClock
from proofs import ProofKey, jwk_of_point
from scene import Client, Scene

from hub.auth import dpop
from hub.auth.dpop import DIGEST_BYTES, MAX_AGE_S, Proofs, Shown
from hub.auth.tokens import LEEWAY_S, WRONG, Claims, Confirmation
from protocol.errors import ErrorCode, HubError
from storage.database import Database

NOW_S = 1_732_330_000
URL = "https://hub.example/v1/channels"
TOKEN = "the.token.itself"
KEY = ProofKey()
OTHER = ProofKey()


def shown(proof: str | None = None, method: str = "GET", url: str = URL, **changes: Any) -> Shown:
    return Shown(proof or KEY.proof("GET", URL, now_s=NOW_S, token=TOKEN, **changes), method, url)


def test_c54_a_proof_in_order_names_the_key_by_its_thumbprint() -> None:
    for key in (KEY, ProofKey("EdDSA")):
        proof = key.proof("POST", URL, now_s=NOW_S)

        assert dpop.read(Shown(proof, "POST", URL), token=None, now_s=NOW_S).jkt == key.jkt


@pytest.mark.parametrize(
    ("signed", "asked"),
    [
        ("https://hub.example/ws", "https://hub.example/ws"),
        ("wss://hub.example/ws", "https://hub.example/ws"),
        ("ws://hub.example:80/ws", "http://hub.example/ws"),
        ("HTTPS://HUB.example:443/ws?x=1#y", "https://hub.example/ws"),
        ("https://hub.example", "https://hub.example/"),
        ("https://hub.example/v1/history/prices%3ABTC%2DUSD", "https://hub.example/v1/history/prices:BTC-USD"),
        ("https://[::1]:8443/ws", "https://[::1]:8443/ws"),
    ],
)
def test_c54_another_spelling_of_the_same_address_will_do(signed: str, asked: str) -> None:
    proof = KEY.proof("GET", signed, now_s=NOW_S)

    assert dpop.read(Shown(proof, "GET", asked), token=None, now_s=NOW_S).jkt == KEY.jkt


@pytest.mark.parametrize(
    "changes",
    [
        {"htm": "POST"},
        {"htm": "get"},
        {"htm": None},
        {"htu": None},
        {"htu": "https://hub.example/v1/channel"},
        {"htu": "https://hub.example/v1/channels/"},
        {"htu": "http://hub.example/v1/channels"},
        {"htu": "https://hub.example:8443/v1/channels"},
        {"htu": "https://evil.example/v1/channels"},
        {"htu": "https://user@hub.example/v1/channels"},
        {"htu": "https://hub.example:x/v1/channels"},
        {"htu": "/v1/channels"},
        {"iat": NOW_S - MAX_AGE_S - 1},
        {"iat": NOW_S + LEEWAY_S + 1},
        {"iat": str(NOW_S)},
        {"iat": None},
        {"jti": ""},
        {"jti": None},
        {"jti": 7},
        {"ath": None},
        {"ath": ""},
        {"ath": "\u00fc"},
        {"ath": "c2FkbHkgbm90IHRoaXMgdG9rZW4gYnV0IGFub3RoZXIx"},
        {"headers": {"typ": "JWT"}},
        {"headers": {"typ": ""}},
        {"headers": {"jwk": None}},
        {"headers": {"jwk": "a string"}},
        {"headers": {"jwk": KEY.private}},
        {"headers": {"jwk": OTHER.public}},
        {"headers": {"jwk": {**KEY.public, "kty": ["EC"]}}},
        {"headers": {"jwk": {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"}}},
        {"headers": {"jwk": jwk_of_point(bytes(32), bytes(32))}},
        {"headers": {"crit": ["exp"]}},
        {"headers": {"jku": "https://evil.example/keys"}},
        {"pad": "x" * dpop.MAX_PROOF_BYTES},
    ],
)
def test_c54_a_proof_of_anything_else_is_none(changes: dict[str, Any]) -> None:
    with pytest.raises(WRONG):
        dpop.read(shown(**changes), token=TOKEN, now_s=NOW_S)


@pytest.mark.parametrize("proof", ["", ".", "..", "a.b.c", "\u00fc.\u00fc.\u00fc", "e30.e30.e30", "[" * 4000])
def test_c54_what_is_no_jwt_is_no_proof(proof: str) -> None:
    with pytest.raises(WRONG):
        dpop.read(Shown(proof, "GET", URL), token=None, now_s=NOW_S)


def test_c54_a_key_of_another_kind_is_none() -> None:
    proof = ProofKey("RS256").proof("GET", URL, now_s=NOW_S, token=TOKEN)

    with pytest.raises(WRONG):
        dpop.read(shown(proof), token=TOKEN, now_s=NOW_S)


def test_c54_a_changed_byte_breaks_the_signature() -> None:
    head, payload, signature = shown().proof.split(".")
    first = "A" if signature[0] != "A" else "B"

    with pytest.raises(WRONG):
        dpop.read(Shown(f"{head}.{payload}.{first}{signature[1:]}", "GET", URL), token=TOKEN, now_s=NOW_S)


# --- each counts once


class Nodes:
    """Two nodes that tell each other which proofs they have taken."""

    def __init__(self, *, max_remembered: int = dpop.MAX_REMEMBERED) -> None:
        self.clock = ManualClock(now_ms=NOW_S * 1000)
        self.told: list[bytes] = []
        self.here = Proofs(announce=self._announce, clock=self.clock, max_remembered=max_remembered)
        self.there = Proofs(announce=self._announce, clock=self.clock)

    def _announce(self, topic: str, digest: bytes) -> None:
        assert topic == dpop.TOPIC
        self.told.append(digest)
        for node in (self.here, self.there):
            node.hear(digest)

    def proof(self, **changes: Any) -> Shown:
        return Shown(KEY.proof("GET", URL, now_s=self.clock.now_ms() / 1000, token=TOKEN, **changes), "GET", URL)


def claims(jkt: str | None = KEY.jkt) -> Claims:
    return Claims(sub="ann", exp=NOW_S + 900, iat=NOW_S, jti="1", cnf=None if jkt is None else Confirmation(jkt))


def refusal(proofs: Proofs, shown: Shown | None, *, jkt: str | None = KEY.jkt) -> tuple[ErrorCode, str]:
    with pytest.raises(HubError) as refused:
        proofs.require(claims(jkt), TOKEN, shown)
    return refused.value.code, refused.value.message


def test_c54_a_proof_shown_again_is_refused_on_every_node_for_as_long_as_it_counts() -> None:
    nodes = Nodes()
    proof = nodes.proof()
    assert nodes.here.require(claims(), TOKEN, proof) == claims()

    for passed in (0, MAX_AGE_S):
        nodes.clock.advance(passed)
        for node in (nodes.here, nodes.there):
            assert refusal(node, proof) == (ErrorCode.PROOF_INVALID, "this proof was used already: each counts once")
    assert nodes.here.require(claims(), TOKEN, nodes.proof()) == claims(), "another one of the same key"
    assert {len(digest) for digest in nodes.told} == {DIGEST_BYTES}


def test_c54_the_same_jti_of_two_keys_is_two_proofs() -> None:
    nodes = Nodes()
    for key in (KEY, OTHER):
        proof = Shown(key.proof("GET", URL, now_s=NOW_S, token=TOKEN, jti="one"), "GET", URL)
        nodes.here.require(claims(key.jkt), TOKEN, proof)


def test_c54_what_is_remembered_is_bounded_and_forgotten() -> None:
    nodes = Nodes(max_remembered=2)
    for _ in range(2):
        nodes.here.require(claims(), TOKEN, nodes.proof())
    assert refusal(nodes.here, nodes.proof())[0] is ErrorCode.OVERLOADED, "refused, and nobody's proof forgotten for it"

    nodes.clock.advance(MAX_AGE_S + LEEWAY_S + 1)
    nodes.here.require(claims(), TOKEN, nodes.proof())


def test_c54_a_bound_token_counts_with_a_proof_of_its_own_key_only() -> None:
    nodes = Nodes()
    stolen = Shown(OTHER.proof("GET", URL, now_s=NOW_S, token=TOKEN), "GET", URL)

    assert refusal(nodes.here, None)[0] is ErrorCode.PROOF_INVALID
    assert refusal(nodes.here, stolen) == (ErrorCode.PROOF_INVALID, "the token is bound to another key")
    assert refusal(nodes.here, Shown("", "GET", URL))[0] is ErrorCode.PROOF_INVALID
    assert refusal(nodes.here, nodes.proof(), jkt=None)[0] is ErrorCode.PROOF_INVALID, "a token bound to nothing"
    assert nodes.here.require(claims(None), TOKEN, None) == claims(None)
    assert nodes.told == [], "what was refused is not used up"


# --- at the socket


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database).running() as running:
        yield running


def bound(scene: Scene, key: ProofKey = KEY) -> str:
    return scene.tokens.issue("ann", roles=["agent"], ttl_s=600, principal="machine", jkt=key.jkt)


def proven(client: Client, token: str, key: ProofKey = KEY, **changes: Any) -> str:
    now_s = client.scene.clock.now_ms() / 1000
    return key.proof("GET", client.connection.url, now_s=now_s, token=token, **changes)


async def test_c54_connect_and_refresh_take_a_bound_token_with_its_proof(scene: Scene) -> None:
    client = scene.socket()
    token = bound(scene)
    assert "result" in await client.ask("connect", token=token, proof=proven(client, token))

    fresh = bound(scene)
    assert (await client.ask("refresh", token=fresh))["error"]["name"] == "proof_invalid"
    assert "result" in await client.ask("refresh", token=fresh, proof=proven(client, fresh))
    assert client.connection.open


@pytest.mark.parametrize("mistake", ["none", "key", "url", "method", "token", "again"])
async def test_c54_connect_without_the_right_proof_is_told_so_and_ends_with_4002(scene: Scene, mistake: str) -> None:
    token = bound(scene)
    client = scene.socket()
    proof = {
        "none": lambda: None,
        "key": lambda: proven(client, token, OTHER),
        "url": lambda: proven(client, token, htu="https://evil.example/ws"),
        "method": lambda: proven(client, token, htm="POST"),
        "token": lambda: proven(client, bound(scene)),
        "again": lambda: proven(client, token),
    }[mistake]()
    if mistake == "again":
        first = scene.socket()
        assert "result" in await first.ask("connect", token=token, proof=proof)
    reply = await client.ask("connect", token=token, **({} if proof is None else {"proof": proof}))

    assert (reply["error"]["code"], reply["error"]["name"]) == (1022, "proof_invalid")
    assert client.socket.closed == (4002, "token invalid")
