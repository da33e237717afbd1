"""The REST door: the same rules and errors as the WebSocket, one envelope, and OAuth in OAuth's own form."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from processes import krin, running
from sockets import Metrics, RawSocket, peer, unique

PASSWORD = "a quiet horse in the rain"
AUDIT_KEYS = {"token", "rateLimit", "sanitization", "threat", "timestamp", "severity"}
ENVELOPE_KEYS = {"data", "meta", "ai_insights", "performance_metrics", "security_audit"}
UPDATE = [{"specialist_id": "s1"}]


def on(hub: Any, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line, on the data folder of the running hub."""
    return krin(*arguments, "--data-dir", str(hub.data_dir), environment=environment)


@pytest.fixture(scope="module")
def dana(hub: Any) -> Iterator[str]:
    """A user with a password."""
    name = f"dana-{secrets.token_hex(3)}"
    done = on(hub, "user", "add", name, "--role", "dashboard", KRIN_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    yield name


@pytest.fixture(scope="module")
def robot(hub: Any) -> Iterator[tuple[str, str]]:
    """An OAuth client and its secret."""
    name = f"robot-{secrets.token_hex(3)}"
    done = on(hub, "client", "add", name, "--role", "agent", "--team", "alpha")
    assert done.returncode == 0, done.stderr
    [secret] = done.stdout.split()
    yield name, secret


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def admin(hub: Any) -> dict[str, str]:
    return bearer(hub.token("root", "admin"))


def enveloped(response: httpx.Response) -> dict[str, Any]:
    """The body, having checked what every envelope must be."""
    body: dict[str, Any] = response.json()
    assert set(body) == ENVELOPE_KEYS
    meta, audit = body["meta"], body["security_audit"]
    assert meta["version"] == "krin-level"
    assert meta["status"] == ("success" if response.is_success else "error")
    assert meta["request_id"]
    assert len(meta["trace_id"]) == 32
    assert body["performance_metrics"]["duration_ms"] > 0
    assert {"duration_ms", "db_ms", "cache", "queue_ms"} <= set(body["performance_metrics"])
    assert set(audit) == AUDIT_KEYS
    assert set(audit["token"]) == {"valid", "subject", "scopes", "reason"}
    assert set(audit["sanitization"]) == {"ok", "changes", "violations"}
    assert set(audit["threat"]) == {"score", "patterns", "action"}
    assert abs(audit["timestamp"] - time.time() * 1000) < 60_000
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "server" not in response.headers
    return body


def error(response: httpx.Response, status: int, code: int, path: str | None = None) -> dict[str, Any]:
    body = enveloped(response)
    found: dict[str, Any] = body["meta"]["error"]
    assert body["data"] is None
    assert (response.status_code, found["code"], found.get("path")) == (status, code, path)
    for leak in ("Traceback", "msgspec", "asyncpg", "python", ".py"):
        assert leak.lower() not in json.dumps(found).lower()
    return found


async def publish(http: httpx.AsyncClient, headers: dict[str, str], channel: str, **fields: Any) -> httpx.Response:
    body = {"channel": channel, "message": {"type": "NOTE", "data": {}}} | fields
    return await http.post("/v1/publish", json=body, headers=headers)


# --- signing in


async def test_a_user_signs_in_and_the_token_opens_what_the_role_opens(
    hub: Any, http: httpx.AsyncClient, dana: str
) -> None:
    response = await http.post("/v1/auth/login", json={"name": dana, "password": PASSWORD})
    pair = enveloped(response)["data"]
    async with peer(hub, pair["access_token"]) as client:
        allowed = await client.ask("subscribe", channel="team:alpha")
        refused = await client.ask("publish", channel="team:alpha", message={"type": "ALERT", "data": {}})

    assert (pair["token_type"], pair["expires_in"] > 0) == ("Bearer", True)
    assert "result" in allowed
    assert refused["error"]["code"] == 1003
    assert PASSWORD not in response.text


@pytest.mark.parametrize("name", ["nobody", "", "a\x00b", "x" * 10_000, "' OR 1=1 --", "\u202e", "😀"])
async def test_an_unknown_name_and_a_wrong_password_are_told_the_same(
    hub: Any, http: httpx.AsyncClient, dana: str, name: str
) -> None:
    wrong = await http.post("/v1/auth/login", json={"name": dana, "password": "wrong"})
    unknown = await http.post("/v1/auth/login", json={"name": name, "password": "wrong"})

    assert error(wrong, 401, 1001) == error(unknown, 401, 1001)
    assert "www-authenticate" in wrong.headers


@pytest.mark.parametrize(
    ("body", "status", "code", "path"),
    [
        (b"", 400, 1007, None),
        (b"{", 400, 1007, None),
        (b"[]", 422, 1013, "$"),
        (b"{}", 422, 1013, "$"),
        (b'{"name":1,"password":"x"}', 422, 1013, "$.name"),
        (b'{"name":"a","password":null}', 422, 1013, "$.password"),
        (b'{"name":"a","password":"x","admin":true}', 422, 1013, "$"),
        (b"[" * 60_000, 422, 1013, "$"),
        (b"\xff\xfe", 400, 1007, None),
        (b'{"name":"\\ud800","password":"x"}', 400, 1007, None),
        (b"x" * 70_000, 413, 1016, None),
    ],
    ids=range(11),
)
async def test_a_wrong_body_is_refused_before_anybody_is_looked_up(
    hub: Any, http: httpx.AsyncClient, body: bytes, status: int, code: int, path: str | None
) -> None:
    error(await http.post("/v1/auth/login", content=body), status, code, path)


async def test_a_password_of_a_megabyte_is_refused_before_it_is_hashed(hub: Any, http: httpx.AsyncClient) -> None:
    error(await http.post("/v1/auth/login", json={"name": "a", "password": "x" * 1_000_000}), 413, 1016)


async def test_a_body_without_end_is_refused_as_soon_as_it_is_too_long(hub: Any, memory: Any) -> None:
    async with RawSocket.open(hub) as raw:
        raw.writer.write(b"POST /v1/auth/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        block = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        for _ in range(3):
            raw.writer.write(block)
        status, _ = await raw.response()

    assert status == 413
    assert memory.grown_mib < 16


async def test_c25_fifty_sign_ins_at_once_do_not_stop_the_hub(tmp_path: Path) -> None:
    """On a hub of its own: what detects threats takes this for what it is."""
    with running(tmp_path / "data") as own:
        async with httpx.AsyncClient(base_url=own.url, timeout=30) as http, peer(own, own.token("ann")) as client:
            signing_in = [
                asyncio.create_task(http.post("/v1/auth/login", json={"name": f"nobody-{number}", "password": "wrong"}))
                for number in range(50)
            ]
            answered = 0
            while not all(each.done() for each in signing_in):
                await client.ask("unsubscribe", channel="custom:never")
                answered += 1
                await asyncio.sleep(0.01)  # the pace, not a wait for a fact
        assert {(await each).status_code for each in signing_in} <= {401, 429, 503}
    assert answered > len(signing_in) / 4  # hashing on the loop leaves time for 9; beside it there is some for 25 to 90


# --- OAuth


async def test_client_credentials_from_the_form_or_the_header_give_a_token(
    hub: Any, http: httpx.AsyncClient, robot: tuple[str, str]
) -> None:
    name, secret = robot
    form = {"grant_type": "client_credentials", "client_id": name, "client_secret": secret}
    basic = {"authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}
    by_form = await http.post("/oauth/token", data=form)
    by_header = await http.post("/oauth/token", data={"grant_type": "client_credentials"}, headers=basic)

    for response in (by_form, by_header):
        body = response.json()
        assert response.status_code == 200
        assert {"access_token", "token_type", "expires_in"} <= set(body)
        assert "refresh_token" not in body
        assert response.headers["cache-control"] == "no-store"
        async with peer(hub, body["access_token"]) as client:
            assert "result" in await client.ask("subscribe", channel="team:alpha")
            assert (await client.ask("subscribe", channel="team:beta"))["error"]["code"] == 1003


@pytest.mark.parametrize(
    ("form", "headers", "status", "name"),
    [
        ("", {}, 400, "invalid_request"),
        ("grant_type=", {}, 400, "invalid_request"),
        ("grant_type=password&username=a&password=b", {}, 400, "unsupported_grant_type"),
        ("grant_type=client_credentials", {}, 401, "invalid_client"),
        ("grant_type=client_credentials&client_id=nobody&client_secret=x", {}, 401, "invalid_client"),
        ("grant_type=client_credentials&client_id=a%00b&client_secret=x", {}, 401, "invalid_client"),
        ("grant_type=client_credentials", {"authorization": "Basic !!!"}, 401, "invalid_client"),
        ("grant_type=client_credentials", {"authorization": "Basic /w=="}, 401, "invalid_client"),
        ("grant_type=refresh_token", {}, 400, "invalid_request invalid_grant"),
        ("grant_type=refresh_token&refresh_token=made-up", {}, 400, "invalid_grant"),
        ("grant_type=refresh_token&refresh_token=%00", {}, 400, "invalid_grant"),
        ("grant_type=client_credentials&grant_type=refresh_token", {}, 400, "invalid_request"),
        ("x" * 70_000, {}, 413, "invalid_request"),
    ],
    ids=range(13),
)
async def test_a_token_request_that_is_wrong_gets_oauths_own_error(
    hub: Any, http: httpx.AsyncClient, form: str, headers: dict[str, str], status: int, name: str
) -> None:
    content_type = {"content-type": "application/x-www-form-urlencoded"}
    response = await http.post("/oauth/token", content=form, headers=headers | content_type)

    assert response.status_code == status
    assert response.json()["error"] in name.split()
    assert set(response.json()) <= {"error", "error_description"}
    assert response.headers["cache-control"] == "no-store"


async def test_a_refresh_token_works_once_and_its_reuse_ends_the_whole_family(
    hub: Any, http: httpx.AsyncClient, dana: str
) -> None:
    async def refresh(token: str) -> httpx.Response:
        return await http.post("/oauth/token", data={"grant_type": "refresh_token", "refresh_token": token})

    response = await http.post("/v1/auth/login", json={"name": dana, "password": PASSWORD})
    first = response.json()["data"]["refresh_token"]
    second = (await refresh(first)).json()
    third = (await refresh(second["refresh_token"])).json()
    reused = await refresh(first)
    after = await refresh(third["refresh_token"])

    assert len({first, second["refresh_token"], third["refresh_token"]}) == 3
    assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
    assert (after.status_code, after.json()["error"]) == (400, "invalid_grant")
    async with asyncio.timeout(5):
        while (await http.get("/v1/channels", headers=bearer(second["access_token"]))).status_code != 401:
            await asyncio.sleep(0.05)


async def test_two_refreshes_at_the_same_moment_give_one_token_at_most(
    hub: Any, http: httpx.AsyncClient, dana: str
) -> None:
    response = await http.post("/v1/auth/login", json={"name": dana, "password": PASSWORD})
    form = {"grant_type": "refresh_token", "refresh_token": response.json()["data"]["refresh_token"]}
    answers = await asyncio.gather(*(http.post("/oauth/token", data=form) for _ in range(8)))

    # Nobody gets one if the second is noticed before the first has got it.
    assert sorted(each.status_code for each in answers)[1:] == [400] * 7


async def test_a_refresh_token_is_no_access_token(hub: Any, http: httpx.AsyncClient, dana: str) -> None:
    response = await http.post("/v1/auth/login", json={"name": dana, "password": PASSWORD})
    refresh_token = response.json()["data"]["refresh_token"]

    error(await http.get("/v1/channels", headers=bearer(refresh_token)), 401, 1010)


# --- who asks


@pytest.mark.parametrize("method_and_path", ["GET /v1/channels", "GET /v1/history/custom:x", "GET /v1/presence/custom:x", "POST /v1/publish"])  # fmt: skip
async def test_every_route_wants_a_token_and_says_how(hub: Any, http: httpx.AsyncClient, method_and_path: str) -> None:
    method, path = method_and_path.split()
    nothing = await http.request(method, path)
    garbage = await http.request(method, path, headers=bearer("x.y.z"))
    expired = await http.request(method, path, headers=bearer(hub.token("ann", ttl_s=-60)))
    basic = await http.request(method, path, headers={"authorization": "Basic YTpi"})

    error(nothing, 401, 1001)
    error(garbage, 401, 1010)
    error(expired, 401, 1009)
    error(basic, 401, 1001)
    for each in (nothing, garbage, expired, basic):
        wanted = 'Bearer error="invalid_token"' if each in (garbage, expired) else "Bearer"  # C5, RFC 6750 section 3
        assert each.headers["www-authenticate"] == wanted
    assert garbage.json()["security_audit"]["token"]["reason"] == "token_invalid"


async def test_the_audit_names_who_asked_and_never_the_token(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    response = await http.get("/v1/channels", headers=admin)
    token = enveloped(response)["security_audit"]["token"]

    assert token == {"valid": True, "subject": "root", "scopes": ["admin"], "reason": None}
    assert admin["authorization"].split()[1] not in response.text
    assert response.json()["ai_insights"] == {"status": "ready", "source": "rules", "items": []}


async def test_the_callers_trace_and_request_id_come_back_and_nonsense_is_replaced(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    for trace in ("0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c8f319c"):
        good = await http.get(
            "/v1/channels",
            headers=admin | {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "x-request-id": "my-request"},
        )
        assert (good.json()["meta"]["trace_id"], good.json()["meta"]["request_id"]) == (trace, "my-request")
    bad = await http.get(
        "/v1/channels",
        headers=admin | {"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01", "x-request-id": "x" * 5_000},
    )

    assert bad.json()["meta"]["trace_id"] != "0" * 32
    assert len(bad.json()["meta"]["request_id"]) <= 64


# --- publish


async def test_a_message_published_here_arrives_there(hub: Any, http: httpx.AsyncClient, admin: dict[str, str]) -> None:
    channel = unique("custom")
    async with peer(hub, hub.token("ann")) as reader:
        await reader.ask("subscribe", channel=channel)
        message = {"type": "NOTE", "data": {"a": [1, "é", None]}, "trace": None}
        response = await publish(http, admin, channel, key="k", message=message, timing=None)
        got = await reader.until_offset(channel, 1)

    placed = enveloped(response)["data"]
    assert (placed["channel"], placed["offset"]) == (channel, 1)
    assert (got["data"], got["key"], got["publisher"]) == ({"a": [1, "é", None]}, "k", "root")


@pytest.mark.parametrize(
    "fields",
    [
        {"channel": "nope:x"},
        {"channel": "custom"},
        {"channel": "custom:a b"},
        {"channel": ""},
        {"channel": 3},
        {"message": None},
        {"message": {"type": "note", "data": {}}},
        {"message": {"type": "NOTE"}},
        {"message": {"type": "NOTE", "data": {"n": 2**60}}},
        {"message": {"type": "NOTE", "data": {"t": "\x00"}}},
        {"message": {"type": "NOTE", "data": {}, "offset": 3}},
        {"key": ""},
        {"key": "k" * 129},
        {"idempotency_key": ""},
        {"idempotency_key": "k" * 129},
        {"ttl_ms": 0},
        {"ttl_ms": -5},
        {"ttl_ms": 10**15},
        {"ttl_ms": "soon"},
        {"surprise": 1},
        {"channel": "team:t", "ttl_ms": 1000},
        {"channel": "prices:X", "message": {"type": "PRICE_TICK", "data": {"symbol": "X", "bid": 1.5}}},
        {"channel": "prices:X", "message": {"type": "TRADE", "data": {}}},
    ],
    ids=str,
)
async def test_both_doors_refuse_the_same_publish_with_the_same_error(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], fields: dict[str, Any]
) -> None:
    body = {"channel": "custom:x", "message": {"type": "NOTE", "data": {}}} | fields
    async with peer(hub, hub.token("root")) as client:
        by_socket = (await client.ask("publish", **body))["error"]
    response = await http.post("/v1/publish", json=body, headers=admin)
    by_rest = enveloped(response)["meta"]["error"]

    assert not response.is_success
    assert {**by_rest} == {**by_socket}


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"NOTE","data":{"v":1e999}}',
        f'{{"type":"NOTE","data":{{"v":{"1" * 5_000}}}}}',
        f'{{"type":"NOTE","data":{{"v":{10**30}}}}}',
        '{"type":"NOTE","data":{"v":"\\ud800"}}',
        '{"type":"NOTE"}',
        "[]",
        "null",
    ],
    ids=lambda message: message[:40],
)
async def test_a_traced_request_is_refused_as_one_without_a_trace(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], message: str
) -> None:
    body = f'{{"channel":"custom:x","message":{message}}}'
    plain = await http.post("/v1/publish", content=body, headers=admin)
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    traced = await http.post("/v1/publish", content=body, headers=admin | {"traceparent": traceparent})

    assert plain.status_code in (400, 422)
    assert traced.status_code == plain.status_code
    assert enveloped(traced)["meta"]["error"] == enveloped(plain)["meta"]["error"]


