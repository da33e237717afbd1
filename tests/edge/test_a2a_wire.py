"""The hub's tasks as A2A has them, and messages as tasks; checked against the official definition."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import JSON_RPC_ERROR_CODE_MAP
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given
from hypothesis import strategies as st

from hub.edge.a2a import wire
from hub.edge.a2a.card import card
from hub.edge.a2a.errors import A2AError, Fault
from protocol.errors import ErrorCode, HubError

UPDATE = {
    "task_id": "t/1",
    "project_id": "acme/alpha",
    "state": "WORKING",
    "substate": "RUNNING",
    "progress": 0.5,
    "specialist_id": "s1",
    "ts_event": 1_732_330_000_123_456,
    "message": "half way",
    "depends_on": [],
}


def same(made: dict[str, Any], kind: Any) -> Any:
    """The message of that kind; strict: a field that it does not have is an error."""
    return ParseDict(made, kind())


def sent(*parts: dict[str, Any], **fields: Any) -> wire.Message:
    return msgspec.convert({"messageId": "m1", "contextId": "alpha", "parts": [*parts], **fields}, wire.Message)


def test_a_task_has_its_state_its_time_and_what_was_said() -> None:
    task = same(wire.task(UPDATE, artifacts=[{"name": "notes", "text": "done"}, {"lines": 3}]), a2a.Task)

    assert (task.id, task.context_id) == ("acme%2Falpha/t%2F1", "acme/alpha")
    assert task.status.state == a2a.TASK_STATE_WORKING
    assert task.status.timestamp.ToJsonString() == "2024-11-23T02:46:40.123Z"
    assert task.status.message.parts[0].text == "half way"
    assert [part.WhichOneof("content") for each in task.artifacts for part in each.parts] == ["text", "data"]
    assert MessageToDict(task.metadata)["specialist_id"] == "s1"


def test_every_state_of_the_hub_is_one_of_theirs() -> None:
    named = {value.name.removeprefix("TASK_STATE_") for value in a2a.TaskState.DESCRIPTOR.values}
    assert named == {*wire.STATES, "UNSPECIFIED"}


def test_updates_are_what_a_stream_carries() -> None:
    assert same(wire.status_update(UPDATE), a2a.StreamResponse).HasField("status_update")
    told = same(wire.artifact_update(UPDATE, {"artifact_id": "a1", "x": 1}, 1), a2a.StreamResponse)
    assert (told.artifact_update.artifact.artifact_id, told.artifact_update.last_chunk) == ("a1", True)


def test_the_card_says_what_the_protocol_wants_to_know() -> None:
    made = same(card("https://hub.example"), a2a.AgentCard)
    [interface] = made.supported_interfaces
    assert (interface.url, interface.protocol_binding) == ("https://hub.example/a2a", "JSONRPC")
    assert interface.protocol_version == "1.0"
    assert made.capabilities.streaming
    assert {*made.security_requirements[0].schemes} == {*made.security_schemes}


@given(project=st.text(min_size=1, max_size=40), task=st.text(min_size=1, max_size=40))
def test_every_name_comes_back(project: str, task: str) -> None:
    assert wire.task_named(wire.wire_id(project, task)) == (project, task)


@pytest.mark.parametrize("name", ["", "alpha", "/t1", "alpha/", "a/b/c"])
def test_nothing_has_another_name(name: str) -> None:
    with pytest.raises(A2AError) as refused:
        wire.task_named(name)
    assert refused.value.fault is Fault.TASK_NOT_FOUND


def test_a_message_becomes_a_task_of_its_words_and_its_data() -> None:
    message = sent(
        {"text": "Write the notes\nof 2.1"},
        {"data": {"required_skills": ["writing"], "priority": 70.0, "effort_h": 2.5, "task_id": "mine"}},
        referenceTaskIds=["alpha/t0"],
    )
    spec = wire.specification(message, "a2a-1")

    assert (spec["task_id"], spec["title"], spec["description"]) == (
        "a2a-1",
        "Write the notes",
        "Write the notes\nof 2.1",
    )
    assert (spec["required_skills"], spec["priority"], spec["effort_h"]) == (["writing"], 70, 2.5)
    assert spec["reference_task_ids"] == ["t0"]


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ({"url": "https://example.com/x"}, Fault.CONTENT_TYPE),
        ({"raw": "AAAA"}, Fault.CONTENT_TYPE),
        ({}, Fault.CONTENT_TYPE),
        ({"data": [1]}, Fault.INVALID_PARAMS),
        ({"data": {"priority": "high"}}, Fault.INVALID_PARAMS),
        ({"data": {"no_such_field": 1}}, Fault.INVALID_PARAMS),
    ],
)
def test_what_makes_no_task_is_refused(part: dict[str, Any], fault: Fault) -> None:
    with pytest.raises(A2AError) as refused:
        wire.specification(sent(part), "a2a-1")
    assert refused.value.fault is fault


def test_the_codes_are_the_official_ones() -> None:
    ours = {fault.value[0] for fault in Fault}
    assert set(JSON_RPC_ERROR_CODE_MAP.values()) <= ours
    assert ours - set(JSON_RPC_ERROR_CODE_MAP.values()) == {Fault.REFUSED.value[0]}


@pytest.mark.parametrize(
    ("code", "fault", "status"),
    [
        (ErrorCode.NOT_FOUND, Fault.TASK_NOT_FOUND, 200),
        (ErrorCode.ILLEGAL_TRANSITION, Fault.UNSUPPORTED, 200),
        (ErrorCode.SCHEMA_INVALID, Fault.INVALID_PARAMS, 200),
        (ErrorCode.INTERNAL, Fault.INTERNAL, 200),
        (ErrorCode.PERMISSION_DENIED, Fault.REFUSED, 403),
        (ErrorCode.RATE_LIMITED, Fault.REFUSED, 429),
        (ErrorCode.NOT_AVAILABLE, Fault.REFUSED, 503),
    ],
)
def test_what_the_hub_refuses_has_a_code_and_a_status(code: ErrorCode, fault: Fault, status: int) -> None:
    error = A2AError.of(HubError(code, "no"))
    assert (error.fault, error.status) == (fault, status)
    assert error.body["data"][0]["reason"]
