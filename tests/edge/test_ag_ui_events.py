"""What a stream of AG-UI tells of a project, event by event, checked with the protocol's own models."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from ag_ui.core import PROTOCOL_VERSION as SPOKEN
from ag_ui.core import Event as Model
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from hub.edge.ag_ui import ENDED, PROTOCOL_VERSION, UNDER_WAY, Event, Run, RunInput

MODELS: TypeAdapter[Any] = TypeAdapter(Model)
RUN = RunInput(thread_id="alpha", run_id="r1")
NAMES = st.sampled_from(["t1", "t/2", "t~3", "~1"])
STATES = st.sampled_from(sorted({"SUBMITTED", *UNDER_WAY, *ENDED}))


def valid(events: Iterable[Event]) -> list[Event]:
    """The events, each as the official model reads it and writes it again."""
    found = [*events]
    for each in found:
        model = MODELS.validate_python(each)
        assert model.model_dump(mode="json", by_alias=True) == each
    return found


def message(type: str, data: Any, **fields: Any) -> dict[str, Any]:
    return {"type": type, "channel": "tasks:alpha", "offset": 7, "timestamp": 1_732_330_000_123, "data": data, **fields}


def patched(state: Any, events: Iterable[Event]) -> Any:
    """The state after these events, by RFC 6902."""
    for each in events:
        if each["type"] == "STATE_SNAPSHOT":
            state = copy.deepcopy(each["snapshot"])
        for operation in each.get("delta", []):
            assert operation["op"] == "add"
            *parents, name = [token.replace("~1", "/").replace("~0", "~") for token in operation["path"].split("/")[1:]]
            place = state
            for parent in parents:
                place = place[parent]
            place[name] = operation["value"]
    return state


def test_a_run_begins_with_the_version_the_state_and_the_steps_under_way() -> None:
    tasks = {"t1": {"task_id": "t1", "state": "WORKING"}, "t2": {"task_id": "t2", "state": "COMPLETED"}}
    events = valid(Run(RUN, tasks).start({"tasks": tasks}))

    assert [each["type"] for each in events] == ["RUN_STARTED", "STATE_SNAPSHOT", "STEP_STARTED"]
    assert (events[0]["threadId"], events[0]["runId"], events[0]["protocolVersion"]) == ("alpha", "r1", SPOKEN)
    assert events[2]["stepName"] == "t1"
    assert PROTOCOL_VERSION == SPOKEN


def test_a_front_end_that_has_the_state_is_not_told_it_again() -> None:
    assert [each["type"] for each in valid(Run(RUN, {}).start(None))] == ["RUN_STARTED"]


def test_a_task_is_a_step_from_its_claim_to_its_end() -> None:
    run = Run(RUN, {})
    lives = ["SUBMITTED", "WORKING", "INPUT_REQUIRED", "WORKING", "SUBMITTED", "WORKING", "COMPLETED"]
    told = [
        each["type"]
        for state in lives
        for each in valid(run.hear(message("TASK_STATUS_UPDATE", {"task_id": "t1", "state": state})))
        if each["type"] != "STATE_DELTA"
    ]

    assert told == ["STEP_STARTED", "STEP_FINISHED", "STEP_STARTED", "STEP_FINISHED"]
    assert run.over


def test_what_specialists_report_and_what_is_next_are_parts_of_the_state() -> None:
    reported = [{"specialist_id": "s1", "progress": 0.5}, {"specialist_id": "s2"}]
    events = valid(Run(RUN, {}).hear(message("SPECIALIST_UPDATE", reported, coordination={"ready": ["t1"]})))

    state = patched({"updates": {}, "next_steps": None}, events)
    assert state == {"updates": {"s1": reported[0], "s2": reported[1]}, "next_steps": {"ready": ["t1"]}}
    assert events[0]["timestamp"] == 1_732_330_000_123


def test_a_hand_off_is_an_activity_and_what_the_protocol_does_not_know_is_custom() -> None:
    run = Run(RUN, {})
    [offered] = valid(run.hear(message("HANDOFF", {"task_id": "t1", "state": "OFFERED"})))
    [alert] = valid(run.hear(message("BUDGET_ALERT", {"used": "9"})))

    assert (offered["type"], offered["messageId"]) == ("ACTIVITY_SNAPSHOT", "handoff:t1")
    assert (alert["type"], alert["name"], alert["value"]) == ("CUSTOM", "BUDGET_ALERT", {"used": "9"})


def test_a_run_ends_with_the_last_of_its_tasks() -> None:
    run = Run(RUN, {"t1": {"state": "WORKING"}, "t2": {"state": "FAILED"}})
    assert not run.over
    [*run.hear(message("TASK_STATUS_UPDATE", {"task_id": "t1", "state": "COMPLETED"}))]
    assert run.over
    [done] = valid(run.finish())
    assert (done["result"], done["outcome"]) == ({"COMPLETED": 1, "FAILED": 1}, {"type": "success"})
    [stopped] = valid(Run(RUN, {"t1": {"state": "CANCELED"}}).finish())
    assert stopped["outcome"] == {"type": "cancelled"}


def test_a_project_without_tasks_is_not_over() -> None:
    assert not Run(RUN, {}).over


@given(lives=st.lists(st.tuples(NAMES, STATES), max_size=30), left=st.integers(0, 30))
def test_the_state_follows_the_tasks_whenever_a_front_end_left_and_came_back(
    lives: list[tuple[str, str]], left: int
) -> None:
    run = Run(RUN, {})
    told = [valid(run.hear(message("TASK_STATUS_UPDATE", {"task_id": id, "state": state}))) for id, state in lives]

    before = patched({"tasks": {}}, (each for events in told[:left] for each in events))
    after = patched(before, (each for events in told[left:] for each in events))
    assert {id: task["state"] for id, task in after["tasks"].items()} == dict(lives)
    steps = [each for events in told for each in events if each["type"].startswith("STEP_")]
    for name in {each["stepName"] for each in steps}:
        mine = [each["type"] for each in steps if each["stepName"] == name]
        assert mine == [("STEP_STARTED", "STEP_FINISHED")[number % 2] for number in range(len(mine))]