@pytest.mark.parametrize("key", ["", "k" * 129, "k" * 5_000])
async def test_an_idempotency_key_in_the_header_is_held_to_the_same_rules(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], key: str
) -> None:
    for channel, message in (
        (unique("custom"), {"type": "NOTE", "data": {}}),
        ("team:t", {"type": "SPECIALIST_UPDATE", "data": UPDATE}),
    ):
        response = await publish(http, admin | {"idempotency-key": key}, channel, message=message)

        error(response, 422, 1013, "$.idempotency_key")


async def test_two_idempotency_keys_that_differ_are_refused_and_nothing_is_published(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    channel, message = unique("custom"), {"type": "NOTE", "data": {}}
    header = admin | {"idempotency-key": "k1"}
    twice = [*admin.items(), ("idempotency-key", "k1"), ("idempotency-key", "k2")]
    for headers, fields in ((header, {"idempotency_key": "k2"}), (twice, {})):
        body = {"channel": channel, "message": message, **fields}
        response = await http.post("/v1/publish", json=body, headers=headers)
        error(response, 422, 1013, "$.idempotency_key")

    same = await publish(http, header, channel, message=message, idempotency_key="k1")
    assert enveloped(same)["data"]["offset"] == 1
    assert enveloped(await publish(http, header, channel, message=message))["data"]["duplicate"] is True


@pytest.mark.parametrize("namespace", ["custom", "team"])
async def test_a_repeated_idempotency_key_is_answered_with_the_first_position_and_a_changed_one_conflicts(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], namespace: str
) -> None:
    channel = unique(namespace)
    first_message = {"type": "SPECIALIST_UPDATE", "data": UPDATE}
    other_message = {"type": "SPECIALIST_UPDATE", "data": [{"specialist_id": "s2"}]}
    headers = admin | {"idempotency-key": "k1"}
    first = await publish(http, headers, channel, message=first_message)
    again = await publish(http, headers, channel, message=first_message)
    conflict = await publish(http, headers, channel, message=other_message)

    assert enveloped(again)["data"] == enveloped(first)["data"] | {"duplicate": True}
    error(conflict, 409, 1017)


