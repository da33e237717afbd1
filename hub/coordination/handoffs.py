"""Hand-offs: a task offered by whoever has it to another, who may take it or not.

Rules: the sender keeps the task until somebody accepts, so it is never nobody's; an offer is worth as much as the claim
it was made with, and void with it; a command sent again changes nothing. Pure: each step makes a new value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from protocol.coordination import HandOff
from protocol.errors import ErrorCode, HubError
from protocol.handoffs import HandOffDetail, HandOffOffer, OfferState

Step = Literal["ACCEPT", "DECLINE", "WITHDRAW", "EXPIRE"]

MAX_TTL_US = 86_400_000_000
TRANSITIONS: Mapping[tuple[OfferState, Step], OfferState] = {
    ("OFFERED", "ACCEPT"): "ACCEPTED",
    ("OFFERED", "DECLINE"): "DECLINED",
    ("OFFERED", "WITHDRAW"): "WITHDRAWN",
    ("OFFERED", "EXPIRE"): "EXPIRED",
}
"""Whatever is not in it is refused."""


class Claim(NamedTuple):
    """Who has a task, and the number of that claim."""

    specialist_id: str
    fence: int


class Offer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request and what became of it. `by`: who ended it, None: time did."""

    handoff_id: str
    request: HandOffOffer
    offered_us: int
    state: OfferState = "OFFERED"
    by: str | None = None
    because: str = ""
    ended_us: int | None = None

    @property
    def claim(self) -> Claim:
        """The sender's."""
        return Claim(self.request.specialist_id, self.request.fence)


def offer(
    handoff_id: str, request: HandOffOffer, *, holder: Claim | None, others: Iterable[Offer], now_us: int
) -> Offer:
    """The offer of whoever has made this claim; `holder` has the task by now, `others` are earlier offers of it.

    Raises HubError(bad_request, permission_denied, illegal_transition).
    """
    offered = Offer(handoff_id=handoff_id, request=request, offered_us=now_us)
    claim = offered.claim
    if (request.to_specialist is None) == (request.to_skill is None):
        raise HubError(
            ErrorCode.BAD_REQUEST, "Offer it either to a specialist or to a skill.", path="$.params.to_specialist"
        )
    if not now_us < request.expires_at <= now_us + MAX_TTL_US:
        raise HubError(ErrorCode.BAD_REQUEST, "An offer expires within a day from now.", path="$.params.expires_at")
    if request.to_specialist == claim.specialist_id:
        raise HubError(ErrorCode.BAD_REQUEST, "You have this task already.", path="$.params.to_specialist")
    if holder != claim:
        raise HubError(ErrorCode.PERMISSION_DENIED, "Only who has the task may offer it.")
    if any(each.claim == claim and open_at(each, now_us=now_us) for each in others):
        raise HubError(ErrorCode.ILLEGAL_TRANSITION, "The task is on offer already: withdraw that offer first.")
    return offered


def accept(offered: Offer, by: str, *, skills: Collection[str], holder: Claim | None, now_us: int) -> Offer:
    """ACCEPTED: the task is `by`'s from now on. `holder` is who has the task by now.

    Raises HubError(permission_denied, illegal_transition).
    """
    _check_addressee(offered, by, skills)
    if offered.state == "OFFERED" and holder != offered.claim:
        raise HubError(ErrorCode.ILLEGAL_TRANSITION, "The sender does not have the task any more.")
    return _step(offered, "ACCEPT", by, "", now_us)


def decline(offered: Offer, by: str, *, because: str, now_us: int) -> Offer:
    """DECLINED by whom it was made to. Nobody declines for all who have a skill: they just do not accept.

    Raises HubError(permission_denied, illegal_transition).
    """
    if by != offered.request.to_specialist:
        raise HubError(ErrorCode.PERMISSION_DENIED, "This was not offered to you.")
    return _step(offered, "DECLINE", by, because, now_us)


def withdraw(offered: Offer, by: str, *, because: str, now_us: int) -> Offer:
    """WITHDRAWN by whoever offered. Raises HubError(permission_denied, illegal_transition)."""
    if by != offered.claim.specialist_id:
        raise HubError(ErrorCode.PERMISSION_DENIED, "Somebody else made this offer.")
    return _step(offered, "WITHDRAW", by, because, now_us)


def expire(offered: Offer, *, holder: Claim | None, now_us: int) -> Offer:
    """EXPIRED once its time has run out or the sender has lost the task; else the very same offer."""
    if offered.state != "OFFERED" or (holder == offered.claim and open_at(offered, now_us=now_us)):
        return offered
    state = TRANSITIONS[offered.state, "EXPIRE"]
    because = "nobody answered in time" if holder == offered.claim else "the sender does not have the task any more"
    return replace(offered, state=state, because=because, ended_us=now_us)


def open_at(offered: Offer, *, now_us: int) -> bool:
    """Whether it may still be answered. Not from `expires_at` on, whether or not `expire` has been called yet."""
    return offered.state == "OFFERED" and now_us < offered.request.expires_at


def announcement(offered: Offer) -> HandOff:
    """The message that tells how it stands. An offer to a skill names the skill until somebody has accepted."""
    request = offered.request
    to = offered.by if offered.state == "ACCEPTED" else request.to_specialist
    return HandOff(
        handoff_id=offered.handoff_id,
        task_id=request.task_id,
        from_specialist=offered.claim.specialist_id,
        to_specialist=to or f"skill:{request.to_skill}"[:128],
        state=offered.state,
        message=offered.because or request.reason or None,
        expires_at=request.expires_at,
        ts_event=offered.offered_us if offered.ended_us is None else offered.ended_us,
    )


def detail(offered: Offer) -> HandOffDetail:
    request = offered.request
    return HandOffDetail(
        handoff_id=offered.handoff_id,
        project_id=request.project_id,
        task_id=request.task_id,
        from_specialist=request.specialist_id,
        to_specialist=request.to_specialist,
        to_skill=request.to_skill,
        state=offered.state,
        reason=request.reason,
        summary=request.summary,
        artifacts=request.artifacts,
        offered_at=offered.offered_us,
        expires_at=request.expires_at,
        by=offered.by,
        because=offered.because,
        ended_at=offered.ended_us,
    )


def _check_addressee(offered: Offer, by: str, skills: Collection[str]) -> None:
    request = offered.request
    asked = by == request.to_specialist if request.to_skill is None else request.to_skill in skills
    if not asked or by == offered.claim.specialist_id:
        raise HubError(ErrorCode.PERMISSION_DENIED, "This was not offered to you.")


def _step(offered: Offer, step: Step, by: str, because: str, now_us: int) -> Offer:
    target = TRANSITIONS["OFFERED", step]
    if (offered.state, offered.by) == (target, by):
        return offered
    if (offered.state, step) not in TRANSITIONS or not open_at(offered, now_us=now_us):
        state = "EXPIRED" if offered.state == "OFFERED" else offered.state
        raise HubError(ErrorCode.ILLEGAL_TRANSITION, f"The offer is {state}: {step} comes too late.")
    return replace(offered, state=target, by=by, because=because, ended_us=now_us)
