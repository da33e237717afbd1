"""The MCP door, as the official client meets it: the tools and resources, and whose permissions count."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from processes import running
from proofs import ProofKey
from sockets import PATIENCE_S, peer, unique
from teamwork import team_at_work
from test_risk_at_the_door import trading_floor

HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


@asynccontextmanager
async def mcp(hub: Any, token: str, *, mode: str = "auto") -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=20) as http,
        Client(streamable_http_client(f"{hub.url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


async def ask(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The tool's answer; of a refusal, too."""
    result = await client.call_tool(tool, arguments)
    assert isinstance(result.structured_content, dict), result
    return result.structured_content


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_finds_the_tools_and_what_they_take(hub: Any, mode: str) -> None:
    async with mcp(hub, hub.token("bot", "agent"), mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        templates = (await client.list_resource_templates()).resource_templates
    assert {"search_history", "get_quote", "validate_order", "submit_order"} <= set(tools)
    order = tools["submit_order"].input_schema
    assert (order["type"], "client_order_id" in order["required"]) == ("object", True)
    assert [tool.annotations is not None for tool in tools.values()] == [True] * len(tools)
    assert "hub://quote/{symbol}" in {each.uri_template for each in templates}


async def test_a_quote_is_a_tool_and_a_resource(hub: Any) -> None:
    symbol = f"MCP-{secrets.token_hex(3)}".upper()
    async with peer(hub, hub.token("feed", "feed")) as feed:
        await feed.publish(f"prices:{symbol}", "PRICE_TICK", {"symbol": symbol, "price": "12.5"}, key=symbol)
    async with mcp(hub, hub.token("bot", "agent")) as client:
        quote = await ask(client, "get_quote", symbol=symbol)
        read = await client.read_resource(f"hub://quote/{symbol}")
    assert quote["messages"][0]["data"]["price"] == "12.5"
    assert '"12.5"' in read.contents[0].text  # type: ignore[union-attr]  # text, as its type says
    assert read.contents[0].mime_type == "application/json"


async def test_what_an_agent_reads_is_what_its_channels_let_it_read(hub: Any) -> None:
    channel = unique("custom")
    async with peer(hub, hub.token("root", "admin")) as root:
        await root.publish(channel, "NOTE", {"text": "first"})
        await root.publish(channel, "NOTE", {"text": "second"})
    async with mcp(hub, hub.token("root", "admin")) as client:
        page = await ask(client, "search_history", channel=channel, limit=1)
        assert [each["data"] for each in page["messages"]] == [{"text": "second"}]
        assert (await ask(client, "search_history"))["name"] == "bad_request"
    async with mcp(hub, hub.token("bot", "agent", teams=("alpha",))) as client:
        result = await client.call_tool("search_history", {"channel": "orders:somebody"})
        assert (result.is_error, (result.structured_content or {})["name"]) == (True, "permission_denied")


async def test_what_was_said_is_found_by_words(hub: Any) -> None:
    channel, word = unique("alerts"), f"word{secrets.token_hex(4)}"
    alert = {"alert_id": "a1", "severity": "WARNING", "title": f"the feed said {word}"}
    async with peer(hub, hub.token("root", "admin")) as root, mcp(hub, hub.token("bot", "agent")) as client:
        await root.publish(channel, "ALERT", alert)
        async with asyncio.timeout(PATIENCE_S):
            while not (hits := (await ask(client, "search_history", query=word, channel=channel))["hits"]):
                await asyncio.sleep(0.05)
    assert word in hits[0]["snippet"]


async def test_an_order_is_placed_for_its_owner_and_refused_to_others(hub: Any) -> None:
    async with trading_floor(hub) as floor:
        await floor.quote()
        order = floor.params(price="90")
        async with mcp(hub, hub.token(floor.account, "trader")) as client:
            assert (await ask(client, "validate_order", **order))["result"] == "APPROVED"
            placed = await ask(client, "submit_order", **order)
        assert placed["client_order_id"] == order["client_order_id"]
        await floor.report(order["client_order_id"], "NEW")
    async with mcp(hub, hub.token("bot", "agent")) as client:
        for tool in ("validate_order", "submit_order"):
            result = await client.call_tool(tool, order)
            assert (result.is_error, (result.structured_content or {})["name"]) == (True, "permission_denied")


async def test_an_agent_joins_a_team_and_works_through_a_task(hub: Any) -> None:
    async with team_at_work(hub, "t1") as team, mcp(hub, team.token("bot")) as client:
        me = {"specialist_id": f"{team.project_id}-bot"}
        await ask(client, "register_specialist", **me, team=team.project_id, heartbeat_s=60)
        listed = await ask(client, "list_specialists", team=team.project_id)
        assert me["specialist_id"] in {each["specialist"]["specialist_id"] for each in listed["specialists"]}

        planned = await team.call("team.plan", project_id=team.project_id)
        plan = await ask(client, "get_plan", project_id=team.project_id)
        assert plan["plan"]["plan_id"] == planned["plan"]["plan_id"]
        held = await ask(client, "claim_task", **me)
        assert (held["task"]["task_id"], held["spec"]["task_id"]) == ("t1", "t1")
        claim = {**me, "project_id": team.project_id, "task_id": "t1", "fence": held["fence"]}
        moved = await ask(client, "post_update", **claim, progress=0.5, message="half way")
        assert moved["task"]["progress"] == 0.5
        done = await ask(client, "complete_task", **claim, artifacts=[{"text": "the result"}])
        assert done["task"]["state"] == "COMPLETED"
        assert (await ask(client, "claim_task", **me)).get("task") is None

        read = await client.read_resource(f"hub://task/{team.project_id}/t1")
        assert "the result" in read.contents[0].text  # type: ignore[union-attr]  # text, as its type says
        read = await client.read_resource(f"hub://team/{team.project_id}")
        assert me["specialist_id"] in read.contents[0].text  # type: ignore[union-attr]


async def test_a_task_is_handed_over_and_a_decision_asked_for(hub: Any) -> None:
    async with team_at_work(hub, "t1") as team, mcp(hub, team.token("bot")) as client:
        me = {"specialist_id": f"{team.project_id}-bot"}
        await ask(client, "register_specialist", **me, team=team.project_id)
        held = await ask(client, "claim_task", **me)
        claim = {**me, "project_id": team.project_id, "task_id": "t1", "fence": held["fence"]}
        waiting = await ask(client, "report_blocker", **claim, blockers=[{"kind": "person", "ref": "ann"}])
        assert waiting["task"]["substate"] == "BLOCKED"
        await team.call("tasks.unblock", project_id=team.project_id, task_id="t1", ref="ann")

        asked = await ask(client, "request_approval", subject="may I?", approver_roles=["agent"], expires_in_s=60)
        approval_id = asked["approval"]["approval_id"]
        await team.call("approvals.resolve", approval_id=approval_id, decision="APPROVED")
        assert (await ask(client, "get_approval", approval_id=approval_id))["approval"]["state"] == "APPROVED"

        worker = f"{team.project_id}-worker"
        offered = await ask(client, "hand_off", **claim, to_specialist=worker, reason="I cannot go on")
        handed = await team.call("handoffs.accept", handoff_id=offered["handoff"]["handoff_id"], specialist_id=worker)
        assert handed["task"]["specialist_id"] == worker
        assert "name" in await ask(client, "post_update", **claim, progress=0.9)


async def test_a_claim_that_is_not_ones_own_counts_for_nothing(hub: Any) -> None:
    async with team_at_work(hub, "t1") as team, mcp(hub, team.token("bot")) as client:
        held = await team.claim("t1")
        taken = await ask(client, "post_update", **held, progress=0.9)
        assert taken["name"] == "permission_denied"  # another's specialist
        me = {"specialist_id": f"{team.project_id}-bot"}
        await ask(client, "register_specialist", **me, team=team.project_id)
        stale = await ask(client, "complete_task", **{**held, **me}, artifacts=[{"text": "mine"}])
        assert "name" in stale, stale
        assert (await team.call("tasks.get", project_id=team.project_id, task_id="t1"))["task"]["state"] == "WORKING"


async def test_who_is_not_of_the_team_is_refused_by_every_tool(hub: Any) -> None:
    async with team_at_work(hub, "t1") as team, mcp(hub, team.stranger()) as client:
        claim = {**await team.claim("t1")}
        asked: dict[str, dict[str, Any]] = {
            "get_plan": {"project_id": team.project_id},
            "claim_task": {"specialist_id": claim["specialist_id"], "project_id": team.project_id},
            "post_update": {**claim, "progress": 0.5},
            "complete_task": {**claim, "artifacts": [{}]},
            "report_blocker": {**claim, "blockers": [{"kind": "person", "ref": "ann"}]},
            "hand_off": {**claim, "to_skill": "python"},
        }
        for tool, arguments in asked.items():
            result = await client.call_tool(tool, arguments)
            assert (result.is_error, (result.structured_content or {})["name"]) == (True, "permission_denied"), tool
        with pytest.raises(MCPError, match="may not"):
            await client.read_resource(f"hub://task/{team.project_id}/t1")


async def test_what_is_wrong_is_said_to_the_model(hub: Any) -> None:
    async with mcp(hub, hub.token("bot", "agent")) as client:
        wrong = await ask(client, "get_quote", symbol="no such thing")
        assert (wrong["name"], wrong["path"]) == ("schema_invalid", "$.params.symbol")
        with pytest.raises(MCPError, match="no such tool"):
            await client.call_tool("drop_tables", {})
        for uri in ("hub://secrets/all", "hub://quote", "http://quote/BTC-USD"):
            with pytest.raises(MCPError, match="no such resource"):
                await client.read_resource(uri)


async def test_nobody_gets_in_without_a_token_that_is_in_order(hub: Any, http: httpx.AsyncClient) -> None:
    nobody = await http.post("/mcp", json=LIST, headers=HEADERS)
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
    forged = await http.post("/mcp", json=LIST, headers=HEADERS | {"authorization": "Bearer a.b.c"})
    assert (forged.status_code, forged.json()["meta"]["error"]["name"]) == (401, "token_invalid")


async def test_a_client_finds_out_where_tokens_are_from(hub: Any, http: httpx.AsyncClient) -> None:
    described = (await http.get("/.well-known/oauth-protected-resource/mcp")).json()
    assert described == {"resource": f"{hub.url}/mcp", "bearer_methods_supported": ["header"]}


async def test_c54_a_proof_made_for_another_request_does_not_count_here(hub: Any, http: httpx.AsyncClient) -> None:
    token = hub.token("bot", "agent")
    proof = ProofKey().proof("GET", f"{hub.url}/mcp", now_s=time.time(), token=token)
    refused = await http.post("/mcp", json=LIST, headers=HEADERS | {"authorization": f"DPoP {token}", "dpop": proof})
    assert (refused.status_code, refused.json()["meta"]["error"]["name"]) == (401, "proof_invalid")


async def test_a_page_that_resolves_its_own_name_to_the_hub_is_sent_away(hub: Any, http: httpx.AsyncClient) -> None:
    mine = {"authorization": f"Bearer {hub.token('bot', 'agent')}"}
    rebound = await http.post("/mcp", json=LIST, headers=HEADERS | mine | {"host": "evil.example"})
    assert rebound.status_code == 421
    assert (await http.post("/mcp", json=LIST, headers=HEADERS | mine)).status_code == 200


async def test_there_is_no_session_and_no_stream_to_hold_open(hub: Any, http: httpx.AsyncClient) -> None:
    mine = {"authorization": f"Bearer {hub.token('bot', 'agent')}"}
    assert (await http.get("/mcp", headers=HEADERS | mine)).status_code == 405
    assert (await http.delete("/mcp", headers=HEADERS | mine)).status_code == 405
    answer = await http.post("/mcp", json=LIST, headers=HEADERS | mine)
    assert (answer.headers["content-type"], "mcp-session-id" in answer.headers) == ("application/json", False)


async def test_a_body_is_bounded(hub: Any, http: httpx.AsyncClient) -> None:
    mine = {"authorization": f"Bearer {hub.token('bot', 'agent')}"}
    long = await http.post("/mcp", json=LIST | {"params": {"cursor": "x" * 70_000}}, headers=HEADERS | mine)
    assert long.status_code == 413


async def test_without_the_extra_there_is_no_such_door_and_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['mcp'] = None  # as if it were not installed\n")
    with running(tmp_path / "data", environment={"PYTHONPATH": str(tmp_path)}) as alone:
        async with httpx.AsyncClient(base_url=alone.url) as http:
            mine = {"authorization": f"Bearer {alone.token('bot', 'agent')}"}
            assert (await http.post("/mcp", json=LIST, headers=HEADERS | mine)).status_code == 404
        assert "mcp" not in alone.log.read_text()


async def test_a_name_of_the_hub_that_is_configured_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "krin.toml").write_text('[security]\nallowed_hosts = ["hub.example:*"]\n')
    with running(tmp_path / "data", "--config", str(tmp_path / "krin.toml")) as alone:
        async with httpx.AsyncClient(base_url=alone.url, timeout=20) as http:
            mine = HEADERS | {"authorization": f"Bearer {alone.token('bot', 'agent')}"}
            answers = {
                host: (await http.post("/mcp", json=LIST, headers=mine | {"host": host})).status_code
                for host in ("hub.example:8443", "localhost:9", "other.example:8443")
            }
    assert answers == {"hub.example:8443": 200, "localhost:9": 200, "other.example:8443": 421}
