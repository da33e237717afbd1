"""Knowledge and contracts through the socket and over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
from sockets import Peer, peer, unique


async def call(who: Peer, method: str, **params: Any) -> Any:
    reply = await who.ask("call", method=method, params=params)
    return reply.get("result") or reply["error"]["name"]


async def test_an_entry_is_read_by_those_who_may_read_its_project(hub: Any) -> None:
    project = unique("p").partition(":")[2]
    ann = hub.token("ann", "agent", teams=(project,))
    mallory = hub.token("mallory", "agent", teams=("other",))
    new = {"kind": "security", "title": "Rotate the zebra key", "body": "Each month.", "project_id": project}
    async with peer(hub, ann) as author, peer(hub, mallory) as outsider:
        added = (await call(author, "knowledge.add", **new, finding="F-7"))["entry"]
        assert (added["author"], added["finding"], added["project_id"]) == ("ann", "F-7", project)
        assert (await call(author, "knowledge.add", **new))["entry"] == added
        assert (await call(author, "knowledge.get", entry_id=added["entry_id"]))["entry"] == added
        assert (await call(author, "knowledge.search", query="zebra keys"))["entries"] == [added]

        assert await call(outsider, "knowledge.get", entry_id=added["entry_id"]) == "not_found"
        assert (await call(outsider, "knowledge.search", query="zebra"))["entries"] == []
        assert await call(outsider, "knowledge.search", project_id=project) == "permission_denied"
        assert await call(outsider, "knowledge.add", **new) == "permission_denied"


async def test_agents_add_what_everybody_reads(hub: Any) -> None:
    async with peer(hub, hub.token("ann", "agent")) as agent, peer(hub, hub.token("dana", "dashboard")) as reader:
        new = {"kind": "ai", "title": unique("entry"), "body": "Ask for sources.", "tags": ["prompts"]}
        added = (await call(agent, "knowledge.add", **new))["entry"]
        assert (await call(reader, "knowledge.get", entry_id=added["entry_id"]))["entry"] == added
        assert await call(reader, "knowledge.add", **new) == "permission_denied"
        assert await call(agent, "knowledge.add", **new | {"kind": "gossip"}) == "schema_invalid"
        assert await call(reader, "knowledge.get", entry_id="x") == "schema_invalid"


async def test_knowledge_and_contracts_over_http(hub: Any, http: httpx.AsyncClient) -> None:
    http.headers["authorization"] = f"Bearer {hub.token('ann', 'agent')}"
    title = f"Okapi {unique('x')}"
    added = (await http.post("/v1/knowledge", json={"kind": "performance", "title": title, "body": "b"})).json()["data"]
    assert (await http.get(f"/v1/knowledge/{added['entry_id']}")).json()["data"] == added
    found = await http.get("/v1/knowledge", params={"query": "okapi", "limit": "5"})
    assert added in found.json()["data"]
    assert (await http.get("/v1/knowledge", params={"limit": "many"})).status_code == 422

    expected = {"consumer": "board", "messages": [{"type": "TASK_STATUS_UPDATE", "fields": {"data.owner": {}}}]}
    report = (await http.post("/v1/contracts/validate", json=expected)).json()["data"]
    assert (report["valid"], [each["code"] for each in report["violations"]]) == (False, ["UNKNOWN_FIELD"])


async def test_a_front_end_asks_before_it_is_shipped(hub: Any) -> None:
    async with peer(hub, hub.token("dana", "dashboard")) as front_end:
        contract = {
            "consumer": "board",
            "version": "1.4",
            "messages": [{"type": "SPECIALIST_UPDATE", "fields": {"data[].specialist_id": {"always": True}}}],
            "calls": [{"method": "hub.time", "result": {"time": {"type": "integer"}}}],
            "channels": [{"channel": "team:alpha", "types": ["SPECIALIST_UPDATE"]}],
        }
        report = await call(front_end, "contracts.validate", **contract)
        assert report == {"consumer": "board", "valid": True, "checked": 6}
        broken = contract | {"calls": [{"method": "hub.times"}]}
        report = await call(front_end, "contracts.validate", **broken)
        assert [(each["code"], each["did_you_mean"]) for each in report["violations"]] == [
            ("UNKNOWN_METHOD", "hub.time")
        ]
        assert await call(front_end, "contracts.validate", consumer="board", mesages=[]) == "schema_invalid"