async def test_a_role_that_may_not_publish_is_told_so(hub: Any, http: httpx.AsyncClient) -> None:
    headers = bearer(hub.token("ann", "dashboard"))

    error(await publish(http, headers, "custom:x"), 403, 1003, "$.channel")


async def test_an_error_is_counted_once_whichever_door_it_came_through(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    def conflicts(text: str) -> float:
        lines = [line for line in text.splitlines() if line.startswith('krin_errors_total{error="unknown_channel"')]
        return float(lines[0].split()[-1]) if lines else 0.0

    before = conflicts((await http.get("/metrics")).text)
    await publish(http, admin, "nope:x")
    after = conflicts((await http.get("/metrics")).text)

    assert after - before == 1


# --- history, channels, presence


@pytest.mark.parametrize("namespace", ["custom", "team"])
async def test_history_pages_forward_and_backward_until_there_is_no_more(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], namespace: str
) -> None:
    channel = unique(namespace)
    for _ in range(7):
        await publish(http, admin, channel, message={"type": "SPECIALIST_UPDATE", "data": UPDATE})

    async def walk(**parameters: Any) -> list[int]:
        found: list[int] = []
        while True:
            response = await http.get(f"/v1/history/{channel}", params={"limit": 3} | parameters, headers=admin)
            body = enveloped(response)
            found += [each["offset"] for each in body["data"]["messages"]]
            paging = body["meta"]["paging"]
            assert paging["more"] is (paging["next"] is not None)
            if not paging["more"]:
                return found
            parameters["since"] = paging["next"]

    assert await walk() == [1, 2, 3, 4, 5, 6, 7]
    assert await walk(reverse="true") == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("namespace", ["custom", "team"])
