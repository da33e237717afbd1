"""Tokens of an outside identity provider, whose keys come from a real HTTP server (controls C38 to C41, C53)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import jwt
import msgspec
import pytest
import pytest_asyncio
from clock import ManualClock
from scene import Scene

from hub.auth.fetching import MAX_BYTES, fetch
from hub.auth.keys import Key, generate, key_of
from hub.auth.providers import (
    MAX_AGE_S,
    MAX_KEYS,
    MIN_REFETCH_S,
    FetchFailed,
    Provider,
    ProviderPolicy,
    Providers,
    keys_of_jwks,
)
from hub.auth.tokens import Claims
from hub.config import load
from hub.unusable import ConfigError
from protocol.errors import ErrorCode, HubError
from storage.database import Database

ISSUER = "https://id.example/"
KEY = key_of(generate("ES256"), "ES256")
NEXT = key_of(generate("ES256"), "ES256")
SECRET = {"kty": "oct", "k": "A" * 43, "kid": "shared"}


class JwksServer:
    """Answers every request with `body`, head and all if `raw` is set."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.keys: list[Any] = [KEY.public_jwk()]
        self.raw: bytes | None = None
        self.hold = asyncio.Event()
        self.hold.set()
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[JwksServer]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
        async with server:
            yield self

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await self.hold.wait()
        body = json.dumps({"keys": self.keys}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        writer.write(self.raw or head + body)
        writer.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[JwksServer]:
    async with JwksServer().running() as running:
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now_ms=time.time_ns() // 1_000_000)


def policy(server: JwksServer, **changes: Any) -> ProviderPolicy:
    whole: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": "krin",
        "jwks_url": server.url,
        "roles_claim": "realm_access.roles",
        "roles": {"desk": ("trader", "dashboard"), "ops": ("admin",)},
        "teams_claim": "https://id.example/teams",
        "teams": {"a": ("alpha",)},
    }
    return msgspec.convert(whole | changes, ProviderPolicy)


@pytest.fixture
def provider(server: JwksServer, clock: ManualClock) -> Provider:
    return Provider("acme", policy(server), fetch=fetch, clock=clock)


def token(clock: ManualClock, *, key: Key = KEY, typ: str = "at+jwt", kid: str | None = "", **changes: Any) -> str:
    now = clock.now_ms() // 1000
    whole = {
        "iss": ISSUER,
        "aud": ["krin", "account"],
        "sub": "0f9c-11",
        "iat": now,
        "exp": now + 300,
        "jti": "t1",
        "realm_access": {"roles": ["desk", "unheard-of"]},
        "https://id.example/teams": "a b",
    } | changes
    headers = {"typ": typ, "kid": key.kid if kid == "" else kid}
    return jwt.encode(
        {name: value for name, value in whole.items() if value is not None},
        key.signing,
        algorithm=key.algorithm,
        headers={name: value for name, value in headers.items() if value is not None},
    )


async def known(provider: Provider, text: str) -> Claims:
    found = provider.authenticate(text)
    return await found if isinstance(found, Awaitable) else found


async def refused(provider: Provider, text: str) -> ErrorCode:
    with pytest.raises(HubError) as caught:
        await known(provider, text)
    return caught.value.code


