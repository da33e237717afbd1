"""OAuth 2.0 as others see it: keys, tokens, codes."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import jwt
import pytest
from processes import krin
from proofs import ProofKey
from sockets import peer
from websockets.exceptions import InvalidStatus

from hub.client import Client, Disconnected


def on(hub: Any, *arguments: str) -> str:
    """A command on the data folder of the running hub."""
    done = krin(*arguments, "--data-dir", str(hub.data_dir))
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_c58_the_running_hub_shows_a_new_key_before_it_signs_and_forgets_a_removed_one(
    hub: Any, http: httpx.AsyncClient
) -> None:
    async def names() -> set[str]:
        answer = await http.get("/.well-known/jwks.json")
        assert answer.headers["cache-control"] == "public, max-age=30"
        return {key["kid"] for key in answer.json()["keys"]}

    before = await names()
    token = hub.token("ann")
    await asyncio.to_thread(on, hub, "keys", "rotate", "--overlap", "1h")
    listed = await asyncio.to_thread(on, hub, "keys", "list")
    [added] = {line.split()[0] for line in listed.splitlines()[1:]} - before
    async with asyncio.timeout(10):
        while added not in await names():
            await asyncio.sleep(0.05)

    assert jwt.get_unverified_header(hub.token("ann"))["kid"] in before
    assert (await http.get("/v1/channels", headers={"authorization": f"Bearer {token}"})).status_code == 200
    await asyncio.to_thread(on, hub, "keys", "remove", added)
    async with asyncio.timeout(10):
        while added in await names():
            await asyncio.sleep(0.05)
    assert before < await names(), "the key before was about to end: another must follow it"


# --- API keys


async def test_a_key_is_shown_once_and_opens_every_door_until_it_is_revoked(hub: Any, http: httpx.AsyncClient) -> None:
    key = (await asyncio.to_thread(on, hub, "key", "add", "robot-7", "--role", "agent", "--ttl", "1d")).strip()
    listed = await asyncio.to_thread(on, hub, "key", "list")
    [line] = [line for line in listed.splitlines() if " robot-7 " in line]
    headers = {"authorization": f"Bearer {key}"}

    assert key not in listed
    assert (await http.get("/v1/channels", headers=headers)).status_code == 200
    async with peer(hub, key) as client:
        assert "result" in await client.ask("subscribe", channel="agent:robot-7")
    async with peer(hub, headers=headers) as client:
        assert (await client.ask("connect"))["result"]["user"] == "robot-7"
    await asyncio.to_thread(on, hub, "key", "revoke", line.split()[0])
    async with asyncio.timeout(10):
        while (await http.get("/v1/channels", headers=headers)).status_code == 200:
            await asyncio.sleep(0.05)
    answer = await http.get("/v1/channels", headers=headers)

    assert (answer.status_code, answer.json()["meta"]["error"]["name"]) == (401, "token_invalid")
    assert key not in (hub.data_dir / "stderr.log").read_text()


@pytest.mark.parametrize("name", ["acme|robot", "robot --ttl 400d", "robot --role nobody"])
async def test_a_key_that_cannot_be_is_refused_in_one_line(hub: Any, name: str) -> None:
    done = await asyncio.to_thread(krin, "key", "add", *name.split(), "--data-dir", str(hub.data_dir))

    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1


# --- applications that act for people (RFC 6749, 7636, 9207, 9700; controls C52, C55)

PASSWORD = "a quiet horse in the rain"
HOME = "https://app.example/back"
LOCAL = "http://127.0.0.1:9999/back?fixed=1"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636 appendix B
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
WRONG_VERIFIER = VERIFIER[::-1]


class App:
    """An application and a person, as a browser and a server would bring them together."""

    def __init__(self, http: httpx.AsyncClient, client_id: str, secret: str | None, person: str) -> None:
        self.http = http
        self.client_id = client_id
        self.secret = secret
        self.person = person

    def query(self, **changes: str | None) -> dict[str, str]:
        whole: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": HOME,
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "state": "s t&te",
            "scope": "dashboard",
        } | changes
        return {name: value for name, value in whole.items() if value is not None}

    async def signed_in(self) -> str:
        answer = await self.http.post("/v1/auth/login", json={"name": self.person, "password": PASSWORD})
        token: str = answer.json()["data"]["access_token"]
        return token

    async def decided(self, token: str, decision: str = "allow", **changes: str | None) -> httpx.Response:
        return await self.http.post(
            "/oauth/authorize",
            data=self.query(**changes) | {"decision": decision},
            headers={"authorization": f"Bearer {token}"},
        )

    async def code(self, **changes: str | None) -> str:
        answer = await self.decided(await self.signed_in(), **changes)
        assert answer.status_code == 200, answer.text
        return answered(answer.json()["redirect_to"])["code"]

    async def exchange(self, code: str, **changes: str) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": HOME,
            "code_verifier": VERIFIER,
            "client_id": self.client_id,
        } | changes
        return await self.http.post("/oauth/token", data=form | ({"client_secret": self.secret} if self.secret else {}))

    async def tokens(self) -> dict[str, Any]:
        answer = await self.exchange(await self.code())
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def post(self, path: str, **form: str) -> httpx.Response:
        """With the application's credentials."""
        credentials = {"client_id": self.client_id} | ({"client_secret": self.secret} if self.secret else {})
        return await self.http.post(path, data=credentials | form)