async def test_since_may_be_a_bare_offset_as_the_description_says(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], namespace: str
) -> None:
    channel = unique(namespace)
    for _ in range(4):
        await publish(http, admin, channel, message={"type": "SPECIALIST_UPDATE", "data": UPDATE})
    response = await http.get(f"/v1/history/{channel}", params={"since": "2"}, headers=admin)

    assert [each["offset"] for each in enveloped(response)["data"]["messages"]] == [3, 4]


async def test_history_of_another_epoch_is_gone(hub: Any, http: httpx.AsyncClient, admin: dict[str, str]) -> None:
    channel = unique("custom")
    await publish(http, admin, channel)
    response = await http.get(f"/v1/history/{channel}", params={"since": "another:1"}, headers=admin)

    error(response, 410, 1012, "$.since.epoch")


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "$.limit"),
        ("limit=1001", "$.limit"),
        ("limit=-1", "$.limit"),
        ("limit=ten", "$.limit"),
        ("limit=1e3", "$.limit"),
        ("limit=٣", "$.limit"),
        ("limit=" + "9" * 5_000, "$.limit"),
        ("since=x", "$.since"),
        ("since=e:x", "$.since"),
        ("since=e:-1", "$.since"),
        ("since=e:" + "9" * 30, "$.since"),
        ("reverse=perhaps", "$.reverse"),
    ],
)
async def test_a_wrong_query_is_refused_with_its_path(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], query: str, path: str
) -> None:
    error(await http.get(f"/v1/history/custom:x?{query}", headers=admin), 422, 1013, path)