async def test_a_provider_vouches_for_a_name_that_nobody_here_can_have_and_gives_the_roles_of_the_mapping(
    provider: Provider, clock: ManualClock
) -> None:
    found = await known(provider, token(clock, amr=["pwd", "mfa"], auth_time=clock.now_ms() // 1000, sid="s1"))

    assert (found.sub, found.principal) == ("acme|0f9c-11", "external")
    assert (found.roles, found.teams) == (frozenset({"trader", "dashboard"}), frozenset({"alpha"}))
    assert (found.amr, found.sid, found.jti) == (("pwd", "mfa"), "acme|s1", "acme|t1")


async def test_a_known_key_needs_no_waiting_and_no_request(
    provider: Provider, clock: ManualClock, server: JwksServer
) -> None:
    await known(provider, token(clock))

    assert isinstance(provider.authenticate(token(clock, sub="another")), Claims)
    assert len(server.requests) == 1


async def test_c53_who_somebody_is_depends_on_issuer_and_subject_alone(provider: Provider, clock: ManualClock) -> None:
    names = set()
    subjects = [
        "ann",
        "Ann",
        "ann ",
        "~x",
        "a|b",
        "a/b",
        "ä",
        "x" * 500,
        "x" * 501,
        "ann@example.com",
        "krin",
        "..",
        "",
    ]
    for subject in subjects:
        names.add((await known(provider, token(clock, sub=subject, email="ann@example.com", name="ann"))).sub)

    assert len(names) == len(subjects)
    assert all(name.startswith("acme|") and len(name) <= 128 and name.isascii() for name in names)


async def test_a_role_is_never_taken_from_a_token_without_the_mapping(provider: Provider, clock: ManualClock) -> None:
    for roles in (["admin"], ["trader"], "admin", {"desk": True}, None, [["desk"]], 3):
        found = await known(
            provider,
            token(
                clock, realm_access={"roles": roles}, roles=["admin"], grant={"publish": ["*"]}, principal="operator"
            ),
        )
        assert (found.roles, found.principal) == (frozenset(), "external")
        assert found.grant.publish == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": ISSUER.rstrip("/")},
        {"iss": ISSUER + "x"},
        {"iss": "krin"},
        {"iss": None},
        {"aud": "krin2"},
        {"aud": ["account"]},
        {"aud": None},
        {"sub": None},
        {"sub": 3},
        {"exp": None},
        {"exp": "soon"},
        {"iat": None},
        {"nbf": 10**11},
        {"amr": "pwd"},
    ],
    ids=str,
)
async def test_c39_a_token_for_somebody_else_or_with_a_claim_missing_is_invalid(
    provider: Provider, clock: ManualClock, changes: dict[str, Any]
) -> None:
    await known(provider, token(clock))
    now = clock.now_ms() // 1000
    payload = {"iss": ISSUER, "aud": "krin", "sub": "x", "iat": now, "exp": now + 60} | changes
    message = jwt.PyJWS().encode(
        json.dumps({name: value for name, value in payload.items() if value is not None}).encode(),
        KEY.signing,
        algorithm="ES256",
        headers={"typ": "at+jwt", "kid": KEY.kid},
    )

    assert await refused(provider, message) is ErrorCode.TOKEN_INVALID


async def test_a_token_without_an_id_is_accepted_and_times_may_have_fractions(
    provider: Provider, clock: ManualClock
) -> None:
    now = clock.now_ms() / 1000
    one = await known(provider, token(clock, jti=None, iat=now, exp=now + 60.5))
    other = await known(provider, token(clock, jti=None, iat=now, exp=now + 61.5))

    assert one.exp == int(now + 60.5)
    assert one.jti != other.jti


async def test_expiry_is_told_apart(provider: Provider, clock: ManualClock) -> None:
    old = token(clock)
    await known(provider, old)
    clock.advance(400)

    assert await refused(provider, old) is ErrorCode.TOKEN_EXPIRED


async def test_c40_the_kind_of_token_is_the_configured_one(server: JwksServer, clock: ManualClock) -> None:
    lenient = Provider("acme", policy(server, token_types=["JWT"]), fetch=fetch, clock=clock)

    assert (await known(lenient, token(clock, typ="JWT"))).sub
    assert await refused(lenient, token(clock)) is ErrorCode.TOKEN_INVALID


# --- keys


