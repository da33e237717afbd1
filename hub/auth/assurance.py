"""How sure are we of who asks: the one rule about second factors. Pure: time is an argument."""

from __future__ import annotations

from hub.caller import Caller
from protocol.errors import ErrorCode, HubError

# What somebody knows, has and is, in the words of RFC 8176; two kinds are two factors.
KINDS = (
    frozenset({"pwd", "pin", "kba"}),
    frozenset({"otp", "hwk", "swk", "pop", "sc", "sms", "tel"}),
    frozenset({"face", "fpt", "iris", "retina", "vbm"}),
)


def two_factors(caller: Caller) -> bool:
    """Whether this caller has proven more than a password.

    A machine has nothing but its credentials, and an operator holds the signing key of the hub: neither has a second
    factor to show, and what they hold is no password that somebody could guess.
    """
    if caller.principal in ("operator", "machine"):
        return True
    return "mfa" in caller.amr or sum(not kind.isdisjoint(caller.amr) for kind in KINDS) >= 2


def require_two_factors(caller: Caller, *, now_s: int, max_age_s: float) -> None:
    """Raises HubError(mfa_required) without two factors, or when a person proved them longer ago than `max_age_s`."""
    if not two_factors(caller):
        raise mfa_required()
    if caller.principal in ("user", "external") and now_s - caller.auth_time > max_age_s:
        raise HubError(ErrorCode.MFA_REQUIRED, f"this needs a second factor of the last {max_age_s} s: step up again")


def mfa_required() -> HubError:
    return HubError(ErrorCode.MFA_REQUIRED, "this needs a second factor: step up, or sign in with one")