@pytest.mark.parametrize(
    "address",
    [
        "insights?subject=team:a&limit",
        "insights?subject=team:a&before",
        "knowledge?limit",
        "projects?limit",
        "orders?before",
    ],
)
async def test_a_number_that_is_no_number_is_refused_however_long(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], address: str
) -> None:
    name = address.rpartition("&")[2].rpartition("?")[2]
    for wrong in ("9" * 5_000, "٣", "-1e3", "²"):
        error(await http.get(f"/v1/{address}={wrong}", headers=admin), 422, 1013, f"$.params.{name}")


@pytest.mark.parametrize(
    ("channel", "status", "code"),
    [
        ("nope:x", 404, 1002),
        ("custom", 400, 1007),
        ("custom%3Ax%00", 400, 1007),
        ("custom:%E2%80%AE", 400, 1007),
        ("custom:" + "x" * 400, 422, 1013),
        ("custom:..%2F..%2Fetc", 400, 1007),
    ],
)
async def test_a_channel_in_the_path_is_held_to_the_grammar(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], channel: str, status: int, code: int
) -> None:
    error(await http.get(f"/v1/history/{channel}", headers=admin), status, code, "$.channel")


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/v1/history/{channel}", "$.channel"),
        ("/v1/presence/{channel}", "$.channel"),
        ("/v1/poll/{channel}", "$.channel"),
        ("/v1/explain?offset=1&channel={channel}", "$.channel"),
        ("/v1/search?query=x&channel={channel}", "$.channel"),
        ("/sse?channels={channel}", "$.channels[0]"),
    ],
)
@pytest.mark.parametrize("channel", ["ab", "custom:" + "x" * 249])
async def test_a_channel_too_short_or_too_long_is_no_channel_on_any_route(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], address: str, path: str, channel: str
) -> None:
    error(await http.get(address.format(channel=channel), headers=admin), 422, 1013, path)


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/v1/poll/{channel}?since=&wait_ms=0&rewind=", 200),
        ("/v1/poll/{channel}?wait_ms=", 200),
        ("/v1/explain?channel={channel}&offset=1&client=", 200),
        ("/v1/search?query=breaker&channel=&mode=hybrid&limit=10", 200),
        ("/v1/search?query=", 422),
    ],
)
async def test_what_a_query_leaves_empty_is_not_given(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], address: str, status: int
) -> None:
    answer = await http.get(address.format(channel=unique("custom")), headers=admin)

    assert answer.status_code == status, answer.text


