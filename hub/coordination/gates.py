"""A task's results before its quality gates: verdicts with evidence, and waivers that somebody answers for.

Rules: no PASS without evidence, nobody judges their own work, a new result is judged anew; a waiver is of the task and
stays. What follows from the verdicts is the task's (tasks/fold.py). Pure: each verdict makes a new value.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping

import msgspec
from msgspec.structs import replace

from hub.caller import Caller
from protocol.coordination import Gate, GateResult
from protocol.errors import ErrorCode, HubError
from protocol.gates import MAX_EVIDENCE, Evidence, GateVerdict

WAIVERS = frozenset({"lead", "admin"})
"""Who may waive gates, in the projects of their teams."""
COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found at one gate. A WAIVED one has its reason in `because`, and in `by` who answers for it."""

    gate_id: str
    result: GateResult = "PENDING"
    by: str | None = None
    because: str = ""
    evidence: tuple[Evidence, ...] = ()
    decided_us: int | None = None


class Review(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The newest result of one task before its gates; `number` counts them. `authors` are all who made it: the agents
    that had the task, and the users they belong to."""

    task_id: str
    project_id: str = ""
    gates: tuple[Gate, ...]
    authors: frozenset[str] = frozenset()
    number: int = 0
    verdicts: tuple[Verdict, ...] = ()

    def verdict(self, gate_id: str) -> Verdict:
        return next((each for each in self.verdicts if each.gate_id == gate_id), Verdict(gate_id=gate_id))


def handed_in(review: Review, authors: Iterable[str]) -> Review:
    """The review of the next result, with nothing decided but what was waived."""
    waivers = tuple(each for each in review.verdicts if each.result == "WAIVED")
    return replace(review, number=review.number + 1, authors=review.authors.union(authors), verdicts=waivers)


def worked_on(review: Review, authors: Iterable[str]) -> Review:
    """The review of a task that these had a part in."""
    return replace(review, authors=review.authors.union(authors))


def announcement(review: Review, gate_id: str) -> GateVerdict:
    """The message that tells of a verdict."""
    verdict = review.verdict(gate_id)
    return GateVerdict(
        task_id=review.task_id,
        project_id=review.project_id,
        gate_id=gate_id,
        review=review.number,
        result=verdict.result,
        by=verdict.by,
        because=verdict.because,
        evidence=list(verdict.evidence),
        ts_event=verdict.decided_us,
    )


def evaluate(gate: Gate, evidence: Iterable[Evidence]) -> tuple[GateResult, str]:
    """An automated gate's result and why. What was measured more than once has to hold each time."""
    if gate.metric is None or gate.op is None or gate.threshold is None:
        return "ERROR", "the gate does not say what to measure"
    values = [each.value for each in evidence if each.metric == gate.metric and each.value is not None]
    if not values:
        return "ERROR", f"{gate.metric} was not measured"
    if not all(map(math.isfinite, values)):
        return "ERROR", f"{gate.metric} is not a number"
    compare = COMPARISONS[gate.op]
    failing = [value for value in values if not compare(value, gate.threshold)]
    found = failing or values
    return ("FAIL" if failing else "PASS"), f"{gate.metric} {found[0]:g}, required {gate.op} {gate.threshold:g}"


def measured(review: Review, gate_id: str, evidence: Iterable[Evidence], *, by: str, now_us: int) -> Review:
    """The review with the verdict that the evidence gives. Whose measurements count is the caller's to check.

    Raises HubError(not_found, illegal_transition, limit_exceeded).
    """
    gate = _undecided(review, gate_id)
    if gate.kind != "AUTOMATED":
        raise HubError(ErrorCode.ILLEGAL_TRANSITION, "This gate is judged by a reviewer, not measured.")
    shown = _bounded(evidence)
    result, because = evaluate(gate, shown)
    return _with(
        review,
        Verdict(gate_id=gate_id, result=result, by=by, because=because, evidence=shown, decided_us=now_us),
    )


def reviewed(
    review: Review,
    gate_id: str,
    passed: bool,
    evidence: Iterable[Evidence],
    reviewer: Caller,
    *,
    because: str,
    now_us: int,
) -> Review:
    """The review with the reviewer's verdict. Whether the caller may review in this project is the caller's to check.

    Raises HubError(not_found, illegal_transition, permission_denied, schema_invalid, limit_exceeded).
    """
    gate = _undecided(review, gate_id)
    if gate.kind == "AUTOMATED":
        raise HubError(ErrorCode.ILLEGAL_TRANSITION, "This gate is measured, not judged by a reviewer.")
    _check_other(review, reviewer)
    if gate.kind == "HUMAN_REVIEW":
        _check_person(reviewer)
    shown = _bounded(evidence)
    if passed and not shown:
        raise HubError(ErrorCode.SCHEMA_INVALID, "A pass needs evidence.", path="$.params.evidence")
    result: GateResult = "PASS" if passed else "FAIL"
    return _with(
        review,
        Verdict(gate_id=gate_id, result=result, by=reviewer.user, because=because, evidence=shown, decided_us=now_us),
    )


def waived(review: Review, gate_id: str, waiver: Caller, *, allowed: bool, reason: str, now_us: int) -> Review:
    """The review with the gate waived by a named person; `allowed`: who may waive gates in this project.

    Raises HubError(not_found, illegal_transition, permission_denied, schema_invalid).
    """
    _gate(review, gate_id)
    before = review.verdict(gate_id)
    if not allowed:
        raise HubError(ErrorCode.PERMISSION_DENIED, "You may not waive gates here.")
    _check_other(review, waiver)
    _check_person(waiver)
    if not reason.strip():
        raise HubError(ErrorCode.SCHEMA_INVALID, "A waiver needs a reason.", path="$.params.because")
    if before.result in ("PASS", "WAIVED"):
        raise HubError(ErrorCode.ILLEGAL_TRANSITION, "There is nothing to waive at this gate.")
    return _with(review, replace(before, result="WAIVED", by=waiver.user, because=reason, decided_us=now_us))


def _gate(review: Review, gate_id: str) -> Gate:
    for gate in review.gates:
        if gate.gate_id == gate_id:
            return gate
    raise HubError(ErrorCode.NOT_FOUND, "The task has no such gate.", path="$.params.gate_id")


def _undecided(review: Review, gate_id: str) -> Gate:
    """The gate, if it may get a verdict. After an ERROR it may be tried again; a FAIL asks for another result."""
    gate = _gate(review, gate_id)
    if review.verdict(gate_id).result not in ("PENDING", "ERROR"):
        raise HubError(ErrorCode.ILLEGAL_TRANSITION, "This gate has its verdict for this result.")
    return gate


def _check_other(review: Review, caller: Caller) -> None:
    if caller.user in review.authors:
        raise HubError(ErrorCode.PERMISSION_DENIED, "Somebody else has to judge this work.")


def _check_person(caller: Caller) -> None:
    if caller.principal == "machine":
        raise HubError(ErrorCode.PERMISSION_DENIED, "A named person must do this.")


def _bounded(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    shown = tuple(evidence)
    if len(shown) > MAX_EVIDENCE:
        raise HubError(ErrorCode.LIMIT_EXCEEDED, "Too much evidence for one verdict.", path="$.params.evidence")
    return shown


def _with(review: Review, verdict: Verdict) -> Review:
    others = tuple(each for each in review.verdicts if each.gate_id != verdict.gate_id)
    return replace(review, verdicts=(*others, verdict))