def answered(uri: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(uri).query))


def refused(response: httpx.Response, error: str, status: int = 400) -> None:
    assert (response.status_code, response.json()["error"]) == (status, error), response.text
    assert response.headers["cache-control"] == "no-store"
    assert set(response.json()) == {"error", "error_description"}


@pytest.fixture(scope="module")
def names(hub: Any) -> dict[str, str]:
    """Registered once: a person, a public application, a confidential one and its secret."""
    made = {name: f"{name}-{secrets.token_hex(3)}" for name in ("dana", "spa", "site")}
    done = krin(
        "user", "add", made["dana"], "--role", "dashboard", "--role", "trader", "--data-dir", str(hub.data_dir),
        environment={"KRIN_PASSWORD": PASSWORD},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    roles = ("--role", "dashboard", "--role", "agent", "--redirect-uri", HOME, "--redirect-uri", LOCAL)
    assert on(hub, "client", "add", made["spa"], "--public", *roles) == ""
    made["secret"] = on(hub, "client", "add", made["site"], *roles).strip()
    return made


@pytest.fixture
def spa(http: httpx.AsyncClient, names: dict[str, str]) -> App:
    return App(http, names["spa"], None, names["dana"])


@pytest.fixture
def site(http: httpx.AsyncClient, names: dict[str, str]) -> App:
    return App(http, names["site"], names["secret"], names["dana"])


async def test_c52_an_application_gets_what_the_person_allowed_and_no_more(hub: Any, spa: App, site: App) -> None:
    for app in (spa, site):
        answer = await app.decided(await app.signed_in())
        target = answer.json()["redirect_to"]
        assert target.startswith(HOME + "?")
        assert answered(target) == {"code": answered(target)["code"], "state": "s t&te", "iss": hub.url}
        body = (await app.exchange(answered(target)["code"])).json()
        claims = jwt.decode(body["access_token"], options={"verify_signature": False})

        assert (body["token_type"], body["scope"]) == ("Bearer", "dashboard")
        assert (claims["sub"], claims["roles"], claims["client_id"]) == (app.person, ["dashboard"], app.client_id)
        assert claims["amr"] == ["pwd"]
        async with peer(hub, body["access_token"]) as client:
            assert "result" in await client.ask("subscribe", channel="team:alpha")
            orders = await client.ask("subscribe", channel=f"orders:{app.person}")
            assert orders["error"]["code"] == 1003, "a trader's right that nobody asked for"


async def test_the_scope_of_a_request_that_names_none_is_what_client_and_person_have_in_common(spa: App) -> None:
    answer = await spa.exchange(await spa.code(scope=None))

    assert answer.json()["scope"] == "dashboard"


async def test_a_redirect_uri_with_a_query_keeps_it(spa: App) -> None:
    answer = await spa.decided(await spa.signed_in(), redirect_uri=LOCAL)
    target = answer.json()["redirect_to"]

    assert target.startswith("http://127.0.0.1:9999/back?fixed=1&code=")


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": None},
        {"client_id": "a\x00b"},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/back"},
        {"redirect_uri": HOME + "/"},
        {"redirect_uri": HOME + "?x=1"},
        {"redirect_uri": HOME.upper()},
        {"redirect_uri": HOME + "#"},
        {"redirect_uri": "https://app.example.evil/back"},
        {"redirect_uri": "https://app.example/back/../evil"},
        {"redirect_uri": "http://app.example/back"},
        {"redirect_uri": "http://127.0.0.1:9998/back?fixed=1"},
        {"redirect_uri": "javascript:alert(1)"},
    ],
    ids=str,
)
async def test_c52_nobody_is_sent_to_an_address_that_is_not_registered_letter_by_letter(
    spa: App, changes: dict[str, str | None]
) -> None:
    asked = await spa.http.get("/oauth/authorize", params=spa.query(**changes))
    decided = await spa.decided(await spa.signed_in(), **changes)

    for each in (asked, decided):
        refused(each, "invalid_request")
        assert "location" not in each.headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": CHALLENGE + "A"}, "invalid_request"),
        ({"code_challenge": CHALLENGE[:-1]}, "invalid_request"),
        ({"code_challenge": CHALLENGE[:-1] + "="}, "invalid_request"),
        ({"code_challenge": CHALLENGE + "\n"}, "invalid_request"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"scope": "dashboard trader"}, "invalid_scope"),
        ({"scope": "dashboard  agent"}, "invalid_scope"),
        ({"scope": "agent"}, "access_denied"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"request_uri": "https://evil.example"}, "request_not_supported"),
        ({"state": "x" * 1025}, "invalid_request"),
    ],
    ids=str,
)
async def test_c52_a_request_that_is_not_in_order_is_told_to_the_application_and_gets_no_code(
    hub: Any, spa: App, changes: dict[str, str | None], error: str
) -> None:
    decided = await spa.decided(await spa.signed_in(), **changes)
    told = answered(decided.json()["redirect_to"])

    assert (told["error"], told["iss"], "code" in told) == (error, hub.url, False)
    assert told["state"][:6] == (changes.get("state") or "s t&te")[:6]
    if error != "access_denied":
        asked = await spa.http.get("/oauth/authorize", params=spa.query(**changes))
        assert asked.status_code == 303
        assert answered(asked.headers["location"]) == told