async def test_a_symbol_with_slashes_is_one_channel(hub: Any, http: httpx.AsyncClient, admin: dict[str, str]) -> None:
    channel = unique("custom") + "/BTC/USDT:USDT"
    await publish(http, admin, channel)

    assert enveloped(await http.get(f"/v1/history/{channel}", headers=admin))["data"]["channel"] == channel


async def test_what_a_role_may_not_read_is_forbidden_whether_or_not_it_exists(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    existing = unique("orders")
    await publish(
        http, admin, existing, message={"type": "ORDER_EVENT", "data": {"account": "a", "client_order_id": "c"}}
    )
    headers = bearer(hub.token("ann", "trader"))
    for channel in (existing, unique("orders")):
        for route in ("history", "presence"):
            response = await http.get(f"/v1/{route}/{channel}", headers=headers)
            error(response, 403, 1003, "$.channel")


async def test_channels_lists_what_the_caller_may_read_and_only_what_holds_something(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    room, orders, empty = unique("custom"), unique("orders"), unique("team")
    await publish(http, admin, room)
    await publish(
        http, admin, orders, message={"type": "ORDER_EVENT", "data": {"account": "a", "client_order_id": "c"}}
    )
    async with peer(hub, hub.token("ann")) as client:
        await client.ask("subscribe", channel=empty)
        everything = enveloped(await http.get("/v1/channels", headers=admin))["data"]
        headers = bearer(hub.token("ann", "trader"))
        for_trader = enveloped(await http.get("/v1/channels", headers=headers))["data"]

    assert room in everything
    assert orders in everything
    assert empty not in everything
    assert room in for_trader
    assert orders not in for_trader
    assert everything == sorted(everything)


async def test_presence_names_who_is_there_now(hub: Any, http: httpx.AsyncClient, admin: dict[str, str]) -> None:
    channel = unique("custom")
    async with peer(hub, hub.token("ann"), kind="agent", name="Ann's agent") as client:
        await client.ask("subscribe", channel=channel)
        there = enveloped(await http.get(f"/v1/presence/{channel}", headers=admin))["data"]["members"]
    async with asyncio.timeout(5):
        while (await http.get(f"/v1/presence/{channel}", headers=admin)).json()["data"]["members"]:
            await asyncio.sleep(0.02)

    assert [(each["user"], each["kind"], each["name"]) for each in there] == [("ann", "agent", "Ann's agent")]


async def test_presence_where_none_is_kept_is_a_bad_request(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    error(await http.get("/v1/presence/prices:X", headers=admin), 400, 1007, "$.channel")


# --- beside the API


async def test_health_ready_metrics_and_the_description_answer_without_a_token(
    hub: Any, http: httpx.AsyncClient
) -> None:
    health = (await http.get("/health")).json()
    ready = await http.get("/ready")
    metrics = await http.get("/metrics")
    description = (await http.get("/openapi.json")).json()

    assert (health["status"], health["reasons"]) == ("OK", [])
    assert ready.status_code == 200
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    assert "krin_connections " in metrics.text
    assert description["openapi"].startswith("3.")


async def test_every_route_that_is_described_exists_and_every_reference_leads_somewhere(
    hub: Any, http: httpx.AsyncClient
) -> None:
    description = (await http.get("/openapi.json")).json()
    for path, operations in description["paths"].items():
        for method in operations:
            response = await http.request(method.upper(), path.replace("{channel}", "custom:x"))
            assert response.status_code not in (404, 405), (method, path)
    text = json.dumps(description)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in description["components"]["schemas"]


async def test_a_query_takes_what_its_description_says_and_nothing_above_it(hub: Any, http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    mine = bearer(hub.token("ann", "admin"))
    given = {"channel": "custom:x", "query": "x", "subject": "custom:x", "account": "ann", "channels": "custom:x"}
    tried = set()
    for path, operations in paths.items():
        known = {each["name"]: each for each in operations.get("get", {}).get("parameters", [])}
        bounded = [name for name, each in known.items() if each["in"] == "query" and each["schema"].get("maximum")]
        required = {name: given.get(name, "1") for name, each in known.items() if each.get("required")}
        for name in bounded:
            most = known[name]["schema"]["maximum"]
            route = path.format(**required) if "{" in path else path
            query = {each: value for each, value in required.items() if known[each]["in"] == "query"}
            above = await http.get(route, params=query | {name: most + 1}, headers=mine)
            assert above.json()["meta"]["error"]["name"] in ("schema_invalid", "bad_request"), (path, name)
            if name == "limit":
                within = await http.get(route, params=query | {name: most}, headers=mine)
                assert within.status_code in (200, 404), (path, within.text)
            tried.add(f"{path} {name}")
    assert {"/v1/orders limit", "/v1/audit before", "/v1/users limit", "/v1/history/{channel} limit"} < tried


@pytest.mark.parametrize("path", ["/v1/users", "/v1/webhooks/w/deliveries", "/v1/history/custom:x", "/v1/orders"])
@pytest.mark.parametrize("limit", ["1e2", "5.0", "+5", "0", "-1", "", "9" * 5000])
async def test_a_limit_is_a_whole_number_in_digits(hub: Any, http: httpx.AsyncClient, path: str, limit: str) -> None:
    answer = await http.get(path, params={"limit": limit}, headers=bearer(hub.token("ann", "admin")))
    error = answer.json()["meta"]["error"]
    assert error["name"] == "schema_invalid"
    assert error["path"].endswith(".limit")


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/metrics", "/openapi.json"])
async def test_head_answers_like_get_without_a_body(hub: Any, http: httpx.AsyncClient, path: str) -> None:
    got, asked = await http.get(path), await http.head(path)

    assert asked.status_code == got.status_code == 200
    assert asked.content == b""
    assert asked.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "GET"])
async def test_a_method_a_route_does_not_know_is_405_with_the_ones_it_knows(
    hub: Any, http: httpx.AsyncClient, method: str
) -> None:
    response = await http.request(method, "/v1/publish")

    assert response.status_code == 405
    assert "POST" in response.headers["allow"]
    assert response.json()["meta"]["error"]["name"] == "bad_request"


async def test_every_method_of_a_path_is_named_wherever_its_routes_stand(hub: Any, http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    for path, operations in paths.items():
        known = {method.upper() for method in operations}
        response = await http.request("PUT" if "PUT" not in known else "TRACE", path.replace("{channel}", "custom:x"))
        assert response.status_code == 405
        assert known <= {*response.headers["allow"].split(", ")}, path


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/nope", "/v1/publish/", "/v1/%00"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_an_unknown_path_of_the_api_is_404_in_the_envelope_with_or_without_a_token(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], path: str, method: str
) -> None:
    for headers in ({}, admin, {"authorization": "Bearer x.y.z"}):
        response = await http.request(method, path, headers=headers)
        told = response.json()

        assert response.status_code == 404
        assert told["data"] is None
        assert (told["meta"]["status"], told["meta"]["error"]["name"]) == ("error", "not_found")
        assert told["security_audit"]["token"]["reason"] == "not_needed"


@pytest.mark.parametrize("path", ["/nope", "/static/nope", "/%00"])
async def test_an_unknown_path_is_404_and_says_nothing_more(hub: Any, http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(path)

    assert response.status_code in (400, 404)
    assert len(response.content) < 400
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_a_slash_too_many_is_404_and_sends_nobody_to_a_host_of_the_callers_choice(
    hub: Any, http: httpx.AsyncClient
) -> None:
    response = await http.post("/v1/auth/login/", json={}, headers={"host": "evil.example"})

    assert response.status_code == 404
    assert "location" not in response.headers


async def test_the_dashboard_comes_with_a_policy(hub: Any, http: httpx.AsyncClient) -> None:
    response = await http.get("/")

    assert response.headers["content-type"].startswith("text/html")
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]


async def test_requests_on_one_kept_connection_do_not_see_each_other(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    for number in range(20):
        name = f"u{number}"
        response = await http.get("/v1/channels", headers=bearer(hub.token(name, "dashboard")))
        assert enveloped(response)["security_audit"]["token"]["subject"] == name
        error(await http.get("/v1/channels"), 401, 1001)


async def test_the_numbers_of_connections_and_subscriptions_are_true(hub: Any) -> None:
    metrics = Metrics(hub)
    before = await metrics.value("krin_subscriptions")
    async with peer(hub, hub.token("ann")) as client:
        for _ in range(5):
            await client.ask("subscribe", channel=unique("custom"))

        assert await metrics.value("krin_subscriptions") == before + 5


# --- the command line that goes with it


def test_a_taken_name_a_weak_password_and_an_unknown_role_are_one_line_each(hub: Any, dana: str) -> None:
    taken = on(hub, "user", "add", dana, "--role", "dashboard", KRIN_PASSWORD=PASSWORD)
    weak = on(hub, "user", "add", "new", "--role", "dashboard", KRIN_PASSWORD="short")
    role = on(hub, "user", "add", "new", "--role", "emperor", KRIN_PASSWORD=PASSWORD)
    strange = on(hub, "token", "ann", "--role", "emperor")
    for done in (taken, weak, role, strange):
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stdout == ""


@pytest.mark.parametrize("name", ["\x00", "a\x00b"])
async def test_nul_in_a_body_a_path_or_a_query_is_a_bad_request_with_its_place(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], name: str
) -> None:
    quoted = quote(name)
    for path in ("erase", "restrict", "release"):
        body = {"person": name}
        error(await http.post(f"/v1/privacy/{path}", json=body, headers=admin), 400, 1007, "$")
    correction = {"person": "ann", "channel": f"team:{name}", "offset": 1, "data": {}}
    error(await http.post("/v1/privacy/correct", json=correction, headers=admin), 400, 1007, "$")
    error(await http.get(f"/v1/privacy/export?person={quoted}", headers=admin), 400, 1007, "$.person")
    error(await http.get(f"/v1/webhooks/{quoted}", headers=admin), 400, 1007, "$.id")
    error(await http.delete(f"/v1/webhooks/{quoted}", headers=admin), 400, 1007, "$.id")