async def test_c41_an_unknown_key_is_looked_up_again_but_seldom_and_only_where_the_configuration_says(
    provider: Provider, clock: ManualClock, server: JwksServer
) -> None:
    await known(provider, token(clock))
    elsewhere = {"jku": "http://127.0.0.1:9/evil", "x5u": "http://127.0.0.1:9/evil"}
    for header in elsewhere.items():
        forged = jwt.encode(
            {"iss": ISSUER}, NEXT.signing, algorithm="ES256", headers={"typ": "at+jwt", **dict([header])}
        )
        assert await refused(provider, forged) is ErrorCode.TOKEN_INVALID
    for _ in range(20):
        assert await refused(provider, token(clock, key=NEXT)) is ErrorCode.TOKEN_INVALID
    assert len(server.requests) == 1
    server.keys = [NEXT.public_jwk()]
    clock.advance(MIN_REFETCH_S)

    assert (await known(provider, token(clock, key=NEXT))).sub
    assert len(server.requests) == 2
    assert await refused(provider, token(clock)) is ErrorCode.TOKEN_INVALID, "the old key is gone"


async def test_many_who_wait_for_the_keys_cause_one_request(
    provider: Provider, clock: ManualClock, server: JwksServer
) -> None:
    server.hold.clear()
    waiting = [asyncio.ensure_future(known(provider, token(clock, sub=f"u{number}"))) for number in range(30)]
    async with asyncio.timeout(5):
        while not server.requests:
            await asyncio.sleep(0.01)
    server.hold.set()

    assert len({each.sub for each in await asyncio.gather(*waiting)}) == 30
    assert len(server.requests) == 1


async def test_c75_a_provider_that_cannot_be_reached_is_a_reason_to_come_back_and_old_keys_count_for_a_day(
    provider: Provider, clock: ManualClock, server: JwksServer
) -> None:
    server.raw = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    assert await refused(provider, token(clock)) is ErrorCode.NOT_AVAILABLE
    server.raw = None
    clock.advance(MIN_REFETCH_S)
    await known(provider, token(clock))
    server.raw = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    clock.advance(MAX_AGE_S)
    assert (await known(provider, token(clock))).sub
    clock.advance(1)

    assert await refused(provider, token(clock)) is ErrorCode.NOT_AVAILABLE


async def test_the_keys_are_fetched_at_the_start_and_again_by_themselves(
    provider: Provider, clock: ManualClock, server: JwksServer
) -> None:
    task = asyncio.create_task(provider.run())
    await clock.until_somebody_sleeps()
    assert isinstance(provider.authenticate(token(clock)), Claims)
    server.keys = [KEY.public_jwk(), NEXT.public_jwk()]
    clock.advance(600)
    await clock.until_somebody_sleeps()

    assert isinstance(provider.authenticate(token(clock, key=NEXT)), Claims)
    task.cancel()


ANSWERS: dict[str, Callable[[], bytes]] = {
    "a redirect": lambda: b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
    "too much": lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * (MAX_BYTES + 1),
    "without end": lambda: b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BYTES + 1),
    "compressed": lambda: b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
    "cut off": lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
    "no HTTP": lambda: b"SSH-2.0-x\r\n\r\n",
    "nothing": lambda: b"\r\n",
    "an error": lambda: b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_c75_an_answer_that_is_no_plain_bounded_document_is_a_failure_in_one_line(
    server: JwksServer, name: str
) -> None:
    server.raw = ANSWERS[name]()
    with pytest.raises(FetchFailed) as caught:
        await fetch(server.url)
    assert "\n" not in str(caught.value)


async def test_a_server_that_is_not_there_is_a_failure(server: JwksServer) -> None:
    for url in ("http://127.0.0.1:1/jwks", "http://nobody.invalid/jwks"):
        with pytest.raises(FetchFailed):
            await fetch(url)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": [1]}', b"\xff", b"[" * 100_000])
def test_what_is_no_jwk_set_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        keys_of_jwks(body, ["ES256"])


def test_c38_only_public_keys_for_signatures_of_the_listed_algorithms_are_taken() -> None:
    jwk = KEY.public_jwk() or {}
    others: list[Any] = [
        SECRET,
        jwk | {"use": "enc"},
        jwk | {"alg": "RS256"},
        jwk | {"alg": "HS256"},
        jwk | {"kid": 3},
        jwk | {"crv": "P-384"},
        jwk | {"x": "AA"},
        jwk | {"kty": ["EC"]},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "weak"},
        key_of(generate("EdDSA"), "EdDSA").public_jwk(),
        {},
    ]
    found = keys_of_jwks(
        json.dumps({"keys": [*others, {**generate("ES256"), "kid": "private"}, jwk]}).encode(), ["ES256"]
    )

    assert [key.kid for key in found] == ["private", KEY.kid]
    assert all(key.signing is None for key in found)
    with pytest.raises(ValueError):
        keys_of_jwks(json.dumps({"keys": [jwk] * (MAX_KEYS + 1)}).encode(), ["ES256"])