async def test_c52_a_repeated_parameter_is_refused(spa: App) -> None:
    query = urlencode([*spa.query().items(), ("redirect_uri", "https://evil.example/")])

    refused(await spa.http.get(f"/oauth/authorize?{query}"), "invalid_request")


async def test_a_person_may_say_no(spa: App) -> None:
    told = answered((await spa.decided(await spa.signed_in(), "deny")).json()["redirect_to"])

    assert (told["error"], told["state"], "code" in told) == ("access_denied", "s t&te", False)


async def test_c52_only_a_persons_own_sign_in_allows_an_application(hub: Any, spa: App, site: App) -> None:
    """Not the token of another application, of an operator, of a program, and no cookie."""
    delegated = (await site.tokens())["access_token"]
    machine = (await site.post("/oauth/token", grant_type="client_credentials")).json()["access_token"]
    for token in (delegated, machine, hub.token(spa.person, "dashboard")):
        refused(await spa.decided(token), "access_denied", 403)
    for token in ("garbage", (await site.tokens())["refresh_token"]):
        refused(await spa.decided(token), "invalid_token", 401)
    cookie = {"cookie": f"access_token={await spa.signed_in()}; session={await spa.signed_in()}"}
    answer = await spa.http.post("/oauth/authorize", data=spa.query() | {"decision": "allow"}, headers=cookie)
    refused(answer, "invalid_token", 401)
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_c52_an_application_does_not_look_after_the_account_of_a_person(spa: App) -> None:
    """Neither its second factor nor its password, and it cannot step up to what it was not allowed."""
    headers = {"authorization": f"Bearer {(await spa.tokens())['access_token']}"}
    for method, path, body in (
        ("GET", "/v1/auth/mfa", None),
        ("POST", "/v1/auth/step-up", {"otp": "123456"}),
        ("POST", "/v1/auth/mfa/disable", None),
        ("POST", "/v1/auth/password", {"old_password": PASSWORD, "new_password": "another quiet horse, unsold"}),
    ):
        answer = await spa.http.request(method, path, json=body, headers=headers)
        assert answer.status_code == 403, path


