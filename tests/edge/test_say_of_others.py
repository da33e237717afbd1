"""Approvals, questions, gates, hand-offs and budgets through the socket: who has a say, and what follows from it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from processes import HubProcess, krin, running
from test_team_at_the_door import Agent, Scene

from hub.client import Client
from protocol.errors import HubError


@pytest_asyncio.fixture
async def scene(hub: HubProcess) -> AsyncIterator[Scene]:
    made = Scene(hub)
    async with asyncio.timeout(60):
        yield made
        for client in made.clients:
            await client.__aexit__(None, None, None)


async def soon(client: Client, seconds: float = 60) -> int:
    now_ms: int = (await client.call("hub.time"))["time"]
    return now_ms * 1000 + round(seconds * 1_000_000)


def held(agent: Agent, claimed: Any, **fields: Any) -> dict[str, Any]:
    return {
        "project_id": agent.team,
        "task_id": claimed["task"]["task_id"],
        "specialist_id": agent.name,
        "fence": claimed["fence"],
        **fields,
    }


async def test_a_question_is_answered_by_those_asked_and_by_nobody_else(scene: Scene) -> None:
    ann = await scene.agent("ann")
    lead, other = await scene.client("lea", "lead", "agent"), await scene.client("otto")
    await scene.project(ann.client, {"task_id": "t-1"})
    claimed = await ann.claim()
    schema = {"type": "object", "properties": {"limit": {"type": "integer", "maximum": 10}}, "required": ["limit"]}
    asked = await ann.client.call(
        "tasks.request_input",
        **held(ann, claimed, reason="INPUT", message="how many?", approver_roles=["lead"], response_schema=schema),
        expires_at=await soon(ann.client),
    )
    assert asked["task"]["state"] == "INPUT_REQUIRED"
    name = asked["approval_id"]
    for client, payload, error in (
        (ann.client, {"limit": 3}, "permission_denied"),
        (other, {"limit": 3}, "permission_denied"),
        (lead, {"limit": 30}, "schema_invalid"),
        (lead, {}, "schema_invalid"),
    ):
        with pytest.raises(HubError, match=error):
            await client.call("approvals.resolve", approval_id=name, decision="APPROVED", payload=payload)
    # Other tests leave questions of their own to every lead.
    asked_of_lead = (await lead.call("approvals.list", state="REQUESTED"))["approvals"]
    assert [each["approval_id"] for each in asked_of_lead if each.get("project_id") == ann.team] == [name]
    asked_of_others = (await other.call("approvals.list"))["approvals"]
    assert [each for each in asked_of_others if each.get("project_id") == ann.team] == []
    answer = {"approval_id": name, "decision": "APPROVED", "payload": {"limit": 3}}
    assert (await lead.call("approvals.resolve", **answer))["approval"]["state"] == "APPROVED"
    assert (await lead.call("approvals.resolve", **answer))["approval"]["state"] == "APPROVED", "the same answer again"
    detail = await scene.task(ann.client, "t-1")
    assert detail["task"]["substate"] == "RUNNING"
    assert detail["answer"]["payload"] == {"limit": 3}
    assert (await ann.client.call("approvals.get", approval_id=name))["payload"] == {"limit": 3}


async def test_nobody_answers_in_time_is_no_consent(scene: Scene) -> None:
    ann = await scene.agent("ann")
    await scene.project(ann.client, {"task_id": "t-1"}, {"task_id": "t-2"})
    states = []
    for on_expiry in ("FAIL", "ESCALATE"):
        claimed = await ann.claim()
        asked = await ann.client.call(
            "tasks.request_input",
            **held(ann, claimed, reason="CONFIRMATION", message="really?", approver_roles=["lead"]),
            expires_at=await soon(ann.client, 0.4),
            on_expiry=on_expiry,
        )
        async with asyncio.timeout(10):
            while (state := await scene.task(ann.client, claimed["task"]["task_id"]))["task"][
                "state"
            ] == "INPUT_REQUIRED":
                await asyncio.sleep(0.05)
        states.append((state["task"]["state"], state["task"].get("substate")))
        approval = await ann.client.call("approvals.get", approval_id=asked["approval_id"])
        assert approval["approval"]["state"] == "EXPIRED"
        with pytest.raises(HubError, match="illegal_transition"):
            lead = await scene.client("lea", "lead", "agent")
            await lead.call("approvals.resolve", approval_id=asked["approval_id"], decision="APPROVED")
    assert states == [("FAILED", None), ("WORKING", "BLOCKED")]


async def test_two_people_have_to_agree_where_two_are_asked(scene: Scene) -> None:
    ann = await scene.agent("ann")
    leads = [await scene.client(name, "lead", "agent") for name in ("lea", "leo")]
    asked = await ann.client.call(
        "approvals.request",
        subject="delete the old index",
        project_id=scene.team,
        approver_roles=["lead"],
        quorum=2,
        expires_at=await soon(ann.client),
    )
    name = asked["approval"]["approval_id"]
    async with leads[0].subscribe("approvals:lead") as told:
        first = await leads[0].call("approvals.resolve", approval_id=name, decision="APPROVED")
        assert first["approval"]["state"] == "REQUESTED"
        second = await leads[1].call("approvals.resolve", approval_id=name, decision="APPROVED")
        assert second["approval"]["state"] == "APPROVED"
        message = await anext(told)
        assert (message.type, message.data["approval_id"]) == ("APPROVAL_RESOLVED", name)


async def test_a_result_passes_its_gates_with_evidence_and_fails_for_good_at_the_third_time(scene: Scene) -> None:
    ann, eve = await scene.agent("ann"), await scene.client("eve", "lead", "agent")
    gates = [
        {"gate_id": "p95", "metric": "p95_ms", "op": "<", "threshold": 100},
        {"gate_id": "review", "kind": "AGENT_REVIEW"},
    ]
    await scene.project(ann.client, {"task_id": "t-1", "priority": 60}, {"task_id": "t-2"}, gates=gates)
    claimed = await ann.claim()
    slow = [{"kind": "run", "ref": "r-1", "metric": "p95_ms", "value": 140}]
    fast = [{"kind": "run", "ref": "r-2", "metric": "p95_ms", "value": 40}]
    again = await ann.say("tasks.submit", claimed, artifacts=[{"name": "a"}], evidence=slow)
    if again["substate"] == "IN_REVIEW":  # every verdict is heard before it goes back
        judged = {"project_id": scene.team, "task_id": "t-1", "gate_id": "review", "result": "FAIL", "because": "slow"}
        again = (await eve.call("tasks.gate", **judged))["task"]
    assert again["substate"] == "RUNNING"
    waiting = await ann.say("tasks.submit", claimed, artifacts=[{"name": "a"}], evidence=fast)
    assert waiting["substate"] == "IN_REVIEW"
    judged = {
        "project_id": scene.team,
        "task_id": "t-1",
        "gate_id": "review",
        "result": "PASS",
        "evidence": [{"kind": "review", "ref": "c-1"}],
    }
    with pytest.raises(HubError, match="permission_denied"):
        await ann.client.call("tasks.gate", **judged)
    assert (await eve.call("tasks.gate", **judged))["task"]["state"] == "COMPLETED"
    claimed = await ann.claim()
    states = [
        (await ann.say("tasks.submit", claimed, artifacts=[{"name": "a"}], evidence=slow))["state"] for _ in range(3)
    ]
    assert states == ["WORKING", "WORKING", "FAILED"]


async def test_a_waiver_is_approved_by_a_person_who_did_not_do_the_work(scene: Scene) -> None:
    ann = await scene.agent("ann")
    lead = await scene.client("lea", "lead", "agent")
    await scene.project(ann.client, {"task_id": "t-1", "gates": [{"gate_id": "docs", "kind": "HUMAN_REVIEW"}]})
    await ann.say("tasks.submit", await ann.claim(), artifacts=[{"name": "a"}])
    asked = await ann.client.call(
        "approvals.request",
        subject="an internal tool needs no docs",
        project_id=scene.team,
        task_id="t-1",
        gate_id="docs",
        approver_roles=["lead"],
        expires_at=await soon(ann.client),
    )
    await lead.call("approvals.resolve", approval_id=asked["approval"]["approval_id"], decision="APPROVED")
    detail = await scene.task(ann.client, "t-1")
    assert (detail["task"]["state"], detail["results"]) == ("COMPLETED", {"docs": "WAIVED"})


async def test_who_asks_for_a_waiver_cannot_choose_who_gives_it(scene: Scene) -> None:
    ann = await scene.agent("ann")
    await scene.project(ann.client, {"task_id": "t-1", "gates": [{"gate_id": "docs", "kind": "HUMAN_REVIEW"}]})
    await ann.say("tasks.submit", await ann.claim(), artifacts=[{"name": "a"}])
    waiver = {"subject": "no docs", "project_id": scene.team, "task_id": "t-1", "gate_id": "docs"}
    waiver["expires_at"] = await soon(ann.client)
    with pytest.raises(HubError, match="permission_denied"):
        await ann.client.call("approvals.request", **waiver, approver_roles=["agent", "lead"], people_only=False)
    asked = await ann.client.call("approvals.request", **waiver, approver_roles=["lead"])
    answer = {"approval_id": asked["approval"]["approval_id"], "decision": "APPROVED"}
    async with Client(scene.hub.url, token=scene.hub.token("lou", "lead", "agent", teams=("another",))) as stranger:
        with pytest.raises(HubError, match="permission_denied"):
            await stranger.call("approvals.resolve", **answer)
    assert (await scene.task(ann.client, "t-1"))["task"]["substate"] == "IN_REVIEW"


async def test_consent_needs_two_factors_and_a_refusal_does_not(hub: HubProcess, http: httpx.AsyncClient) -> None:
    name, password = f"pat-{secrets.token_hex(3)}", "a quiet horse in the rain"
    added = krin(
        *("user", "add", name, "--role", "risk", "--data-dir", str(hub.data_dir)),
        environment={"KRIN_PASSWORD": password},
    )
    assert added.returncode == 0, added.stderr
    signed_in = await http.post("/v1/auth/login", json={"name": name, "password": password})
    http.headers["authorization"] = f"Bearer {signed_in.json()['data']['access_token']}"
    for decision, error in (("APPROVED", "mfa_required"), ("DECLINED", "not_found")):
        answer = await http.post("/v1/approvals/nothing", json={"decision": decision})
        assert answer.json()["meta"]["error"]["name"] == error


async def test_the_approvals_of_orders_are_not_made_here(scene: Scene) -> None:
    ann = await scene.agent("ann")
    forged = {"approval_id": "order:1-1", "subject": "x", "project_id": scene.team, "approver_roles": ["lead"]}
    with pytest.raises(HubError, match="bad_request"):
        await ann.client.call("approvals.request", **forged, expires_at=await soon(ann.client))


async def test_there_is_no_verdict_without_a_result(scene: Scene) -> None:
    ann, eve = await scene.agent("ann"), await scene.client("eve", "lead", "agent")
    await scene.project(ann.client, {"task_id": "t-1", "gates": [{"gate_id": "review", "kind": "AGENT_REVIEW"}]})
    await ann.claim()
    verdict = {"project_id": scene.team, "task_id": "t-1", "gate_id": "review", "result": "PASS"}
    with pytest.raises(HubError, match="illegal_transition"):
        await eve.call("tasks.gate", **verdict, evidence=[{"kind": "review", "ref": "c-1"}])


async def test_who_has_handed_a_task_off_does_not_judge_what_becomes_of_it(scene: Scene) -> None:
    ann, bob = await scene.agent("ann"), await scene.agent("bob")
    await scene.project(ann.client, {"task_id": "t-1", "gates": [{"gate_id": "review", "kind": "AGENT_REVIEW"}]})
    offered = await ann.client.call(
        "handoffs.offer", **held(ann, await ann.claim(), to_specialist=bob.name), expires_at=await soon(ann.client)
    )
    answer = {"handoff_id": offered["handoff"]["handoff_id"], "specialist_id": bob.name}
    accepted = await bob.client.call("handoffs.accept", **answer)
    await bob.say("tasks.submit", accepted, artifacts=[{"name": "a"}])
    verdict = {"project_id": scene.team, "task_id": "t-1", "gate_id": "review", "result": "PASS"}
    verdict["evidence"] = [{"kind": "review", "ref": "c-1"}]
    for author in (ann, bob):
        with pytest.raises(HubError, match="permission_denied"):
            await author.client.call("tasks.gate", **verdict)
    eve = await scene.client("eve")
    assert (await eve.call("tasks.gate", **verdict))["task"]["state"] == "COMPLETED"


async def test_a_task_is_not_handed_off_past_a_budget_that_is_used_up(scene: Scene) -> None:
    ann, bob = await scene.agent("ann"), await scene.agent("bob")
    await scene.project(ann.client, {"task_id": "t-1"}, budget_usd="1")
    claimed = await ann.claim()
    with pytest.raises(HubError, match="schema_invalid"):
        await ann.say("tasks.progress", claimed, progress=0.5, cost_usd="-1")
    await ann.say("tasks.progress", claimed, progress=0.5, cost_usd="1")
    offered = await ann.client.call(
        "handoffs.offer", **held(ann, claimed, to_specialist=bob.name), expires_at=await soon(ann.client)
    )
    answer = {"handoff_id": offered["handoff"]["handoff_id"], "specialist_id": bob.name}
    with pytest.raises(HubError, match="limit_exceeded"):
        await bob.client.call("handoffs.accept", **answer)
    assert (await scene.task(ann.client, "t-1"))["task"]["specialist_id"] == ann.name


async def test_a_task_is_handed_off_to_whoever_accepts_and_kept_until_then(scene: Scene) -> None:
    ann, bob = await scene.agent("ann"), await scene.agent("bob", skills=[{"id": "js"}])
    await scene.project(ann.client, {"task_id": "t-1"})
    claimed = await ann.claim()
    offered = await ann.client.call(
        "handoffs.offer",
        **held(ann, claimed, to_skill="js", reason="it is a front end"),
        expires_at=await soon(ann.client),
    )
    name = offered["handoff"]["handoff_id"]
    assert (await ann.say("tasks.progress", claimed, progress=0.2))["progress"] == 0.2
    accepted = await bob.client.call("handoffs.accept", handoff_id=name, specialist_id=bob.name)
    assert (accepted["handoff"]["state"], accepted["fence"]) == ("ACCEPTED", 2)
    with pytest.raises(HubError, match="version_conflict"):
        await ann.say("tasks.submit", claimed, artifacts=[{"name": "a"}])
    assert (await bob.say("tasks.submit", accepted, artifacts=[{"name": "a"}]))["state"] == "COMPLETED"


async def test_an_acceptance_sent_again_is_answered_again_until_the_task_is_somebody_elses(scene: Scene) -> None:
    ann, bob, eve = [await scene.agent(name) for name in ("ann", "bob", "eve")]
    await scene.project(ann.client, {"task_id": "t-1"})
    claimed, answers = await ann.claim(), []
    for giver, taker in ((ann, bob), (bob, eve)):
        offered = await giver.client.call(
            "handoffs.offer", **held(giver, claimed, to_specialist=taker.name), expires_at=await soon(ann.client)
        )
        answers.append({"handoff_id": offered["handoff"]["handoff_id"], "specialist_id": taker.name})
        claimed = await taker.client.call("handoffs.accept", **answers[-1])
        again = await taker.client.call("handoffs.accept", **answers[-1])
        assert (again["fence"], again["handoff"]) == (claimed["fence"], claimed["handoff"])
    with pytest.raises(HubError, match="version_conflict"):
        await bob.client.call("handoffs.accept", **answers[0])
    with pytest.raises(HubError, match="permission_denied"):
        await ann.client.call("handoffs.accept", **answers[1] | {"specialist_id": ann.name})


async def test_what_is_said_again_under_its_request_id_counts_once(scene: Scene) -> None:
    ann = await scene.agent("ann", heartbeat_s=300)
    lead = await scene.client("lea", "lead", "agent")
    await scene.project(ann.client, {"task_id": "t-1"}, {"task_id": "t-2"}, budget_usd="1")
    claimed = await ann.claim("t-1")
    for _ in range(2):
        said = await ann.say("tasks.progress", claimed, progress=0.5, cost_usd="0.5", request_id="r-1")
        assert said["progress"] == 0.5
    with pytest.raises(HubError, match="idempotency_conflict"):
        await ann.say("tasks.progress", claimed, progress=0.6, request_id="r-1")
    blockers = [{"kind": "task", "ref": "t-2"}]
    for substate in ("BLOCKED", "RUNNING"):
        said = await ann.say("tasks.block", claimed, blockers=blockers, request_id="r-2")
        assert said["substate"] == substate, "it does not block again what was set free"
        if substate == "BLOCKED":
            await lead.call("tasks.unblock", project_id=scene.team, task_id="t-1", ref="t-2")
    question = {"reason": "CONFIRMATION", "message": "?", "approver_roles": ["lead"]}
    question |= {"expires_at": await soon(ann.client), "request_id": "r-3"}
    first = await ann.client.call("tasks.request_input", **held(ann, claimed, **question))
    assert await ann.client.call("tasks.request_input", **held(ann, claimed, **question)) == first
    await lead.call("approvals.resolve", approval_id=first["approval_id"], decision="APPROVED")
    again = await ann.client.call("tasks.request_input", **held(ann, claimed, **question))
    assert (again["approval_id"], again["task"]["substate"]) == (first["approval_id"], "RUNNING")
    for _ in range(2):
        said = await ann.say("tasks.submit", claimed, artifacts=[{"name": "a"}], cost_usd="0.4", request_id="r-4")
        assert said["state"] == "COMPLETED"
    assert (await ann.claim("t-2"))["task"]["task_id"] == "t-2", "a tenth of the budget is left"


async def test_nobody_settles_what_another_team_has_reserved(scene: Scene) -> None:
    ann, eve = await scene.agent("ann"), await scene.agent("eve")
    await scene.project(ann.client, {"task_id": "t-1"}, budget_usd="1")
    mine = {"project_id": scene.team, "specialist_id": ann.name, "reservation_id": "r", "usd": "0.9"}
    assert (await ann.client.call("budgets.reserve", **mine))["budgets"][0]["usd"] == "0.9"
    with pytest.raises(HubError, match="not_found"):
        await eve.client.call("budgets.settle", **mine | {"specialist_id": eve.name, "usd": "0"})
    assert (await ann.client.call("budgets.settle", **mine | {"usd": "0.1"}))["budgets"][0]["usd"] == "0.1"


async def test_who_may_read_a_project_sees_what_of_its_budget_is_used_and_what_is_reserved(scene: Scene) -> None:
    ann = await scene.agent("ann", usd_per_day="5")
    stranger = await scene.client("eve", "trader")
    await scene.project(ann.client, {"task_id": "t-1"}, budget_usd="2", budget_tokens=100)
    named = {"project_id": scene.team}
    reserve = {**named, "specialist_id": ann.name, "tokens": 30}
    await ann.client.call("budgets.reserve", **reserve, reservation_id="r-1", usd="0.5")
    await ann.client.call("budgets.reserve", **reserve, reservation_id="r-2", usd="0.25")
    await ann.client.call("budgets.settle", **reserve, reservation_id="r-1", usd="0.4")

    project, agent = (await ann.client.call("budgets.list", **named))["budgets"]
    assert (project["kind"], project["usd"], project["reserved_usd"], project["limit_usd"]) == (
        "PROJECT",
        "0.65",
        "0.25",
        "2",
    )
    assert (project["tokens"], project["reserved_tokens"], project["percent"]) == (60, 30, 60)
    assert (agent["kind"], agent["name"], agent["usd"], agent["limit_usd"]) == ("AGENT", ann.name, "0.65", "5")
    with pytest.raises(HubError, match="permission_denied"):
        await stranger.call("budgets.list", **named)


async def test_what_became_of_an_approval_and_an_offer_and_what_is_reserved_is_known_to_the_next_coordinator(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(100):
        with running(tmp_path) as hub:
            scene = Scene(hub)
            ann, bob = await scene.agent("ann", heartbeat_s=300), await scene.agent("bob", heartbeat_s=300)
            lead = await scene.client("lea", "lead", "agent")
            await scene.project(ann.client, {"task_id": "t-1"}, budget_usd="1")
            wanted = {"subject": "really?", "approver_roles": ["lead"], "project_id": scene.team}
            wanted |= {"expires_at": await soon(ann.client, 3600), "approval_id": "a-1"}
            await ann.client.call("approvals.request", **wanted)
            decided = await lead.call("approvals.resolve", approval_id="a-1", decision="APPROVED")
            to_bob = held(ann, await ann.claim(), to_specialist=bob.name, handoff_id="h-1")
            await ann.client.call("handoffs.offer", **to_bob, expires_at=await soon(ann.client))
            answer = {"handoff_id": "h-1", "specialist_id": bob.name}
            accepted = await bob.client.call("handoffs.accept", **answer)
            call_of_bob = {"project_id": scene.team, "specialist_id": bob.name, "reservation_id": "r-1"}
            await bob.client.call("budgets.reserve", **call_of_bob, usd="0.8")
            over = call_of_bob | {"reservation_id": "r-0", "usd": "0.1"}
            for method in ("budgets.reserve", "budgets.settle"):
                await bob.client.call(method, **over)
            for client in scene.clients:
                await client.__aexit__(None, None, None)
        with running(tmp_path) as hub:
            team, scene = scene.team, Scene(hub)
            scene.team = team
            ann.client, bob.client = await scene.client("ann"), await scene.client("bob")
            lead = await scene.client("lea", "lead", "agent")
            assert (await ann.client.call("approvals.get", approval_id="a-1"))["approval"]["state"] == "APPROVED"
            assert await lead.call("approvals.resolve", approval_id="a-1", decision="APPROVED") == decided
            assert (await ann.client.call("approvals.request", **wanted))["approval"]["state"] == "APPROVED"
            again = await bob.client.call("handoffs.accept", **answer)
            assert (again["handoff"], again["fence"]) == (accepted["handoff"], accepted["fence"])
            with pytest.raises(HubError, match="limit_exceeded"):
                await bob.client.call("budgets.reserve", **call_of_bob | {"reservation_id": "r-2"}, usd="0.9")
            await bob.client.call("budgets.settle", **over)
            settled = await bob.client.call("budgets.settle", **call_of_bob, usd="0.1")
            assert [each["usd"] for each in settled["budgets"]] == ["0.2"]
            for client in scene.clients:
                await client.__aexit__(None, None, None)


async def test_an_offer_that_is_declined_leaves_the_task_where_it_is(scene: Scene) -> None:
    ann, bob = await scene.agent("ann"), await scene.agent("bob")
    await scene.project(ann.client, {"task_id": "t-1"})
    claimed = await ann.claim()
    offered = await ann.client.call(
        "handoffs.offer", **held(ann, claimed, to_specialist=bob.name), expires_at=await soon(ann.client)
    )
    answer = {"handoff_id": offered["handoff"]["handoff_id"], "specialist_id": bob.name}
    declined = await bob.client.call("handoffs.decline", **answer, reason="busy")
    assert declined["handoff"]["state"] == "DECLINED"
    with pytest.raises(HubError, match="illegal_transition"):
        await bob.client.call("handoffs.accept", **answer)
    assert (await ann.say("tasks.submit", claimed, artifacts=[{"name": "a"}]))["state"] == "COMPLETED"


async def test_a_budget_that_is_used_up_refuses_the_next_task(scene: Scene) -> None:
    ann = await scene.agent("ann", usd_per_mtok_out="1000")
    await scene.project(ann.client, {"task_id": "t-1"}, {"task_id": "t-2"}, budget_usd="1")
    claimed = await ann.claim()
    async with ann.client.subscribe(f"team:{scene.team}") as team:
        await ann.say("tasks.progress", claimed, progress=0.5, usage={"output_tokens": 900})
        alert = await anext(team)
    assert (alert.type, alert.data["usd"], alert.data["percent"]) == ("BUDGET_ALERT", "0.9", 90.0)
    reserve = {"project_id": scene.team, "specialist_id": ann.name, "reservation_id": "r-1"}
    with pytest.raises(HubError, match="limit_exceeded"):
        await ann.client.call("budgets.reserve", **reserve, usd="0.2")
    await ann.client.call("budgets.reserve", **reserve, usd="0.05")
    for _ in range(2):  # the reply to the first may have been lost
        await ann.client.call("budgets.settle", **reserve, usd="0.01")
    with pytest.raises(HubError, match="idempotency_conflict"):
        await ann.client.call("budgets.settle", **reserve, usd="0.02")
    await ann.say("tasks.submit", claimed, artifacts=[{"name": "a"}], cost_usd="0.2")
    with pytest.raises(HubError, match="limit_exceeded"):
        await ann.claim()


async def test_a_change_of_a_contract_is_announced_before_it_is_in_force_and_told_again_when_it_is(
    scene: Scene,
) -> None:
    ann = await scene.agent("ann", heartbeat_s=300)
    change = {"project_id": scene.team, "contract": "PRICE_TICK", "version": "v2", "change": "`mid` is required"}
    with pytest.raises(HubError, match="bad_request"):
        await ann.client.call("contracts.announce", **change, effective_at=await soon(ann.client, -1))
    async with ann.client.subscribe(f"team:{scene.team}") as team:
        effective_at = await soon(ann.client, 1)
        await ann.client.call("contracts.announce", **change, effective_at=effective_at)
        await ann.client.call("contracts.announce", **change, effective_at=effective_at)
        with pytest.raises(HubError, match="idempotency_conflict"):
            await ann.client.call("contracts.announce", **change, effective_at=effective_at + 1)
        told = [await anext(team) for _ in range(2)]
    assert [each.type for each in told] == ["SCHEMA_CHANGE_ANNOUNCED", "CONTRACT_CHANGED"]
    assert [each.data["announced_by"] for each in told] == ["ann", "ann"]
    other = Client(scene.hub.url, token=scene.hub.token("mallory", "agent", teams=("elsewhere",)))
    async with other as mallory:
        with pytest.raises(HubError, match="permission_denied"):
            await mallory.call("contracts.announce", **change, effective_at=effective_at)
