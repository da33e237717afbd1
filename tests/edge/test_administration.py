"""Administrators at work: users over REST, why somebody may do something, and tenants that do not see each other."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from processes import krin, running
from sockets import peer

PASSWORD = "a quiet horse in the rain"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def on(hub: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    return krin(*arguments, "--data-dir", str(hub.data_dir), environment={"KRIN_PASSWORD": PASSWORD})


@pytest.fixture
def admin(hub: Any) -> dict[str, str]:
    return bearer(hub.token("root", "admin"))


@pytest.fixture
def ann() -> str:
    return f"ann-{secrets.token_hex(4)}"


async def add(http: httpx.AsyncClient, headers: dict[str, str], name: str, *roles: str, **fields: Any) -> Any:
    body = {"name": name, "password": PASSWORD, "roles": list(roles)} | fields
    return await http.post("/v1/users", json=body, headers=headers)


async def test_an_administrator_adds_lists_and_changes_users(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], ann: str
) -> None:
    made = await add(http, admin, ann, "trader")
    taken = await add(http, admin, ann, "trader")
    changed = await http.patch(f"/v1/users/{ann}", json={"roles": ["agent"], "teams": ["alpha"]}, headers=admin)
    page = await http.get("/v1/users", params={"after": ann[:-1], "limit": 1}, headers=admin)

    assert made.json()["data"]["roles"] == ["trader"]
    assert "password" not in made.text
    assert taken.status_code == 409
    assert (changed.json()["data"]["roles"], changed.json()["data"]["teams"]) == (["agent"], ["alpha"])
    assert [each["name"] for each in page.json()["data"]] == [ann]
    assert page.json()["meta"]["paging"]["next"] == ann
    signed_in = await http.post("/v1/auth/login", json={"name": ann, "password": PASSWORD})
    assert signed_in.json()["data"]["scope"] == "agent"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"roles": ["emperor"]}, "$.roles"),
        ({"roles": "admin"}, "$.roles"),
        ({"password": "another"}, "$"),
        ({"grants": {"publish": [1]}}, "$.grants.publish[0]"),
    ],
)
async def test_a_change_nobody_can_make_is_refused_with_its_path(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], ann: str, body: dict[str, Any], path: str
) -> None:
    answer = await http.patch(f"/v1/users/{ann}", json=body, headers=admin)

    assert (answer.status_code, answer.json()["meta"]["error"]["path"]) == (422, path)


@pytest.mark.parametrize("name", ["a\x00b", "%00", "' OR 1=1 --", "x" * 300, "😀"])
async def test_a_strange_name_is_only_a_name(
    hub: Any, http: httpx.AsyncClient, admin: dict[str, str], name: str
) -> None:
    answer = await http.patch(f"/v1/users/{quote(name, safe='')}", json={}, headers=admin)

    assert answer.status_code in (200, 400)


async def test_c66_an_administrator_with_a_password_alone_is_asked_for_a_second_factor(
    hub: Any, http: httpx.AsyncClient, ann: str
) -> None:
    assert on(hub, "user", "add", ann, "--role", "admin").returncode == 0
    pair = (await http.post("/v1/auth/login", json={"name": ann, "password": PASSWORD})).json()["data"]
    mine = bearer(pair["access_token"])

    for answer in (
        await http.get("/v1/users", headers=mine),
        await add(http, mine, "mallory", "admin"),
        await http.patch("/v1/users/root", json={"disabled": True}, headers=mine),
        await http.delete("/v1/sessions", params={"user": "root"}, headers=mine),
    ):
        assert (answer.status_code, answer.json()["meta"]["error"]["name"]) == (403, "mfa_required")


# --- why


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("publish", "orders:{ann}"), 0, "'trader:own'"),
        (("publish", "orders:bob"), 1, "trader:own"),
        (("history", "orders:{ann}"), 0, "'trader:own'"),
        (("publish", "orders:bob", "--role", "admin"), 0, "admin"),
        (("subscribe", "team:alpha", "--role", "agent", "--team", "alpha"), 0, "'agent:team'"),
        (("subscribe", "nope:x"), 1, "unknown_channel"),
    ],
)
def test_krin_auth_explain_says_which_rule_decides(
    hub: Any, ann: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert on(hub, "user", "add", ann, "--role", "trader").returncode == 0
    done = on(hub, "auth", "explain", ann, *(word.format(ann=ann) for word in arguments))

    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_krin_auth_explain_takes_a_token_as_it_counts_now(hub: Any, ann: str) -> None:
    token = hub.token(ann, "trader")
    before = on(hub, "auth", "explain", ann, "publish", f"orders:{ann}", "--token", token)
    on(hub, "user", "roles", ann, "--role", "dashboard")
    changed = on(hub, "auth", "explain", ann, "publish", f"orders:{ann}", "--token", token)
    on(hub, "user", "revoke", ann)
    revoked = on(hub, "auth", "explain", ann, "publish", f"orders:{ann}", "--token", token)

    assert [each.returncode for each in (before, changed, revoked)] == [0, 1, 1]
    assert "default" in changed.stdout
    assert "revoked" in revoked.stderr
    assert token not in revoked.stderr


async def test_auth_explain_is_a_method_for_administrators(hub: Any, ann: str) -> None:
    question = {"user": ann, "action": "publish", "channel": f"orders:{ann}"}
    async with peer(hub, hub.token("root", "admin")) as boss, peer(hub, hub.token(ann, "trader")) as client:
        supposed = await boss.ask("call", method="auth.explain", params=question | {"roles": ["trader"]})
        unknown = await boss.ask("call", method="auth.explain", params=question)
        refused = await client.ask("call", method="auth.explain", params=question)

    assert supposed["result"] == {
        "allowed": True,
        "rule": "role",
        "reason": "'trader:own' in publish of namespace orders",
    }
    assert unknown["error"]["name"] == "not_found"
    assert refused["error"]["name"] == "permission_denied"


def test_krin_user_list_shows_everybody(hub: Any, ann: str) -> None:
    on(hub, "user", "add", ann, "--role", "trader", "--tenant", "acme")
    on(hub, "user", "disable", ann)
    [line] = [line for line in on(hub, "user", "list").stdout.splitlines() if ann in line]

    assert line.split() == [ann, "trader", "acme", "disabled"]
    rows = map(json.loads, on(hub, "user", "list", "--json").stdout.splitlines())
    assert [row for row in rows if row["name"] == ann] == [
        {"name": ann, "roles": ["trader"], "teams": [], "tenant": "acme", "state": "disabled"}
    ]


# --- C65: tenants

SCOPED = """
[namespaces.desk]
publish = ["trader:own", "agent"]
subscribe = ["trader", "agent"]
presence = true
tenant_scoped = true
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A hub with a tenant-scoped namespace."""
    folder: Path = tmp_path_factory.mktemp("house")
    config = folder / "krin.toml"
    config.write_text(SCOPED)
    with running(folder / "data", "--config", str(config), "--drain-timeout", "0") as hub:
        yield hub


def tenant_token(house: Any, name: str, tenant: str, *roles: str) -> str:
    words = [word for role in roles for word in ("--role", role)]
    done = krin("token", name, *words, "--tenant", tenant, "--data-dir", str(house.data_dir))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def test_c65_one_tenant_reaches_nothing_of_another_through_either_door(house: Any) -> None:
    acme = tenant_token(house, "ada", "acme", "trader", "agent", "admin")
    globex = tenant_token(house, "bob", "globex", "trader", "agent", "admin")
    headers = bearer(globex)
    async with (
        peer(house, acme, subscriptions={"desk:acme/ada": {}}) as ada,
        peer(house, globex) as bob,
        httpx.AsyncClient(base_url=house.url) as http,
    ):
        await ada.publish("desk:acme/ada")
        replies = [
            await bob.ask(operation, channel=channel, **fields)
            for channel in ("desk:acme/ada", "desk:acme/nobody", "desk:loose")
            for operation, fields in (
                *(("subscribe", {}), ("history", {}), ("presence", {})),
                ("publish", {"message": {"type": "NOTE", "data": {}}}),
            )
        ]
        listed = await http.get("/v1/channels", headers=headers)
        history = await http.get("/v1/history/desk:acme/ada", headers=headers)
        await bob.publish("desk:globex/bob")

    assert {reply["error"]["name"] for reply in replies} == {"permission_denied"}
    assert [each for each in listed.json()["data"] if not each.startswith("system:")] == []
    assert history.status_code == 403


async def test_c65_the_administrator_of_a_tenant_sees_and_changes_nobody_elses_users(house: Any, ann: str) -> None:
    acme = bearer(tenant_token(house, "ada", "acme", "trader", "admin"))
    globex = bearer(tenant_token(house, "bob", "globex", "trader", "admin"))
    async with httpx.AsyncClient(base_url=house.url, timeout=10) as http:
        made = await add(http, acme, ann, "trader")
        foreign = await http.patch(f"/v1/users/{ann}", json={"disabled": True}, headers=globex)
        missing = await http.patch("/v1/users/nobody", json={"disabled": True}, headers=globex)
        sessions = await http.get("/v1/sessions", params={"user": ann}, headers=globex)
        listed = await http.get("/v1/users", headers=globex)
        too_much = await add(http, acme, f"{ann}-2", "feed")
        elsewhere = await add(http, acme, f"{ann}-2", "trader", tenant="globex")
        granting = await http.patch(f"/v1/users/{ann}", json={"grants": {"publish": ["prices:*"]}}, headers=acme)
        mine = await http.patch(f"/v1/users/{ann}", json={"disabled": True}, headers=acme)

    assert made.json()["data"]["tenant"] == "acme"
    assert foreign.status_code == missing.status_code == sessions.status_code == 404
    assert foreign.json()["meta"]["error"] == missing.json()["meta"]["error"]
    assert [each for each in listed.json()["data"] if not each.startswith("system:")] == []
    assert [each.status_code for each in (too_much, elsewhere, granting)] == [403] * 3
    assert mine.json()["data"]["disabled"] is True
