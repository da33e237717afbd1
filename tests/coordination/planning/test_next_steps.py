"""What a team should do now: kept up to date change by change, and the same as if reckoned anew."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.coordination.planning.next_steps import ENDED, Outlook
from protocol.coordination import Blocker, SpecialistStatus, SpecialistUpdate, TaskSpec

from .teams import HOUR, specialist, task

NOW = 480_000 * HOUR


def status(name: str, **fields: Any) -> SpecialistStatus:
    healthy = {"presence": "ONLINE", "activity": "IDLE", "health": "HEALTHY"}
    because = {f"{axis}_because": "seen" for axis in healthy}
    return SpecialistStatus(**({"specialist_id": name} | healthy | because | fields))


STATES = ["SUBMITTED", "WORKING", "INPUT_REQUIRED", "COMPLETED", "CANCELED", "FAILED"]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_after_any_changes_the_next_steps_are_those_of_a_new_outlook(seed: int) -> None:
    dice = random.Random(seed)
    specs: list[TaskSpec] = []
    for number in range(dice.randint(1, 15)):
        earlier = [each.task_id for each in specs]
        specs.append(
            task(
                f"t{number}",
                effort_h=float(dice.randint(0, 9)),
                depends_on=dice.sample(earlier, min(number, dice.randint(0, 3))),
                deadline=dice.choice([None, NOW + dice.randint(-5, 30) * HOUR]),
                priority=dice.randint(0, 2),
            )
        )
    kept, final = Outlook(specs[:5], deadline=NOW + 20 * HOUR), {}
    kept.add(specs[5:])
    for _ in range(30):
        name = dice.choice(specs).task_id
        final[name] = {
            "state": dice.choice(STATES),
            "progress": dice.choice([0.0, 0.5]),
            "holder": dice.choice([None, "ann", "bob"]),
            "blockers": dice.choice([[], [Blocker(kind="agent", ref="carl")]]),
        }
        kept.task_is(name, **final[name])
        kept.next_steps(NOW)
    anew = Outlook(specs, deadline=NOW + 20 * HOUR)
    for name in dice.sample(sorted(final), len(final)):
        anew.task_is(name, **final[name])
    for outlook in (kept, anew):
        outlook.specialist_is(specialist("ann"), status("ann"))
        outlook.specialist_is(specialist("bob"), status("bob", health="STUCK"))
        outlook.next_steps(NOW)
    found = kept.next_steps(NOW)
    assert found == anew.next_steps(NOW)
    assert found.critical_path_h == pytest.approx(longest_chain(specs, final))


def longest_chain(specs: list[TaskSpec], final: dict[str, dict[str, Any]]) -> float:
    """Of what has not ended, beginning with a task that waits for nothing that has not ended."""
    tails: dict[str, float] = {}
    for spec in reversed(specs):
        state = final.get(spec.task_id, {"state": "SUBMITTED", "progress": 0.0})
        if state["state"] not in ENDED:
            behind = [
                tails[each.task_id] for each in specs if spec.task_id in each.depends_on and each.task_id in tails
            ]
            tails[spec.task_id] = spec.effort_h * (1 - state["progress"]) + max(behind, default=0.0)
    return max(tails.values(), default=0.0)


def test_a_task_is_ready_when_what_it_waits_for_is_completed() -> None:
    outlook = Outlook([task("a"), task("b", depends_on=["a"])])
    assert outlook.next_steps(NOW).ready == ["a"]
    outlook.task_is("a", state="WORKING", holder="ann")
    assert outlook.next_steps(NOW).ready == []
    outlook.task_is("a", state="COMPLETED")
    assert outlook.next_steps(NOW).ready == ["b"]


def test_the_most_urgent_task_comes_first() -> None:
    soon, later = NOW + 5 * HOUR, NOW + 50 * HOUR
    outlook = Outlook(
        [
            task("relaxed", deadline=later),
            task("important", deadline=later, priority=90),
            task("urgent", effort_h=1.0),
            task("behind", effort_h=3.0, depends_on=["urgent"], deadline=soon),
        ]
    )
    assert outlook.next_steps(NOW).ready == ["urgent", "important", "relaxed"]


def test_who_is_blocked_and_who_waits_for_a_person_are_told_apart() -> None:
    outlook = Outlook([task("a"), task("b"), task("c", depends_on=["b"]), task("d")])
    outlook.task_is("a", state="WORKING", holder="ann", blockers=[Blocker(kind="agent", ref="bob")])
    outlook.task_is("b", state="FAILED")
    outlook.task_is("d", state="INPUT_REQUIRED", holder="ann")
    steps = outlook.next_steps(NOW)
    assert steps.blocked == {"a": ["bob"], "c": ["b"]}
    assert steps.waiting_human == ["d"]
    assert {(each.action, each.target) for each in steps.suggestions} == {
        ("UNBLOCK", "a"),
        ("UNBLOCK", "c"),
        ("ESCALATE", "d"),
    }


def test_progress_shortens_the_critical_path_and_the_change_is_told() -> None:
    outlook = Outlook([task("a", effort_h=4.0), task("b", effort_h=2.0, depends_on=["a"]), task("c", effort_h=5.0)])
    assert (outlook.next_steps(NOW).critical_path, outlook.next_steps(NOW).critical_path_h) == (["a", "b"], 6.0)
    outlook.apply(SpecialistUpdate(specialist_id="ann", task_id="a", progress=0.5))
    steps = outlook.next_steps(NOW)
    assert (steps.critical_path, steps.critical_path_h, steps.critical_path_delta_h) == (["c"], 5.0, -1.0)


def test_a_deadline_further_on_puts_the_task_before_it_at_risk() -> None:
    outlook = Outlook([task("a", effort_h=4.0), task("b", effort_h=2.0, depends_on=["a"], deadline=NOW + 7 * HOUR)])
    assert outlook.next_steps(NOW).at_risk == []
    [risk] = outlook.next_steps(NOW + 2 * HOUR).at_risk
    assert (risk.task_id, risk.slack_h) == ("a", -1.0)
    outlook.task_is("a", state="WORKING", holder="ann", progress=0.75)
    assert outlook.next_steps(NOW + 2 * HOUR).at_risk == []


def test_an_idle_specialist_is_suggested_for_the_most_urgent_task_it_can_do() -> None:
    outlook = Outlook([task("a", "python"), task("b", "rust", priority=99)])
    outlook.specialist_is(specialist("ann", "python"), status("ann"))
    [suggestion] = outlook.next_steps(NOW).suggestions
    assert (suggestion.action, suggestion.target, suggestion.why) == ("START", "a", "ann is free and can do it")
    outlook.task_is("a", state="WORKING", holder="ann")
    assert outlook.next_steps(NOW).suggestions == []


def test_alive_but_stuck_is_nudged_and_its_work_may_go_to_another() -> None:
    outlook = Outlook([task("a", effort_h=3.0)])
    outlook.task_is("a", state="WORKING", holder="ann")
    outlook.specialist_is(specialist("ann"), status("ann", health="STUCK", health_because="no progress for 300 s"))
    steps = outlook.next_steps(NOW)
    assert steps.stuck == ["ann"]
    assert [(each.action, each.target) for each in steps.suggestions] == [("NUDGE", "ann"), ("REASSIGN", "a")]
    outlook.specialist_is(specialist("ann"), status("ann", presence="OFFLINE"))
    assert [each.action for each in outlook.next_steps(NOW).suggestions] == ["REASSIGN"]
    outlook.specialist_left("ann")
    assert outlook.next_steps(NOW).stuck == []


def test_a_long_task_that_decides_the_end_is_worth_splitting() -> None:
    [split] = Outlook([task("a", effort_h=40.0), task("b", effort_h=30.0)]).next_steps(NOW).suggestions
    assert (split.action, split.target, split.expected_gain_h) == ("SPLIT", "a", 10.0)


def test_no_list_is_longer_than_its_bound() -> None:
    outlook = Outlook([task(f"t{number:04}", deadline=NOW) for number in range(300)])
    for number in range(200):
        outlook.task_is(f"t{number:04}", state="WORKING", blockers=[Blocker(kind="agent", ref="x")])
    steps = outlook.next_steps(NOW)
    assert [len(each) for each in (steps.ready, steps.blocked, steps.at_risk)] == [50, 50, 50]
    assert len(steps.suggestions) <= 50


class Watched(Outlook):
    """Writes down which tasks a change touches."""

    def __init__(self, tasks: list[TaskSpec]) -> None:
        self.touched: list[str] = []
        super().__init__(tasks)

    def _place(self, nodes: Any) -> None:
        self.touched += [node.name for node in nodes]
        super()._place(nodes)


def test_an_update_in_a_project_of_ten_thousand_tasks_touches_few_of_them() -> None:
    outlook = Watched([task("t0"), *(task(f"t{number}", depends_on=[f"t{number - 1}"]) for number in range(1, 10_000))])
    outlook.touched.clear()
    outlook.apply(SpecialistUpdate(specialist_id="ann", task_id="t0", progress=0.5))
    outlook.task_is("t0", state="COMPLETED")
    assert outlook.touched == ["t0", "t0", "t1"]


def test_many_that_one_task_sets_free_are_in_the_order_of_their_urgency() -> None:
    specs = [task("t0"), *(task(f"t{number}", depends_on=["t0"], priority=number % 100) for number in range(1, 301))]
    kept = Outlook(specs)
    assert kept.next_steps(NOW).ready == ["t0"]
    for state in ("COMPLETED", "FAILED", "COMPLETED"):
        kept.task_is("t0", state=state)
        anew = Outlook(reversed(specs))
        for number in range(1, 301):
            anew.task_is(f"t{number}", state="WORKING")
        anew.task_is("t0", state=state)
        for number in range(1, 301):
            anew.task_is(f"t{number}", state="SUBMITTED")
        found, expected = kept.next_steps(NOW), anew.next_steps(NOW)
        assert (found.ready, found.blocked, found.suggestions) == (
            expected.ready,
            expected.blocked,
            expected.suggestions,
        )
    assert found.ready[:4] == ["t199", "t299", "t99", "t198"]


def test_what_is_not_known_is_passed_over() -> None:
    outlook = Outlook([task("a")])
    outlook.apply(SpecialistUpdate(specialist_id="ann", task_id="nowhere", progress=1.0))
    outlook.apply(SpecialistUpdate(specialist_id="ann"))
    assert outlook.next_steps(NOW).ready == ["a"]
