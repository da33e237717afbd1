"""Second factors: who has one, what asks for one, and how old it may be (C51)."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from clock import ManualClock
from doubles import caller

from hub.auth.assurance import require_two_factors, two_factors
from hub.caller import SYSTEM, Principal
from hub.channels.access import Access
from hub.dispatch import Dispatcher
from hub.guard.events import SecurityEvent
from hub.namespaces import DEFAULTS, Namespaces
from hub.permissions import ANY_AGE, Need, Permissions
from protocol.errors import ErrorCode, HubError
from protocol.messages import Call

NOW = 1_700_000_000
RECENT_S = 300
SINGLE = caller("ann", "trader", amr=("pwd",))
DOUBLE = msgspec.structs.replace(SINGLE, amr=("pwd", "otp", "mfa"), auth_time=NOW)


@pytest.mark.parametrize(
    ("amr", "expected"),
    [
        ((), False),
        (("pwd",), False),
        (("otp",), False),  # one factor, though a good one
        (("hwk", "otp"), False),  # twice what somebody has
        (("pwd", "pin"), False),
        (("pwd", "unheard-of"), False),
        (("pwd", "otp"), True),
        (("pwd", "otp", "mfa"), True),
        (("mfa",), True),
        (("fpt", "hwk"), True),
    ],
)
@pytest.mark.parametrize("principal", ["user", "external"])
def test_c51_two_factors_are_two_kinds_of_proof(amr: tuple[str, ...], expected: bool, principal: Principal) -> None:
    assert two_factors(msgspec.structs.replace(SINGLE, amr=amr, principal=principal)) is expected


@pytest.mark.parametrize("principal", ["operator", "machine"])
def test_c51_machines_and_the_holder_of_the_key_have_no_second_factor_to_show(principal: Principal) -> None:
    who = msgspec.structs.replace(SINGLE, amr=(), principal=principal)

    assert two_factors(who)
    require_two_factors(who, now_s=NOW, max_age_s=RECENT_S)


@pytest.mark.parametrize("age_s", [0, RECENT_S, RECENT_S + 1, 10**6])
def test_c51_the_most_sensitive_acts_want_a_recent_proof(age_s: int) -> None:
    if age_s <= RECENT_S:
        require_two_factors(DOUBLE, now_s=NOW + age_s, max_age_s=RECENT_S)
    else:
        assert refusal(require_two_factors, DOUBLE, now_s=NOW + age_s, max_age_s=RECENT_S) is ErrorCode.MFA_REQUIRED
    require_two_factors(DOUBLE, now_s=NOW + age_s, max_age_s=math.inf)


@pytest.mark.parametrize("channel", ["orders:ann", "fills:ann", "approvals:desk"])
def test_c51_publishing_where_money_moves_needs_a_second_factor_and_reading_does_not(channel: str) -> None:
    reported: list[SecurityEvent] = []
    access = Access(Namespaces(), report=reported.append)

    assert refusal(access.require, SINGLE, "publish", channel) is ErrorCode.MFA_REQUIRED
    assert access.require(DOUBLE, "publish", channel).mfa
    assert refusal(access.require, SINGLE, "publish", channel) is ErrorCode.MFA_REQUIRED  # remembered or not
    if not channel.startswith("approvals"):
        access.require(SINGLE, "subscribe", channel)
    access.require(SINGLE, "publish", "custom:x")
    access.require(SYSTEM, "publish", channel)
    assert [(each.name, each.target, each.allowed) for each in reported] == [("authz_fail", channel, False)] * 2


def test_c51_who_may_not_at_all_is_not_told_to_bring_a_second_factor() -> None:
    access = Access(Namespaces(), report=lambda event: None)

    assert refusal(access.require, SINGLE, "publish", "orders:bob") is ErrorCode.PERMISSION_DENIED


def test_c51_a_namespace_says_for_itself_whether_it_needs_one() -> None:
    table = DEFAULTS | {
        "orders": msgspec.structs.replace(DEFAULTS["orders"], mfa=False),
        "custom": msgspec.structs.replace(DEFAULTS["custom"], mfa=True),
    }
    access = Access(Namespaces(table), report=lambda event: None)

    access.require(SINGLE, "publish", "orders:ann")
    assert refusal(access.require, SINGLE, "publish", "custom:x") is ErrorCode.MFA_REQUIRED


@pytest.mark.parametrize(("age_s", "max_age_s"), [(0, ANY_AGE), (10**6, ANY_AGE), (300, 300), (301, 300)])
def test_c51_a_method_that_needs_a_second_factor_is_not_even_begun_without(age_s: int, max_age_s: float) -> None:
    begun: list[str] = []
    reported: list[SecurityEvent] = []
    methods = {name: lambda params, caller, name=name: begun.append(name) for name in ("desk.halt", "desk.look")}
    permissions = Permissions(
        report=reported.append,
        signal=reported.append,
        clock=ManualClock(now_ms=(NOW + age_s) * 1000),
        methods=dict.fromkeys(methods, Need.SIGN_IN),
        second_factor={"desk.halt": max_age_s},
    )
    dispatcher = Dispatcher(permissions=permissions)
    dispatcher.add({}, methods)

    dispatcher.handle(Call(id=1, method="desk.look"), SINGLE)
    assert refusal(dispatcher.handle, Call(id=2, method="desk.halt"), SINGLE) is ErrorCode.MFA_REQUIRED
    if age_s <= max_age_s:
        dispatcher.handle(Call(id=3, method="desk.halt"), DOUBLE)
    else:
        assert refusal(dispatcher.handle, Call(id=3, method="desk.halt"), DOUBLE) is ErrorCode.MFA_REQUIRED

    assert begun == ["desk.look", "desk.halt"][: 1 + (age_s <= max_age_s)]
    assert {(each.name, each.target, each.allowed) for each in reported} == {("authz_fail", "desk.halt", False)}


def test_c51_whatever_needs_an_admin_needs_a_second_factor() -> None:
    permissions = Permissions(report=lambda event: None, signal=lambda event: None, clock=ManualClock())
    admin = msgspec.structs.replace(SINGLE, roles=frozenset({"admin"}))

    assert refusal(permissions.require, Need.ADMIN, admin, target="x") is ErrorCode.MFA_REQUIRED
    assert refusal(permissions.require, Need.ADMIN, DOUBLE, target="x") is ErrorCode.PERMISSION_DENIED
    permissions.require(Need.ADMIN, msgspec.structs.replace(admin, principal="operator"), target="x")


def refusal(function: Any, *arguments: Any, **options: Any) -> ErrorCode:
    with pytest.raises(HubError) as caught:
        function(*arguments, **options)
    return caught.value.code
