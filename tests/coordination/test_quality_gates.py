"""Quality gates: a result passes by evidence or by a named person's waiver, and in no other way."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.caller import Caller, Principal
from hub.coordination.gates import Review, announcement, evaluate, handed_in, measured, reviewed, waived
from hub.coordination.standards import KRIN_STANDARDS, gates_for
from protocol.coordination import Gate, GateKind
from protocol.errors import ErrorCode, HubError
from protocol.gates import MAX_EVIDENCE, Evidence

FAST = Gate(gate_id="fast", metric="latency_ms", op="<", threshold=50)
PEER = Gate(gate_id="peer", kind="AGENT_REVIEW")
LEAD = Gate(gate_id="lead", kind="HUMAN_REVIEW")
NICE = Gate(gate_id="nice", metric="smell", op="==", threshold=0, required=False)


def somebody(user: str, principal: Principal = "user") -> Caller:
    return Caller(user=user, roles=frozenset({"agent"}), transport="websocket", principal=principal)


def before(*gates: Gate) -> Review:
    return handed_in(Review(task_id="t", gates=gates), ["author", "owner"])


def latency(*values: float) -> list[Evidence]:
    return [Evidence(kind="benchmark", ref="run-1", metric="latency_ms", value=value) for value in values]


REPORT = [Evidence(kind="report", ref="review-7")]


def judged(review: Review, gate: Gate, passed: bool = True, *, by: Caller | None = None) -> Review:
    reviewer = by or somebody("reviewer")
    return reviewed(review, gate.gate_id, passed, REPORT, reviewer, because="read", now_us=1)


def waive(
    review: Review, gate: Gate, *, by: Caller | None = None, allowed: bool = True, reason: str = "hotfix"
) -> Review:
    return waived(review, gate.gate_id, by or somebody("boss"), allowed=allowed, reason=reason, now_us=1)


def code_of(act: Callable[[], object]) -> ErrorCode:
    with pytest.raises(HubError) as failure:
        act()
    return failure.value.code


@given(
    st.sampled_from(["<", "<=", "==", ">=", ">"]),
    st.floats(-100, 100),
    st.lists(st.floats() | st.none() | st.floats(-100, 100), max_size=4),
)
def test_an_automated_gate_passes_only_when_every_measurement_is_a_number_that_holds(
    op: str, threshold: float, values: list[float | None]
) -> None:
    gate = Gate(gate_id="g", metric="m", op=op, threshold=threshold)  # type: ignore[arg-type]  # one of the Literal
    others = [Evidence(kind="run", ref="r", metric="another", value=threshold)]
    result, because = evaluate(gate, [*others, *(Evidence(kind="run", ref="r", metric="m", value=v) for v in values)])
    numbers = [value for value in values if value is not None]
    holds = {
        "<": lambda value: value < threshold,
        "<=": lambda value: value <= threshold,
        "==": lambda value: value == threshold,
        ">=": lambda value: value >= threshold,
        ">": lambda value: value > threshold,
    }[op]
    if not numbers or not all(map(math.isfinite, numbers)):
        assert result == "ERROR"
    else:
        assert result == ("PASS" if all(map(holds, numbers)) else "FAIL")
    assert because


@pytest.mark.parametrize("gate", [Gate(gate_id="g"), Gate(gate_id="g", metric="latency_ms", op="<")])
def test_a_gate_that_does_not_say_what_to_measure_is_an_error_and_does_not_pass(gate: Gate) -> None:
    review = measured(before(gate), "g", latency(1), by="ci", now_us=1)
    assert review.verdict("g").result == "ERROR"


STEPS = ("measure well", "measure badly", "measure nothing", "pass", "fail", "waive", "again")


@given(
    st.lists(st.sampled_from([FAST, PEER, LEAD, NICE]), min_size=1, unique=True),
    st.lists(
        st.tuples(
            st.sampled_from(STEPS),
            st.sampled_from([FAST, PEER, LEAD, NICE]),
            st.sampled_from(["author", "owner", "reviewer"]),
            st.sampled_from(["user", "machine"]),
        ),
        max_size=30,
    ),
)
def test_whatever_is_tried_a_gate_passes_only_by_evidence_or_a_persons_waiver(
    gates: list[Gate], steps: list[tuple[str, Gate, str, Principal]]
) -> None:
    review = before(*gates)
    for step, gate, user, principal in steps:
        caller, last = somebody(user, principal), review
        try:
            match step:
                case "measure well" | "measure badly" | "measure nothing":
                    found = {"measure well": latency(1), "measure badly": latency(99)}.get(step, [])
                    review = measured(review, gate.gate_id, found, by=user, now_us=1)
                case "pass" | "fail":
                    review = judged(review, gate, step == "pass", by=caller)
                case "waive":
                    review = waive(review, gate, by=caller)
                case "again":
                    review = handed_in(review, ["author"])
        except HubError:
            assert review is last
            continue
        if step == "again":
            assert review.number == last.number + 1
            assert review.verdicts == tuple(each for each in last.verdicts if each.result == "WAIVED")
            continue
        verdict = review.verdict(gate.gate_id)
        assert gate in gates
        if step in ("pass", "fail", "waive"):
            assert user == "reviewer"  # never an author
            assert principal == "user" or (step != "waive" and gate is PEER)
        assert last.verdict(gate.gate_id).result in ("PENDING", "ERROR") or verdict.result == "WAIVED"
        if verdict.result == "PASS":
            assert verdict.evidence


def test_everybody_who_had_a_hand_in_it_is_an_author_of_the_next_result() -> None:
    review = handed_in(before(PEER), ["other", "owner"])
    assert (review.number, review.authors) == (2, {"author", "owner", "other"})
    for author in review.authors:
        assert code_of(lambda author=author: judged(review, PEER, by=somebody(author))) is ErrorCode.PERMISSION_DENIED


def test_a_failed_measurement_is_not_repeated_until_it_passes_but_an_error_may_be() -> None:
    failed = measured(before(FAST), "fast", latency(1, 99), by="ci", now_us=1)
    assert failed.verdict("fast").because == "latency_ms 99, required < 50"
    assert code_of(lambda: measured(failed, "fast", latency(1), by="ci", now_us=1)) is ErrorCode.ILLEGAL_TRANSITION
    error = measured(before(FAST), "fast", [], by="ci", now_us=1)
    assert measured(error, "fast", latency(1), by="ci", now_us=1).verdict("fast").result == "PASS"
    assert measured(handed_in(failed, []), "fast", latency(1), by="ci", now_us=1).verdict("fast").result == "PASS"


def test_a_waiver_needs_leave_a_person_who_did_not_do_the_work_and_a_reason() -> None:
    failed = measured(before(FAST), "fast", latency(99), by="ci", now_us=1)
    assert code_of(lambda: waive(failed, FAST, allowed=False)) is ErrorCode.PERMISSION_DENIED
    assert code_of(lambda: waive(failed, FAST, by=somebody("owner"))) is ErrorCode.PERMISSION_DENIED
    assert code_of(lambda: waive(failed, FAST, by=somebody("bot", "machine"))) is ErrorCode.PERMISSION_DENIED
    assert code_of(lambda: waive(failed, FAST, reason=" ")) is ErrorCode.SCHEMA_INVALID
    told = announcement(waive(failed, FAST), "fast")
    assert (told.result, told.by, told.because, told.review) == ("WAIVED", "boss", "hotfix", 1)
    assert told.evidence == latency(99)  # what was waived stays on record


def test_a_waiver_holds_for_the_results_to_come() -> None:
    review = waive(before(FAST, PEER), FAST)
    assert handed_in(judged(review, PEER, False), []).verdicts == review.verdicts


def test_what_passed_is_not_waived_and_what_was_waived_not_twice() -> None:
    passed = measured(before(FAST, PEER), "fast", latency(1), by="ci", now_us=1)
    assert code_of(lambda: waive(passed, FAST)) is ErrorCode.ILLEGAL_TRANSITION
    assert code_of(lambda: waive(waive(before(FAST, PEER), FAST), FAST)) is ErrorCode.ILLEGAL_TRANSITION


@pytest.mark.parametrize(("gate", "kind"), [(FAST, "AUTOMATED"), (PEER, "AGENT_REVIEW"), (LEAD, "HUMAN_REVIEW")])
def test_measured_gates_are_not_judged_and_judged_ones_not_measured(gate: Gate, kind: GateKind) -> None:
    assert gate.kind == kind
    if kind == "AUTOMATED":
        assert code_of(lambda: judged(before(gate), gate)) is ErrorCode.ILLEGAL_TRANSITION
    else:
        assert (
            code_of(lambda: measured(before(gate), gate.gate_id, latency(1), by="ci", now_us=1))
            is ErrorCode.ILLEGAL_TRANSITION
        )


def test_a_reviewers_pass_needs_evidence_and_evidence_has_a_bound() -> None:
    by = somebody("reviewer")
    assert (
        code_of(lambda: reviewed(before(PEER), "peer", True, [], by, because="ok", now_us=1))
        is ErrorCode.SCHEMA_INVALID
    )
    much = latency(*range(MAX_EVIDENCE + 1))
    assert code_of(lambda: measured(before(FAST), "fast", much, by="ci", now_us=1)) is ErrorCode.LIMIT_EXCEEDED
    assert code_of(lambda: judged(before(PEER), LEAD)) is ErrorCode.NOT_FOUND


GOOD = {
    "latency_mean_ms": 49.9,
    "latency_p95_ms": 99.9,
    "critical_vulnerabilities": 0,
    "tests_passed_share": 1,
    "contract_violations": 0,
    "undocumented": 0,
}


@pytest.mark.parametrize(
    ("metric", "bad"),
    [
        ("latency_mean_ms", 50),
        ("latency_p95_ms", 100),
        ("critical_vulnerabilities", 1),
        ("tests_passed_share", 0.999),
        ("contract_violations", 1),
        ("undocumented", 1),
    ],
)
def test_the_standards_are_met_by_all_their_metrics_together(metric: str, bad: float) -> None:
    def results(metrics: dict[str, float]) -> list[str]:
        review = before(*KRIN_STANDARDS.gates)
        evidence = [Evidence(kind="ci", ref="run-1", metric=name, value=value) for name, value in metrics.items()]
        for gate in review.gates:
            review = measured(review, gate.gate_id, evidence, by="ci", now_us=1)
        return sorted(verdict.result for verdict in review.verdicts if verdict.result != "PASS")

    assert results(GOOD) == []
    assert results({**GOOD, metric: bad}) == ["FAIL"]
    assert results({name: value for name, value in GOOD.items() if name != metric}) == ["ERROR"]


def test_the_standards_have_a_version_and_all_their_gates_are_required() -> None:
    assert (KRIN_STANDARDS.name, KRIN_STANDARDS.version) == ("krin", 1)
    assert all(gate.required for gate in KRIN_STANDARDS.gates)


@given(
    st.lists(st.sampled_from([FAST, PEER, NICE, *KRIN_STANDARDS.gates])),
    st.lists(st.sampled_from([LEAD, FAST, NICE])),
)
def test_projects_and_tasks_add_to_the_standards_and_take_nothing_away(project: list[Gate], task: list[Gate]) -> None:
    gates = gates_for(KRIN_STANDARDS, project, task)
    assert gates[: len(KRIN_STANDARDS.gates)] == tuple(KRIN_STANDARDS.gates)
    assert set(gates) == {*KRIN_STANDARDS.gates, *project, *task}
    assert len({gate.gate_id for gate in gates}) == len(gates)


def test_a_gate_of_the_standards_is_not_loosened_under_its_own_name() -> None:
    loose = Gate(gate_id="tests-pass", metric="tests_passed_share", op=">=", threshold=0)
    assert code_of(lambda: gates_for(KRIN_STANDARDS, [], [loose])) is ErrorCode.SCHEMA_INVALID
