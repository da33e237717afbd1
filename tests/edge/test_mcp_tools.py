"""What each tool takes, and what it asks the hub for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # ships no types

from hub.edge.mcp.tools import TOOLS, resource
from hub.permissions import METHODS
from protocol.errors import ErrorCode, HubError
from protocol.messages import Call, History, Search

NOW_US = 1_732_330_000_000_000
CLAIM = {"project_id": "p", "task_id": "t", "specialist_id": "s", "fence": 3}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "register_specialist": {"specialist_id": "s", "team": "p"},
    "list_specialists": {},
    "get_plan": {"project_id": "p"},
    "claim_task": {"specialist_id": "s"},
    "post_update": {**CLAIM, "progress": 0.5},
    "complete_task": {**CLAIM, "artifacts": [{"text": "x"}]},
    "report_blocker": {**CLAIM, "blockers": [{"kind": "task", "ref": "t2"}]},
    "hand_off": {**CLAIM, "to_skill": "python"},
    "request_approval": {"subject": "may I?", "approver_roles": ["admin"]},
    "get_approval": {"approval_id": "a"},
    "search_history": {"query": "x"},
    "get_quote": {"symbol": "BTC-USD"},
    "validate_order": {"account": "a", "client_order_id": "o", "symbol": "BTC-USD", "side": "BUY", "order_type": "MARKET", "qty": "1"},
    "submit_order": {"account": "a", "client_order_id": "o", "symbol": "BTC-USD", "side": "BUY", "order_type": "MARKET", "qty": "1"},
}  # fmt: skip


def asked(tool: str, **arguments: Any) -> list[Any]:
    return [*TOOLS[tool].asks(arguments or ARGUMENTS[tool], NOW_US)]


@pytest.mark.parametrize("tool", TOOLS)
def test_the_schema_of_a_tool_is_one_and_holds_for_its_arguments(tool: str) -> None:
    schema = TOOLS[tool].schema
    Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    Draft202012Validator(schema).validate(ARGUMENTS[tool])


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_is_one_or_two_commands_that_the_hub_knows(tool: str) -> None:
    commands = asked(tool)
    assert len(commands) in (1, 2)
    assert {each.method for each in commands if isinstance(each, Call)} <= set(METHODS)


@pytest.mark.parametrize("tool", ["post_update", "complete_task", "report_blocker", "hand_off"])
def test_whoever_works_on_a_task_says_that_they_are_there(tool: str) -> None:
    beat, work = asked(tool)
    claims = [{"project_id": "p", "task_id": "t", "fence": 3}]
    assert (beat.method, beat.params) == ("agents.heartbeat", {"specialist_id": "s", "claims": claims})
    assert CLAIM.items() <= work.params.items()


@given(seconds=st.integers(10, 30 * 24 * 3600))
def test_a_span_becomes_a_moment(seconds: int) -> None:
    for tool in ("hand_off", "request_approval"):
        params = asked(tool, **ARGUMENTS[tool], expires_in_s=seconds)[-1].params
        assert params["expires_at"] == NOW_US + seconds * 1_000_000
        assert "expires_in_s" not in params


def test_history_is_searched_or_read() -> None:
    assert isinstance(asked("search_history", query="x", channel="team:a")[0], Search)
    [read] = asked("search_history", channel="team:a", limit=3)
    assert isinstance(read, History)
    assert (read.channel, read.limit, read.reverse) == ("team:a", 3, True)


def test_a_resource_is_what_its_address_says() -> None:
    [task] = resource("hub://task/acme%2Falpha/t%201")
    assert (task.method, task.params) == ("tasks.get", {"project_id": "acme/alpha", "task_id": "t 1"})  # type: ignore[attr-defined]
    [quote] = resource("hub://quote/BTC%2FUSD")
    assert quote.channel == "prices:BTC/USD"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "uri", ["hub://task/p", "hub://team", "hub://team/a/b", "http://team/a", "nonsense", "hub:///x"]
)
def test_there_are_no_other_resources(uri: str) -> None:
    with pytest.raises(HubError) as refused:
        resource(uri)
    assert refused.value.code is ErrorCode.NOT_FOUND