async def test_the_page_runs_no_script_of_its_own_and_cannot_be_framed(spa: App) -> None:
    answer = await spa.http.get("/oauth/authorize", params=spa.query())
    policy = answer.headers["content-security-policy"]

    assert answer.status_code == 200
    assert spa.client_id in answer.text
    assert "default-src 'none'; script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert "set-cookie" not in answer.headers
    for script in re.findall(r"<script\b.*?</script>", answer.text, re.DOTALL):
        assert re.fullmatch(r'<script type="module" src="static/[a-z]+\.js"></script>', script)
    assert not re.search(r"\son[a-z]+=|javascript:", answer.text)
    assert (await spa.http.get("/static/authorize.js")).status_code == 200


# --- codes


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": WRONG_VERIFIER},
        {"code_verifier": ""},
        {"code_verifier": CHALLENGE},
        {"code_verifier": VERIFIER[:-1]},
        {"code_verifier": VERIFIER + "\n"},
        {"code_verifier": "é" * 50},
        {"redirect_uri": LOCAL},
        {"redirect_uri": ""},
    ],
    ids=str,
)
async def test_c52_a_code_is_worth_nothing_without_its_verifier_and_address(spa: App, changes: dict[str, str]) -> None:
    code = await spa.code()

    refused(await spa.exchange(code, **changes), "invalid_grant")
    refused(await spa.exchange(code), "invalid_grant")  # shown once, used up


@pytest.mark.parametrize("code", ["made-up", "", "\x00", "\ud83d", "x" * 5000])
async def test_a_code_that_was_never_issued_is_worth_nothing(spa: App, code: str) -> None:
    refused(await spa.exchange(code.encode("utf-8", "replace").decode()), "invalid_grant")


async def test_c52_a_code_is_its_own_applications(spa: App, site: App) -> None:
    refused(await site.exchange(await spa.code()), "invalid_grant")


async def test_c52_a_code_used_twice_ends_what_was_issued_for_it(hub: Any, spa: App) -> None:
    code = await spa.code()
    first = (await spa.exchange(code)).json()
    headers = {"authorization": f"Bearer {first['access_token']}"}
    async with peer(hub, first["access_token"]) as client:
        refused(await spa.exchange(code), "invalid_grant")
        assert await client.until_closed() == 4001
    refused(
        await spa.post("/oauth/token", grant_type="refresh_token", refresh_token=first["refresh_token"]),
        "invalid_grant",
    )
    assert (await spa.http.get("/v1/channels", headers=headers)).status_code == 401


async def test_c52_of_two_who_show_a_code_at_once_one_gets_tokens_at_most(spa: App) -> None:
    code = await spa.code()
    answers = await asyncio.gather(*(spa.exchange(code) for _ in range(6)))

    # Nobody does if the second is noticed before the first has got them.
    assert sorted(each.status_code for each in answers)[1:] == [400] * 5


# --- clients and refresh tokens


@pytest.mark.parametrize("secret", [None, "wrong", "x" * 5000])
async def test_a_confidential_application_must_show_its_secret(site: App, secret: str | None) -> None:
    code = await site.code()
    stranger = App(site.http, site.client_id, secret, site.person)

    refused(await stranger.exchange(code), "invalid_client", 401)


