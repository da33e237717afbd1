"""Hand-offs: a task has one holder all the time, and changes hands only by an offer that was accepted in time."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.coordination.handoffs import (
    MAX_TTL_US,
    TRANSITIONS,
    Claim,
    Offer,
    Step,
    accept,
    announcement,
    decline,
    expire,
    offer,
    open_at,
    withdraw,
)
from protocol.errors import ErrorCode, HubError
from protocol.handoffs import HandOffOffer, OfferState

START, END = 1_000_000, 9_000_000
ANN = Claim("ann", 1)


def asked(
    *, to: str | None = "bob", skill: str | None = None, expires_at: int = END, claim: Claim = ANN
) -> HandOffOffer:
    return HandOffOffer(
        project_id="p",
        task_id="t",
        specialist_id=claim.specialist_id,
        fence=claim.fence,
        to_specialist=to,
        to_skill=skill,
        expires_at=expires_at,
    )


def made(*, to: str | None = "bob", skill: str | None = None) -> Offer:
    return offer("h", asked(to=to, skill=skill), holder=ANN, others=[], now_us=START)


def take(offered: Offer, step: Step, by: str, *, holder: Claim | None = ANN, now_us: int = START) -> Offer:
    match step:
        case "ACCEPT":
            skills = {"sql"} if by != "dan" else set[str]()
            return accept(offered, by, skills=skills, holder=holder, now_us=now_us)
        case "DECLINE":
            return decline(offered, by, because="busy", now_us=now_us)
        case "WITHDRAW":
            return withdraw(offered, by, because="done it myself", now_us=now_us)
        case "EXPIRE":
            return expire(offered, holder=holder, now_us=now_us)


def code_of(act: Callable[[], object]) -> ErrorCode:
    with pytest.raises(HubError) as failure:
        act()
    return failure.value.code


STEPS: tuple[Step, ...] = typing.get_args(Step)
RIGHT: dict[Step, str] = {"ACCEPT": "bob", "DECLINE": "bob", "WITHDRAW": "ann", "EXPIRE": ""}


@pytest.mark.parametrize(("first", "second"), list(itertools.product(STEPS, STEPS)))
def test_an_offer_ends_once_and_the_same_command_again_changes_nothing(first: Step, second: Step) -> None:
    now_us = END if first == "EXPIRE" else START
    ended = take(made(), first, RIGHT[first], now_us=now_us)
    assert ended.state == TRANSITIONS["OFFERED", first]
    if second in (first, "EXPIRE"):
        assert take(ended, second, RIGHT[second], now_us=END) is ended
    else:
        assert code_of(lambda: take(ended, second, RIGHT[second], now_us=END)) is ErrorCode.ILLEGAL_TRANSITION


def test_every_state_but_offered_is_an_end() -> None:
    states: tuple[OfferState, ...] = typing.get_args(OfferState)
    assert {state for state, _ in TRANSITIONS} == {"OFFERED"}
    assert {*TRANSITIONS.values(), "OFFERED"} == set(states)


@given(
    by_skill=st.booleans(),
    steps=st.lists(
        st.tuples(
            st.sampled_from(STEPS),
            st.sampled_from(["ann", "bob", "cyd", "dan"]),
            st.sampled_from([ANN, ANN, ANN, Claim("ann", 2), Claim("eve", 2), None]),
            st.integers(START, END + 2),
        ),
        max_size=8,
    ),
)
def test_only_an_addressee_accepts_in_time_and_only_while_the_sender_still_has_the_task(
    by_skill: bool, steps: list[tuple[Step, str, Claim | None, int]]
) -> None:
    offered = made(to=None, skill="sql") if by_skill else made()
    for step, by, holder, at in sorted(steps, key=lambda each: each[3]):
        last = offered
        try:
            offered = take(offered, step, by, holder=holder, now_us=at)
        except HubError:
            assert offered is last
            continue
        if offered is last:
            continue
        assert last.state == "OFFERED"
        match offered.state:
            case "ACCEPTED":
                assert by in ({"bob", "cyd"} if by_skill else {"bob"})
                assert holder == ANN
                assert at < END
            case "DECLINED":
                assert (by, by_skill) == ("bob", False)
                assert at < END
            case "WITHDRAWN":
                assert by == "ann"
                assert at < END
            case "EXPIRED":
                assert at >= END or holder != ANN
        told = announcement(offered)
        assert (told.state, told.from_specialist, told.ts_event) == (offered.state, "ann", at)
        assert told.to_specialist == (by if offered.state == "ACCEPTED" else "skill:sql" if by_skill else "bob")


def test_whoever_does_not_have_the_task_with_this_very_claim_cannot_offer_it() -> None:
    for holder in (None, Claim("eve", 1), Claim("ann", 2)):
        refused = code_of(lambda holder=holder: offer("h", asked(), holder=holder, others=[], now_us=START))  # type: ignore[misc]  # a default in a lambda
        assert refused is ErrorCode.PERMISSION_DENIED


def test_a_task_is_on_offer_once_at_a_time() -> None:
    first = made()
    again = asked(to="cyd", expires_at=END + 9)
    assert code_of(lambda: offer("i", again, holder=ANN, others=[first], now_us=START)) is ErrorCode.ILLEGAL_TRANSITION
    assert offer("i", again, holder=ANN, others=[first], now_us=END).state == "OFFERED"
    gone = take(first, "WITHDRAW", "ann")
    assert offer("i", again, holder=ANN, others=[gone], now_us=START).state == "OFFERED"
    newer = Claim("ann", 2)  # the earlier offer is void with the earlier claim
    assert offer("i", asked(claim=newer), holder=newer, others=[first], now_us=START).state == "OFFERED"


@pytest.mark.parametrize(
    "request_",
    [
        asked(to=None),
        asked(skill="sql"),
        asked(to="ann"),
        asked(expires_at=START),
        asked(expires_at=START + MAX_TTL_US + 1),
    ],
)
def test_an_offer_has_one_addressee_who_is_another_and_an_end(request_: HandOffOffer) -> None:
    assert code_of(lambda: offer("h", request_, holder=ANN, others=[], now_us=START)) is ErrorCode.BAD_REQUEST


@given(st.integers(START, 2 * END))
def test_an_offer_is_open_until_its_end_and_then_expires(now_us: int) -> None:
    offered = made()
    assert open_at(offered, now_us=now_us) == (now_us < END)
    assert (expire(offered, holder=ANN, now_us=now_us) is offered) == (now_us < END)
