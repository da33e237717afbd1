"""Approvals: nothing passes without enough people who agree, in time, to the same thing."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.caller import Caller, Principal
from hub.coordination.answers import check_answer, read_schema, same_json
from hub.coordination.approvals import (
    MAX_ANSWERS,
    MAX_TTL_US,
    ApprovalCase,
    announcement,
    ask,
    expire,
    resolve,
)
from protocol.approvals import ApprovalRequest, Decision
from protocol.errors import ErrorCode, HubError

START, END = 1_000_000, 9_000_000
AMOUNT = {
    "type": "object",
    "properties": {"amount": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["amount"],
    "additionalProperties": False,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def somebody(user: str, *roles: str, principal: Principal = "user") -> Caller:
    return Caller(user=user, roles=frozenset(roles or ("risk",)), transport="websocket", principal=principal)


def opened(*, quorum: int = 1, schema: dict[str, Any] | None = None, people_only: bool = True) -> ApprovalCase:
    request = ApprovalRequest(
        subject="deploy",
        approver_roles=["risk", "lead"],
        quorum=quorum,
        people_only=people_only,
        response_schema=schema,
        expires_at=END,
    )
    return ask("a1", request, requested_by="asker", now_us=START)


def refused(case: ApprovalCase, caller: Caller, *, payload: Any = None, now_us: int = START) -> ErrorCode:
    with pytest.raises(HubError) as failure:
        resolve(case, "APPROVED", payload, caller, now_us=now_us)
    return failure.value.code


@st.composite
def answers(draw: st.DrawFn) -> list[tuple[Caller, Decision, Any, int]]:
    """Anybody says anything at any time, in the order of time."""
    users = st.sampled_from(["asker", "ann", "bob", "cyd", "dan"])
    roles = st.sampled_from(["risk", "lead", "trader"])
    times = sorted(draw(st.lists(st.integers(START, END + 2), max_size=12)))
    return [
        (
            somebody(draw(users), draw(roles), principal=draw(st.sampled_from(get_args(Principal)))),
            draw(st.sampled_from(get_args(Decision))),
            draw(st.sampled_from([{"amount": 1}, {"amount": 2}, {"amount": True}, {"amount": 9}, None])),
            at,
        )
        for at in times
    ]


@given(quorum=st.integers(1, 3), said=answers())
def test_whatever_is_said_only_a_quorum_in_time_for_one_fitting_payload_approves(
    quorum: int, said: list[tuple[Caller, Decision, Any, int]]
) -> None:
    case = opened(quorum=quorum, schema=AMOUNT)
    agreeing: dict[int, set[str]] = {1: set(), 2: set()}
    declined: set[str] = set()
    answered: set[str] = set()
    ended: str | None = None
    for caller, decision, payload, at in said:
        eligible = caller.user != "asker" and caller.roles & {"risk", "lead"} and caller.principal != "machine"
        fits = decision == "DECLINED" or (payload in ({"amount": 1}, {"amount": 2}) and payload["amount"] is not True)
        if eligible and fits and ended is None and at < END and caller.user not in answered:
            answered.add(caller.user)
            if decision == "DECLINED":
                declined.add(caller.user)
                ended = "DECLINED"
            else:
                agreeing[payload["amount"]].add(caller.user)
                ended = "APPROVED" if len(agreeing[payload["amount"]]) >= quorum else None
        before = case
        try:
            case = resolve(case, decision, payload, caller, now_us=at)
        except HubError:
            assert case is before
        assert case.state == (ended or "REQUESTED")
        assert {each.user for each in case.answers} == answered
    case = expire(case, now_us=END)
    assert case.state == (ended or "EXPIRED")
    if case.state == "APPROVED":
        assert len(agreeing[case.payload["amount"]]) >= quorum
    assert announcement(case).state == case.state


@given(quorum=st.integers(1, 3), decision=st.sampled_from(get_args(Decision)), later=st.integers(0, 2 * END))
def test_an_answer_sent_again_is_the_same_answer_even_when_all_is_over(
    quorum: int, decision: Decision, later: int
) -> None:
    once = resolve(opened(quorum=quorum), decision, None, somebody("ann"), now_us=START)
    over = expire(once, now_us=END)
    assert resolve(over, decision, None, somebody("ann"), now_us=START + later) is over
    other: Decision = "DECLINED" if decision == "APPROVED" else "APPROVED"
    with pytest.raises(HubError) as failure:
        resolve(once, other, None, somebody("ann"), now_us=START)
    assert failure.value.code is ErrorCode.IDEMPOTENCY_CONFLICT


def test_nobody_agrees_to_what_they_asked_for_without_the_role_or_as_a_program() -> None:
    case = opened()
    assert refused(case, somebody("asker")) is ErrorCode.PERMISSION_DENIED
    assert refused(case, somebody("ann", "trader")) is ErrorCode.PERMISSION_DENIED
    assert refused(case, somebody("bot", principal="machine")) is ErrorCode.PERMISSION_DENIED
    agents_too = opened(people_only=False)
    approved = resolve(agents_too, "APPROVED", None, somebody("bot", principal="machine"), now_us=START)
    assert approved.state == "APPROVED"


def test_silence_is_a_refusal_from_the_very_moment_of_expiry() -> None:
    case = opened()
    assert expire(case, now_us=END - 1) is case
    assert refused(case, somebody("ann"), now_us=END) is ErrorCode.ILLEGAL_TRANSITION
    assert expire(case, now_us=END).state == "EXPIRED"


def test_a_payload_nobody_asked_for_is_refused_but_a_refusal_needs_none() -> None:
    assert refused(opened(), somebody("ann"), payload={"amount": 1}) is ErrorCode.SCHEMA_INVALID
    assert refused(opened(schema=AMOUNT), somebody("ann")) is ErrorCode.SCHEMA_INVALID
    assert resolve(opened(schema=AMOUNT), "DECLINED", "no", somebody("ann"), now_us=START).state == "DECLINED"


def test_answers_without_agreement_have_a_bound() -> None:
    case = opened(quorum=2, schema={"type": "integer"})
    for number in range(MAX_ANSWERS):
        case = resolve(case, "APPROVED", number, somebody(f"u{number}"), now_us=START)
    assert refused(case, somebody("ann"), payload=0) is ErrorCode.LIMIT_EXCEEDED


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "(a+)+$"},
        {"$ref": "https://example.com/schema"},
        {"type": "date"},
        {"minLength": -1},
        {"properties": {"a": {"anyOf": []}}},
        {"items": {"items": {"items": {"items": {"items": {"items": {"items": {"items": {}}}}}}}}},
    ],
)
def test_a_schema_that_the_hub_cannot_check_is_refused_when_it_is_asked_with(schema: dict[str, Any]) -> None:
    with pytest.raises(HubError) as failure:
        opened(schema=schema)
    assert failure.value.code is ErrorCode.SCHEMA_INVALID


@pytest.mark.parametrize("expires_at", [0, START, START + MAX_TTL_US + 1])
def test_a_request_has_an_end_and_not_too_far_away(expires_at: int) -> None:
    request = ApprovalRequest(subject="s", approver_roles=["lead"], expires_at=expires_at)
    with pytest.raises(HubError):
        ask("a1", request, requested_by="asker", now_us=START)


@given(JSON, JSON)
def test_a_constant_admits_the_same_json_and_nothing_else(one: Any, other: Any) -> None:
    schema = read_schema({"const": one})
    check_answer(schema, one)
    if same_json(one, other):
        check_answer(schema, other)
    else:
        with pytest.raises(HubError):
            check_answer(schema, other)
    assert same_json(one, other) == same_json(other, one)


@pytest.mark.parametrize(
    ("schema", "fits", "unfit"),
    [
        ({"type": "integer"}, 1.0, True),
        ({"type": "number", "minimum": 0}, 0, float("nan")),
        ({"enum": [1, "a"]}, "a", True),
        ({"type": "string", "minLength": 1, "maxLength": 2}, "ab", ""),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 1}, [None], [None, None]),
        ({"type": "array", "items": {"type": "null"}}, [], [0]),
        ({"type": "boolean"}, False, 0),
        (AMOUNT, {"amount": 5}, {"amount": 5, "note": ""}),
        (AMOUNT, {"amount": 1}, {}),
        (AMOUNT, {"amount": 1}, {"amount": 6}),
    ],
)
def test_an_answer_fits_its_schema_or_is_refused(schema: dict[str, Any], fits: Any, unfit: Any) -> None:
    check_answer(read_schema(schema), fits)
    with pytest.raises(HubError) as failure:
        check_answer(read_schema(schema), unfit)
    assert failure.value.code is ErrorCode.SCHEMA_INVALID