async def test_a_public_application_has_no_secret_and_cannot_act_for_itself(spa: App) -> None:
    refused(await spa.post("/oauth/token", grant_type="client_credentials", client_secret="x"), "invalid_client", 401)
    refused(await spa.post("/oauth/token", grant_type="client_credentials"), "unauthorized_client")


@pytest.mark.parametrize("grant", ["password", "implicit", "urn:ietf:params:oauth:grant-type:device_code"])
async def test_c52_there_is_no_password_grant_and_no_other_that_rfc_9700_forbids(site: App, grant: str) -> None:
    answer = await site.post("/oauth/token", grant_type=grant, username=site.person, password=PASSWORD)

    refused(answer, "unsupported_grant_type")


async def test_a_program_may_ask_for_less_than_it_may(site: App) -> None:
    answer = await site.post("/oauth/token", grant_type="client_credentials", scope="agent")

    assert answer.json()["scope"] == "agent"
    refused(await site.post("/oauth/token", grant_type="client_credentials", scope="admin"), "invalid_scope")


async def test_c45_a_reused_refresh_token_ends_the_family_its_access_tokens_and_their_sockets(
    hub: Any, spa: App
) -> None:
    first = await spa.tokens()
    second = (await spa.post("/oauth/token", grant_type="refresh_token", refresh_token=first["refresh_token"])).json()
    assert second["scope"] == "dashboard"
    async with peer(hub, second["access_token"]) as client:
        for refresh_token in (first["refresh_token"], second["refresh_token"]):
            refused(
                await spa.post("/oauth/token", grant_type="refresh_token", refresh_token=refresh_token), "invalid_grant"
            )
        assert await client.until_closed() == 4001


async def test_c45_a_refresh_token_in_other_hands_ends_its_family(spa: App, site: App) -> None:
    stolen = (await spa.tokens())["refresh_token"]

    refused(await site.post("/oauth/token", grant_type="refresh_token", refresh_token=stolen), "invalid_grant")
    refused(await spa.post("/oauth/token", grant_type="refresh_token", refresh_token=stolen), "invalid_grant")
    nobody = await spa.http.post(
        "/oauth/token", data={"grant_type": "refresh_token", "refresh_token": (await spa.tokens())["refresh_token"]}
    )
    refused(nobody, "invalid_grant")


# --- introspection, revocation, metadata


async def test_introspection_tells_a_client_what_a_token_is_worth(hub: Any, site: App) -> None:
    tokens = await site.tokens()
    access = (await site.post("/oauth/introspect", token=tokens["access_token"])).json()
    refresh = (await site.post("/oauth/introspect", token=tokens["refresh_token"])).json()

    assert (access["active"], access["sub"], access["scope"]) == (True, site.person, "dashboard")
    assert (access["client_id"], access["token_type"]) == (site.client_id, "Bearer")
    assert access["exp"] - access["iat"] == tokens["expires_in"]
    assert (refresh["active"], refresh["sub"]) == (True, site.person)


async def test_introspection_says_of_everything_else_only_that_it_is_not_active(hub: Any, site: App, spa: App) -> None:
    foreign = (await spa.tokens())["refresh_token"]
    for token in ("x", "a.b.c", hub.token("ann", ttl_s=-60), "krin_ak_" + "y" * 43, foreign):
        assert (await site.post("/oauth/introspect", token=token)).json() == {"active": False}
    refused(await site.post("/oauth/introspect"), "invalid_request")
    refused(await spa.post("/oauth/introspect", token=foreign), "invalid_client", 401)
    refused(await site.http.post("/oauth/introspect", data={"token": foreign}), "invalid_client", 401)


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_a_revoked_token_takes_its_family_with_it(hub: Any, spa: App, kind: str) -> None:
    tokens = await spa.tokens()
    async with peer(hub, tokens["access_token"]) as client:
        assert (await spa.post("/oauth/revoke", token=tokens[kind], token_type_hint="x")).status_code == 200
        assert await client.until_closed() == 4001
    refused(
        await spa.post("/oauth/token", grant_type="refresh_token", refresh_token=tokens["refresh_token"]),
        "invalid_grant",
    )
    assert (await spa.post("/oauth/revoke", token=tokens[kind])).status_code == 200