# --- beside the hub's own tokens


async def test_a_token_goes_to_the_provider_it_names_and_a_key_counts_for_its_own_provider_alone(
    server: JwksServer, clock: ManualClock
) -> None:
    """C41: what is cached is cached by issuer and key id."""
    acme = Provider("acme", policy(server), fetch=fetch, clock=clock)
    other = Provider("other", policy(server, issuer="https://other.example/"), fetch=fetch, clock=clock)
    providers = Providers([acme, other])
    theirs = token(clock, iss="https://other.example/")

    assert providers.of(token(clock)) is acme
    assert providers.of(theirs) is other
    assert (await known(other, theirs)).sub == "other|0f9c-11"
    assert await refused(acme, theirs) is ErrorCode.TOKEN_INVALID
    for nobodys in ("", "a.b.c", "krin_ak_x", token(clock, iss="krin"), "A" * 9000, "é.é.é", "..", "a"):
        assert providers.of(nobodys) is None


async def test_who_comes_from_elsewhere_connects_with_rights_of_their_own_and_is_nobody_here(
    database: Database, provider: Provider, clock: ManualClock
) -> None:
    async with Scene(database, clock=clock, providers=Providers([provider])).running() as scene:
        client = scene.socket()
        client.send(
            client.command("connect", token=token(clock)),
            client.command("subscribe", channel="orders:acme|0f9c-11"),
            client.command("subscribe", channel="orders:0f9c-11"),
        )
        connected, own, other = [await client.reply(number) for number in (1, 2, 3)]
        assert connected["result"]["user"] == "acme|0f9c-11"
        assert "result" in own
        assert other["error"]["code"] == ErrorCode.PERMISSION_DENIED
        assert isinstance(scene.authentication.authenticate(token(clock)), Claims)
        await scene.revocations.end_user("acme|0f9c-11", now=datetime.fromtimestamp(clock.now_ms() / 1000 + 1, UTC))
        await scene.watch.look()
        with pytest.raises(HubError) as caught:
            scene.authentication.authenticate(token(clock))
        assert caught.value.code is ErrorCode.TOKEN_INVALID


@pytest.mark.parametrize(
    "wrong",
    [
        'jwks_url = "http://id.example/jwks"',
        'jwks_url = "http://169.254.169.254/latest/meta-data"',
        'jwks_url = "http://10.0.0.1/jwks"',
        'jwks_url = "file:///etc/passwd"',
        'jwks_url = "https:///jwks"',
        'jwks_url = "http://127.0.0.1.evil.example/jwks"',
        'algorithms = ["HS256"]',
        'algorithms = ["none"]',
        "algorithms = []",
        'audience = ""',
        'issuer = "krin"',
        'secret = "x"',
    ],
)
def test_c75_a_provider_that_cannot_be_trusted_is_refused_at_the_start(tmp_path: Any, wrong: str) -> None:
    table = {"issuer": f'"{ISSUER}"', "audience": '"krin"', "jwks_url": '"https://id.example/jwks"'}
    name, _, value = wrong.partition(" = ")
    lines = [f"{key} = {text}" for key, text in (table | {name: value}).items()]
    path = tmp_path / "krin.toml"
    path.write_text("\n".join(["[auth.providers.acme]", *lines]))
    with pytest.raises(ConfigError) as caught:
        load(path, data_dir=str(tmp_path))
    assert "\n" not in str(caught.value)
