"""`security_audit` in every answer of the API, also in refusals (checklist 118 to 125)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from processes import HubProcess, running


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """Of its own: at the one that all share, other tests give this address a bad name."""
    with running(tmp_path_factory.mktemp("audited")) as own:
        (own.data_dir / "stderr.log").touch()  # where the other tests' watch looks
        yield own


async def audit(http: httpx.AsyncClient, method: str, path: str, **given: Any) -> tuple[int, dict[str, Any], str]:
    response = await http.request(method, path, **given)
    found: dict[str, Any] = response.json()["security_audit"]
    assert list(found) == ["token", "rateLimit", "sanitization", "threat", "timestamp", "severity"]
    assert set(found["rateLimit"]) == {"allowed", "limit", "remaining", "reset_ms"}
    return response.status_code, found, response.text


async def test_a_good_request_is_audited_as_good(hub: Any, http: httpx.AsyncClient) -> None:
    token = hub.token("ann", "dashboard", "trader")
    status, found, text = await audit(http, "GET", "/v1/channels", headers={"authorization": f"Bearer {token}"})

    assert status == 200
    assert found["token"] == {"valid": True, "subject": "ann", "scopes": ["dashboard", "trader"], "reason": None}
    assert found["rateLimit"]["allowed"] is True
    assert found["sanitization"] == {"ok": True, "changes": [], "violations": []}
    assert found["threat"] == {"score": 0, "patterns": [], "action": "ALLOW"}
    assert found["severity"] == 0
    assert token not in text


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [(None, "missing"), ("Basic YTpi", "missing"), ("Bearer secret-canary", "token_invalid"), ("expired", "token_expired")],
)  # fmt: skip
async def test_a_token_that_is_no_good_is_named_by_its_reason_and_not_repeated(
    hub: Any, http: httpx.AsyncClient, authorization: str | None, reason: str
) -> None:
    if authorization == "expired":
        authorization = f"Bearer {hub.token('ann', ttl_s=-60)}"
    headers = {"authorization": authorization} if authorization else {}
    status, found, text = await audit(http, "GET", "/v1/channels", headers=headers)

    assert status == 401
    assert found["token"] == {"valid": False, "subject": None, "scopes": [], "reason": reason}
    assert found["severity"] == 30
    assert "canary" not in text


async def test_what_was_refused_in_a_body_is_a_violation_with_its_place_and_without_its_value(
    hub: Any, http: httpx.AsyncClient
) -> None:
    headers = {"authorization": f"Bearer {hub.token('ann')}"}
    body = {"channel": "custom:a", "message": {"type": "NOTE", "data": {}}, "publisher": "canary"}
    status, found, text = await audit(http, "POST", "/v1/publish", headers=headers, json=body)

    assert status == 422
    assert found["sanitization"]["ok"] is False
    assert [each["rule"] for each in found["sanitization"]["violations"]] == ["schema_invalid"]
    assert found["severity"] == 10
    assert "canary" not in json.dumps(found)
    assert "canary" not in text


async def test_a_header_the_hub_cannot_use_is_replaced_and_said_to_be(hub: Any, http: httpx.AsyncClient) -> None:
    headers = {"authorization": f"Bearer {hub.token('ann')}", "x-request-id": "a b", "traceparent": "00-zz-1-01"}
    status, found, _ = await audit(http, "GET", "/v1/channels", headers=headers)

    assert status == 200
    assert found["sanitization"]["changes"] == ["x-request-id replaced", "traceparent replaced"]
    assert found["sanitization"]["ok"] is True
    assert found["severity"] == 4


async def test_signing_in_needs_no_token_and_is_audited_all_the_same(hub: Any, http: httpx.AsyncClient) -> None:
    body = {"name": "nobody", "password": "canary-password-1"}
    status, found, text = await audit(http, "POST", "/v1/auth/login", json=body)

    assert status == 401
    assert found["token"]["reason"] == "not_needed"
    assert "canary" not in text


async def test_a_page_of_another_origin_is_told_so_with_an_audit_and_its_token_is_not_looked_at(
    hub: Any, http: httpx.AsyncClient
) -> None:
    headers = {"authorization": f"Bearer {hub.token('ann')}", "origin": "https://evil.example"}
    status, found, _ = await audit(http, "GET", "/v1/channels", headers=headers)

    assert status == 403
    assert found["token"]["reason"] == "not_checked"