async def test_nobody_revokes_the_token_of_another_application(spa: App, site: App) -> None:
    tokens = await spa.tokens()
    for token in (tokens["access_token"], tokens["refresh_token"]):
        refused(await site.post("/oauth/revoke", token=token), "unauthorized_client")
        refused(await site.http.post("/oauth/revoke", data={"token": token}), "unauthorized_client")
    assert (await spa.post("/oauth/revoke", token="unknown")).status_code == 200
    answer = await spa.post("/oauth/token", grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert answer.status_code == 200


async def test_whoever_holds_a_token_that_no_application_got_may_end_it(hub: Any, http: httpx.AsyncClient) -> None:
    token = hub.token("operator")
    async with peer(hub, token) as client:
        assert (await http.post("/oauth/revoke", data={"token": token})).status_code == 200
        assert await client.until_closed() == 4001


async def test_the_metadata_names_what_there_is_and_nothing_it_was_told_by_the_asker(
    hub: Any, http: httpx.AsyncClient
) -> None:
    body = (await http.get("/.well-known/oauth-authorization-server", headers={"host": "evil.example"})).json()

    assert body["issuer"] == hub.url
    assert body["code_challenge_methods_supported"] == ["S256"]
    assert body["response_types_supported"] == ["code"]
    assert "password" not in body["grant_types_supported"]
    for name, method in (
        ("token", "POST"),
        ("introspection", "POST"),
        ("revocation", "POST"),
        ("authorization", "GET"),
    ):
        answer = await http.request(method, body[f"{name}_endpoint"])
        assert answer.status_code in (400, 401), name
    assert (await http.get(body["jwks_uri"])).json()["keys"]


@pytest.mark.parametrize(
    "arguments",
    [
        "--redirect-uri http://app.example/back",
        "--redirect-uri javascript:alert(1)",
        "--redirect-uri data:text/html,x",
        "--redirect-uri https://app.example/back#part",
        "--redirect-uri https://user@app.example/back",
        "--redirect-uri //app.example/back",
        "--redirect-uri file:///etc/passwd",
        "--redirect-uri app:/back",
        "--public",
    ],
)
async def test_c52_an_application_with_an_unsafe_address_is_not_registered(hub: Any, arguments: str) -> None:
    add = ["client", "add", "unsafe", "--role", "agent", *arguments.split(" "), "--data-dir", str(hub.data_dir)]
    done = await asyncio.to_thread(krin, *add)

    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


# --- tokens that are bound to a key (RFC 9449, control C54)


def bearer(scheme: str, token: str, *proofs: str) -> list[tuple[str, str]]:
    return [("authorization", f"{scheme} {token}"), *(("dpop", proof) for proof in proofs)]


def proof_refused(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["meta"]["error"]["name"]) == (401, "proof_invalid"), answer.text
    assert answer.headers["www-authenticate"] == 'DPoP error="invalid_dpop_proof", algs="ES256 EdDSA"'
    assert answer.json()["security_audit"]["token"] == {
        "valid": False, "subject": None, "scopes": [], "reason": "proof_invalid",
    }  # fmt: skip


@pytest.fixture(scope="module")
def robot(hub: Any) -> tuple[str, str]:
    """An agent with credentials of its own."""
    name = f"robot-{secrets.token_hex(3)}"
    return name, on(hub, "client", "add", name, "--role", "agent").strip()


class Holder:
    """A program that has a key."""

    def __init__(self, hub: Any, http: httpx.AsyncClient, robot: tuple[str, str]) -> None:
        self.hub = hub
        self.http = http
        self.robot = robot
        self.key = ProofKey()

    def proof(self, method: str, path: str, token: str | None = None, **changes: Any) -> str:
        return self.key.proof(method, self.hub.url + path, now_s=time.time(), token=token, **changes)

    async def ask(self, *proofs: str) -> httpx.Response:
        form = {"grant_type": "client_credentials", "client_id": self.robot[0], "client_secret": self.robot[1]}
        return await self.http.post("/oauth/token", data=form, headers=[("dpop", proof) for proof in proofs])

    async def token(self) -> str:
        answer = await self.ask(self.proof("POST", "/oauth/token"))
        assert (answer.status_code, answer.json()["token_type"]) == (200, "DPoP"), answer.text
        found: str = answer.json()["access_token"]
        return found


@pytest.fixture
def holder(hub: Any, http: httpx.AsyncClient, robot: tuple[str, str]) -> Holder:
    return Holder(hub, http, robot)


async def test_c54_a_token_is_bound_to_the_key_that_was_proven(holder: Holder) -> None:
    token = await holder.token()
    form = {"token": token, "client_id": holder.robot[0], "client_secret": holder.robot[1]}
    told = (await holder.http.post("/oauth/introspect", data=form)).json()
    described = (await holder.http.get("/.well-known/oauth-authorization-server")).json()

    assert jwt.decode(token, options={"verify_signature": False})["cnf"] == {"jkt": holder.key.jkt}
    assert (told["active"], told["token_type"], told["cnf"]) == (True, "DPoP", {"jkt": holder.key.jkt})
    assert described["dpop_signing_alg_values_supported"] == ["ES256", "EdDSA"]
    assert (await holder.ask()).json()["token_type"] == "Bearer", "whoever shows no proof gets what there was before"


async def test_c54_a_proof_that_is_no_good_gets_no_token(holder: Holder) -> None:
    used = holder.proof("POST", "/oauth/token")
    assert (await holder.ask(used)).status_code == 200

    refused(await holder.ask(used), "invalid_dpop_proof")
    refused(await holder.ask(""), "invalid_dpop_proof")
    refused(await holder.ask(holder.proof("GET", "/oauth/token")), "invalid_dpop_proof")
    refused(await holder.ask(holder.proof("POST", "/oauth/introspect")), "invalid_dpop_proof")
    refused(await holder.ask(holder.proof("POST", "/oauth/token", iat=int(time.time()) - 120)), "invalid_dpop_proof")
    two = holder.proof("POST", "/oauth/token"), holder.proof("POST", "/oauth/token")
    refused(await holder.ask(*two), "invalid_dpop_proof")


async def test_c54_a_stolen_token_without_its_proof_is_401(holder: Holder) -> None:
    token = await holder.token()
    path = "/v1/channels"
    thief = Holder(holder.hub, holder.http, holder.robot)
    own = await thief.token()

    async def get(headers: list[tuple[str, str]]) -> httpx.Response:
        return await holder.http.get(path, headers=headers, params={"a": "b"})

    seen = holder.proof("GET", path, token)
    assert (await get(bearer("DPoP", token, seen))).status_code == 200
    for headers in (
        bearer("Bearer", token),
        bearer("Bearer", token, holder.proof("GET", path, token)),
        bearer("DPoP", token),
        bearer("DPoP", token, seen),  # a replayed jti
        bearer("DPoP", token, thief.proof("GET", path, token)),
        bearer("DPoP", token, holder.proof("POST", path, token)),
        bearer("DPoP", token, holder.proof("GET", "/v1/sessions", token)),
        bearer("DPoP", token, holder.proof("GET", path, own)),
        bearer("DPoP", token, holder.proof("GET", path)),
        bearer("DPoP", token, holder.proof("GET", path, token), holder.proof("GET", path, token)),
        bearer("DPoP", holder.hub.token("ann"), holder.proof("GET", path, holder.hub.token("ann"))),
    ):
        proof_refused(await get(headers))
    decide = await holder.http.post("/oauth/authorize", headers={"authorization": f"Bearer {token}"})
    refused(decide, "invalid_token", 401)


async def test_c54_a_handshake_and_a_connect_want_the_proof(hub: Any, holder: Holder) -> None:
    token = await holder.token()
    seen = holder.proof("GET", "/ws", token)
    async with peer(hub, headers=dict(bearer("DPoP", token, seen))) as client:
        assert (await client.ask("connect"))["result"]["user"] == holder.robot[0]
    async with peer(hub, token, proof=holder.key.proof("GET", hub.ws_url, now_s=time.time(), token=token)) as client:
        assert "result" in await client.ask("subscribe", channel="agent:robot")
    for headers in (bearer("Bearer", token), bearer("DPoP", token), bearer("DPoP", token, seen)):
        with pytest.raises(InvalidStatus) as turned_away:
            async with peer(hub, headers=dict(headers)):
                pass
        answer = turned_away.value.response
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith('DPoP error="invalid_dpop_proof"')
    async with peer(hub) as client:
        assert (await client.ask("connect", token=token))["error"]["name"] == "proof_invalid"
        assert await client.until_closed() == 4002


async def test_c54_the_python_client_proves_that_it_has_the_key(hub: Any, holder: Holder) -> None:
    token = await holder.token()

    def prove(url: str, token: str) -> str:
        return holder.key.proof("GET", url, now_s=time.time(), token=token)

    async with Client(hub.url, token=token, prove=prove) as krin:
        assert krin.user == holder.robot[0]
        assert await krin.refresh(await holder.token()) is not None
    with pytest.raises(Disconnected) as ended:
        async with Client(hub.url, token=token):
            pass
    assert ended.value.code == 4002


async def test_c54_the_refresh_tokens_of_a_public_client_are_bound_and_a_copy_is_worth_nothing(
    holder: Holder, spa: App, site: App
) -> None:
    async def refresh(app: App, token: str, *proofs: str) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": app.client_id}
        form |= {"client_secret": app.secret} if app.secret else {}
        return await app.http.post("/oauth/token", data=form, headers=[("dpop", proof) for proof in proofs])

    async def first(app: App, **changes: str) -> httpx.Response:
        form = {"grant_type": "authorization_code", "code": await app.code(**changes), "redirect_uri": HOME}
        form |= {"code_verifier": VERIFIER, "client_id": app.client_id}
        form |= {"client_secret": app.secret} if app.secret else {}
        headers = {"dpop": holder.proof("POST", "/oauth/token")}
        return await app.http.post("/oauth/token", data=form, headers=headers)

    pair = (await first(spa, dpop_jkt=holder.key.jkt)).json()
    thief = Holder(holder.hub, holder.http, holder.robot)
    refused(await refresh(spa, pair["refresh_token"]), "invalid_grant")
    refused(await refresh(spa, pair["refresh_token"], thief.proof("POST", "/oauth/token")), "invalid_grant")
    again = await refresh(spa, pair["refresh_token"], holder.proof("POST", "/oauth/token"))
    assert (again.status_code, again.json()["token_type"]) == (200, "DPoP"), "the thief could end nothing"
    refused(await refresh(spa, again.json()["refresh_token"]), "invalid_grant")
    refused(await first(spa, dpop_jkt=thief.key.jkt), "invalid_grant")

    pair = (await first(site)).json()
    assert pair["token_type"] == "DPoP"
    assert (await refresh(site, pair["refresh_token"])).json()["token_type"] == "Bearer", "its secret binds it already"


async def test_c54_a_sign_in_without_an_application_is_bound_to_no_key(holder: Holder, spa: App) -> None:
    signed_in = await spa.http.post("/v1/auth/login", json={"name": spa.person, "password": PASSWORD})
    form = {"grant_type": "refresh_token", "refresh_token": signed_in.json()["data"]["refresh_token"]}

    refused(
        await spa.http.post("/oauth/token", data=form, headers={"dpop": holder.proof("POST", "/oauth/token")}),
        "invalid_request",
    )
