"""The audit log as an operator sees it: `krin audit`, REST, `call`, and what clients witness."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import krin, running
from sockets import peer

pytestmark = pytest.mark.asyncio


def on(hub: Any, *arguments: str, **environment: str) -> Any:
    return krin(*arguments, "--data-dir", str(hub.data_dir), environment=environment)


async def test_c78_verify_tail_and_export_agree_and_an_export_verifies_elsewhere(hub: Any, tmp_path: Path) -> None:
    name = f'eve-{secrets.token_hex(3)}\r\n{{"level":"CRITICAL"}}'
    done = on(hub, "user", "add", name, "--role", "dashboard", KRIN_PASSWORD="a quiet horse in the rain")
    assert done.returncode == 0, done.stderr
    verified = on(hub, "audit", "verify")
    assert (verified.returncode, verified.stdout[:4]) == (0, "ok: "), verified.stderr
    [line] = on(hub, "audit", "tail", "-n", "1").stdout.splitlines()  # C81: whatever the name, one line
    assert "user_created 'krin'" in line
    assert repr(name) in line
    exported = tmp_path / "rows.jsonl"
    assert on(hub, "audit", "export", "-o", str(exported)).returncode == 0
    rows = [json.loads(each) for each in exported.read_text().splitlines()]
    assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
    assert name not in exported.read_text()
    assert on(hub, "audit", "verify", "--rows", str(exported)).returncode == 0
    rows[1]["event"] += "x"
    exported.write_text("\n".join(map(json.dumps, rows)))
    refused = on(hub, "audit", "verify", "--rows", str(exported))
    assert refused.returncode == 1
    assert refused.stderr.strip().splitlines()[-1] == "Error: row 2: changed: its hash does not fit its content"


async def test_c79_clients_are_witnesses_of_the_log(hub: Any) -> None:
    key = on(hub, "audit", "key").stdout.strip()
    assert len(bytes.fromhex(key)) == 32
    async with peer(hub, hub.token("ann", "dashboard")) as client:
        await client.ask("subscribe", channel="system:audit", rewind=1)
        refused = await client.ask("publish", channel="system:audit", message={"type": "AUDIT_HEAD", "data": {}})
        assert refused["error"]["name"] == "permission_denied"


async def test_the_log_is_read_in_pages_by_admins_and_verified_by_a_call(hub: Any, http: httpx.AsyncClient) -> None:
    admin = {"authorization": f"Bearer {hub.token('root', 'admin')}"}
    first = (await http.get("/v1/audit?limit=2", headers=admin)).json()
    assert len(first["data"]) == 2
    assert first["meta"]["paging"] == {"more": True, "next": first["data"][-1]["sequence"]}
    second = (await http.get(f"/v1/audit?limit=2&before={first['meta']['paging']['next']}", headers=admin)).json()
    sequences = [row["sequence"] for page in (first, second) for row in page["data"]]
    assert sequences == list(range(sequences[0], sequences[0] - 4, -1))
    for wrong in ("limit=0", "limit=1001", "limit=x", "before=-1"):
        assert (await http.get(f"/v1/audit?{wrong}", headers=admin)).status_code == 422
    async with peer(hub, hub.token("root", "admin")) as client:
        verdict = (await client.ask("call", method="audit.verify", params={}))["result"]
        assert (verdict["ok"], verdict["fault"]) == (True, None)
        assert verdict["rows"] >= sequences[0]
    async with peer(hub, hub.token("ann", "dashboard")) as client:
        refused = await client.ask("call", method="audit.verify", params={})
        assert refused["error"]["name"] == "permission_denied"


async def test_c77_a_denied_attempt_is_in_the_log_within_a_moment(hub: Any, http: httpx.AsyncClient) -> None:
    name = f"eve-{secrets.token_hex(3)}"
    mine = {"authorization": f"Bearer {hub.token(name, 'dashboard')}"}
    assert (await http.get("/v1/audit", headers=mine)).status_code == 403
    admin = {"authorization": f"Bearer {hub.token('root', 'admin')}"}
    async with asyncio.timeout(5):
        while True:
            rows = (await http.get("/v1/audit?limit=20", headers=admin)).json()["data"]
            found = [row for row in rows if (row["event"], row["target"]) == ("authz_fail", "GET /v1/audit")]
            if found:
                break
            await asyncio.sleep(0.02)
    assert [row["outcome"] for row in found] == ["denied"]
    assert name not in str(rows)


async def test_c94_one_command_lists_what_somebody_has_seen_and_nobody_else_has_to_be_asked(tmp_path: Path) -> None:
    order = {"account": "ann", "client_order_id": "1", "symbol": "BTC-USD"}
    with running(tmp_path / "data", "--drain-timeout", "0") as hub:
        async with peer(hub, hub.token("boss", "admin")) as boss, peer(hub, hub.token("ann", "trader")) as ann:
            for _ in range(3):
                await boss.publish("orders:ann", "ORDER_EVENT", order)
            assert "result" in await ann.ask("subscribe", channel="orders:ann", rewind=2)
            assert "result" in await ann.ask("history", channel="orders:ann", limit=1)
            assert "result" in await ann.ask("subscribe", channel="status:desk")
            await boss.publish("orders:ann", "ORDER_EVENT", order)
            await ann.until_offset("orders:ann", 4)
            asked = {"method": "audit.seen", "params": {"user": "ann"}}
            assert (await ann.ask("call", **asked))["error"]["name"] == "permission_denied"
            assert (await boss.ask("call", **asked))["result"]["complete"] is True
    told = [json.loads(line) for line in on(hub, "audit", "seen", "--user", "ann").stdout.splitlines()]
    [live, page] = sorted(told, key=lambda each: "socket" not in each)

    assert {(each["channel"], each["token"]) for each in told} == {("orders:ann", live["token"])}
    assert (live["first"], live["last"], live["messages"]) == (2, 4, 3)
    assert live["since"] <= live["until"]
    assert (page["first"], page["last"], page["messages"]) == (1, 1, 1)
    assert on(hub, "audit", "seen", "--token", live["token"]).stdout.count("\n") == 2
    assert on(hub, "audit", "seen", "--user", "ann", "--until", "2020-01-01").stdout == ""
    assert on(hub, "audit", "seen", "--user", "bob").stdout == ""
    assert on(hub, "audit", "seen").returncode == 1
    assert on(hub, "audit", "verify").returncode == 0
