"""Signing in at the public door: codes, step-up on a living socket, and what a user without a second factor may not."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import subprocess
import sys
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import pytest_asyncio
from processes import ROOT, krin
from sockets import PATIENCE_S, peer

from hub.auth import totp

PASSWORD = "a quiet horse in the rain"
MARGIN_S = 6.0
ORDER = {"account": "x", "client_order_id": "1", "symbol": "X", "side": "BUY", "order_qty": "1"}


def error(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["meta"]["error"]
    return found


class Person:
    """Somebody with a password, and after `enrol` with an app and recovery codes."""

    def __init__(self, hub: Any, http: httpx.AsyncClient, *roles: str) -> None:
        self.http = http
        self.name = f"pat-{secrets.token_hex(4)}"
        options = [part for role in roles for part in ("--role", role)]
        done = krin(
            *("user", "add", self.name, *options, "--data-dir", str(hub.data_dir)),
            environment={"KRIN_PASSWORD": PASSWORD},
        )
        assert done.returncode == 0, done.stderr
        self.secret = b""
        self.codes: list[str] = []

    async def login(self, password: str = PASSWORD, **codes: str) -> httpx.Response:
        return await self.http.post("/v1/auth/login", json={"name": self.name, "password": password} | codes)

    async def token(self, **codes: str) -> str:
        response = await self.login(**codes)
        assert response.status_code == 200, response.text
        found: str = response.json()["data"]["access_token"]
        return found

    async def post(self, path: str, token: str, body: dict[str, Any] | None = None) -> httpx.Response:
        return await self.http.post(path, json=body or {}, headers={"authorization": f"Bearer {token}"})

    async def enrol(self, token: str | None = None) -> str:
        """In the session of the token, or one of its own; answers its new token.

        The code before the current one confirms it, so that the current one is still good.
        """
        token = token or await self.token()
        begun = await self.post("/v1/auth/mfa/enrol", token, {"password": PASSWORD})
        uri = urlsplit(begun.json()["data"]["uri"])
        self.secret = base64.b32decode(parse_qs(uri.query)["secret"][0])
        confirmed = await self.post("/v1/auth/mfa/confirm", token, {"otp": self.code(-1)})
        assert confirmed.status_code == 200, confirmed.text
        self.codes = confirmed.json()["data"]["recovery_codes"]
        found: str = confirmed.json()["data"]["token"]["access_token"]
        return found

    def code(self, away: int = 0) -> str:
        return totp.code(self.secret, totp.step_at(time.time()) + away)


@pytest_asyncio.fixture
async def trader(hub: Any, http: httpx.AsyncClient) -> Person:
    """Not at the very end of a step: a code that was read in one should not be shown in the next."""
    left_s = totp.STEP_S - time.time() % totp.STEP_S
    if left_s < MARGIN_S:
        await asyncio.sleep(left_s)  # the pace of the codes, not a wait for a fact
    return Person(hub, http, "trader", "agent")


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


async def test_c51_a_trader_steps_up_without_losing_the_connection(hub: Any, trader: Person) -> None:
    single = await trader.token()
    orders, custom = f"orders:{trader.name}", f"custom:{trader.name}"
    message = {"type": "ORDER_EVENT", "data": ORDER}
    async with peer(hub, single) as client:
        await client.ask("subscribe", channel=orders)
        await client.ask("subscribe", channel=custom)
        refused = await client.ask("publish", channel=orders, message=message)
        await trader.enrol(single)
        stepped = await trader.post("/v1/auth/step-up", single, {"otp": trader.code()})
        refreshed = await client.ask("refresh", token=stepped.json()["data"]["access_token"])
        published = await client.ask("publish", channel=orders, message=message)
        await client.publish(custom)

        assert (refused["error"]["code"], refused["error"]["name"]) == (1020, "mfa_required")
        assert refreshed["result"]["expires_at"]
        assert published["result"]["offset"] == 1
        await client.until_offset(orders, 1)
        await client.until_offset(custom, 1)
        assert client.closed is None


async def test_c51_the_password_alone_is_asked_for_a_code_and_the_token_says_how_one_came_in(trader: Person) -> None:
    single = claims(await trader.token())
    await trader.enrol()
    asked = await trader.login()
    wrong = await trader.login("wrong")
    double = claims(await trader.token(otp=trader.code()))

    assert (asked.status_code, error(asked)["code"], error(asked)["name"]) == (403, 1020, "mfa_required")
    assert "otp" in error(asked)["message"] and "recovery_code" in error(asked)["message"]
    assert (wrong.status_code, error(wrong)["code"]) == (401, 1001)
    assert (single["amr"], double["amr"]) == (["pwd"], ["pwd", "otp", "mfa"])
    assert abs(double["auth_time"] - time.time()) < 60


async def test_c49_the_same_code_twice_is_refused(trader: Person) -> None:
    await trader.enrol()
    code = trader.code()
    await trader.token(otp=code)
    again = await trader.login(otp=code)

    assert (again.status_code, error(again)["message"].split(":")[0]) == (401, "otp_reused")


async def test_c49_the_sixth_try_is_told_when_to_come_back(trader: Person) -> None:
    token = await trader.enrol()
    tries = [await trader.post("/v1/auth/step-up", token, {"otp": trader.code(1)}) for _ in range(6)]

    assert [each.status_code for each in tries] == [401] * 5 + [429]
    assert 0 < int(tries[-1].headers["retry-after"]) <= 300


async def test_c50_a_recovery_code_works_once(trader: Person) -> None:
    await trader.enrol()
    first = await trader.login(recovery_code=trader.codes[0])
    second = await trader.login(recovery_code=trader.codes[0])

    assert (first.status_code, second.status_code) == (200, 401)


async def test_c51_doing_without_a_second_factor_needs_it_once_more(trader: Person) -> None:
    single = await trader.token()
    token = await trader.enrol()
    for path in ("/v1/auth/mfa/disable", "/v1/auth/mfa/recovery-codes"):
        alone = await trader.post(path, single)
        assert (alone.status_code, error(alone)["code"]) in ((403, 1020), (401, 1010))  # or the session has ended
    fresh = await trader.post("/v1/auth/mfa/recovery-codes", token)
    status = await trader.http.get("/v1/auth/mfa", headers={"authorization": f"Bearer {token}"})
    done = await trader.post("/v1/auth/mfa/disable", token)

    assert len(fresh.json()["data"]["recovery_codes"]) == 10
    assert status.json()["data"] == {"enabled": True, "recovery_codes_left": 10}
    assert done.status_code == 200
    assert (await trader.login()).status_code == 200


async def test_the_qr_code_is_an_image_that_needs_no_other_host(trader: Person) -> None:
    begun = (await trader.post("/v1/auth/mfa/enrol", await trader.token(), {"password": PASSWORD})).json()["data"]

    assert begun["qr"].startswith("data:image/svg+xml")
    assert begun["uri"].startswith("otpauth://totp/krin:")
    assert begun["uri"].split("secret=")[1][:32] not in begun["qr"]


async def test_c46_a_weak_password_is_422_and_a_megabyte_never_reaches_the_hash(trader: Person) -> None:
    token = await trader.token()
    for new, status in (("password1", 422), ("x" * 2_000, 422), ("x" * 1_000_000, 413), ("64 characters of a passphrase that I shall remember for a long time", 200)):  # fmt: skip
        changed = await trader.post("/v1/auth/password", token, {"old_password": PASSWORD, "new_password": new})
        assert changed.status_code == status
        assert new not in changed.text


async def test_c47_an_unknown_name_and_a_wrong_password_are_answered_the_same(trader: Person) -> None:
    def told(response: httpx.Response) -> tuple[int, dict[str, Any], set[str]]:
        body = response.json()
        for part, changing in (
            (body["meta"], ("request_id", "trace_id")),
            (body["performance_metrics"], ("duration_ms",)),
            (body["security_audit"], ("timestamp", "severity")),
            (body["security_audit"]["rateLimit"], ("remaining", "reset_ms")),
        ):
            for name in changing:
                part.pop(name)
        return response.status_code, body, set(response.headers)

    wrong = told(await trader.login("a loud horse"))
    unknown = told(
        await trader.http.post("/v1/auth/login", json={"name": secrets.token_hex(6), "password": "a loud horse"})
    )

    assert wrong == unknown
    assert wrong[0] == 401


async def test_c48_the_eleventh_wrong_password_is_told_when_to_come_back(
    hub: Any, http: httpx.AsyncClient, trader: Person
) -> None:
    await trader.token()
    tries = [await trader.login("wrong") for _ in range(11)]

    assert [each.status_code for each in tries] == [401] * 10 + [429]
    assert 0 < int(tries[-1].headers["retry-after"]) <= 10
    assert (await trader.login()).status_code == 429
    assert (await Person(hub, http, "dashboard").login()).status_code == 200


@pytest.mark.parametrize("change", ["password", "second factor"])
async def test_c44_what_changes_how_one_signs_in_ends_the_other_sessions_and_not_ones_own(
    hub: Any, trader: Person, change: str
) -> None:
    token, other = await trader.token(), await trader.token()
    async with peer(hub, token) as mine, peer(hub, other) as theirs:
        if change == "password":
            body = {"old_password": PASSWORD, "new_password": "a loud horse in the sun"}
            assert (await trader.post("/v1/auth/password", token, body)).status_code == 200
        else:
            await trader.enrol(token)

        assert await theirs.until_closed() == 4001
        assert "result" in await mine.ask("subscribe", channel=f"custom:{trader.name}")


@pytest.mark.parametrize("body", [{"otp": "12345"}, {"otp": "12345a"}, {"otp": 123456}, {"otp": "123456\n"}, {"recovery_code": "x" * 65}, {"code": "123456"}])  # fmt: skip
async def test_what_cannot_be_a_code_is_schema_invalid(trader: Person, body: dict[str, Any]) -> None:
    refused = await trader.login(**body)

    assert (refused.status_code, error(refused)["code"]) == (422, 1013)


async def test_the_holder_of_the_key_needs_no_second_factor_and_has_no_account(
    hub: Any, http: httpx.AsyncClient
) -> None:
    token = hub.token("ursula", "trader")
    body = {"channel": "orders:ursula", "message": {"type": "ORDER_EVENT", "data": ORDER}}
    published = await http.post("/v1/publish", json=body, headers={"authorization": f"Bearer {token}"})
    status = await http.get("/v1/auth/mfa", headers={"authorization": f"Bearer {token}"})

    assert published.status_code == 200
    assert (status.status_code, error(status)["code"]) == (403, 1003)


async def test_the_command_line_shows_a_qr_code_and_prints_recovery_codes(hub: Any, trader: Person) -> None:
    options = ("--data-dir", str(hub.data_dir))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hub", "user", "mfa", trader.name, *options),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    shown = ""
    async with asyncio.timeout(PATIENCE_S):
        while "secret=" not in shown:
            line = await process.stderr.readline()
            assert line, shown
            shown += line.decode()
        [secret] = re.findall(r"secret=([A-Z2-7]+)", shown)
        trader.secret = base64.b32decode(secret)
        printed, rest = await process.communicate(f"{trader.code(-1)}\n".encode())
    codes = printed.decode().split()
    assert process.returncode == 0, rest
    again = krin("user", "mfa", trader.name, *options)
    entered = await trader.login(otp=trader.code())
    removed = krin("user", "mfa", trader.name, "--remove", *options)

    assert "▀" in shown or "█" in shown
    assert len(codes) == 10
    assert again.returncode == 1
    assert "disable it first" in again.stderr
    assert entered.status_code == 200
    assert removed.returncode == 0
    assert (await trader.login()).status_code == 200
    assert krin("user", "mfa", "nobody-here", *options).returncode == 1
