"""Who may control risk, and how a refusal is told."""

from __future__ import annotations

from typing import NoReturn

from hub.caller import Caller
from hub.guard.events import Report, denied
from protocol.errors import ErrorCode, HubError

OFFICERS = frozenset({"risk", "admin"})


def may(caller: Caller, *, role: str | None = None) -> bool:
    """Whether this is an officer, or somebody of this role. A tenant's have no say: limits and switches hold for the
    whole hub."""
    return not caller.tenant and bool(caller.roles & OFFICERS or role in caller.roles)


class Officers:
    def __init__(self, *, report: Report) -> None:
        self._report = report

    def require(self, caller: Caller, target: str, *, role: str | None = None) -> None:
        """Raises HubError(permission_denied)."""
        if not may(caller, role=role):
            self.refuse(caller, target, "this needs the role risk")

    def require_person(self, caller: Caller, target: str) -> None:
        """Raises HubError(permission_denied)."""
        if caller.principal == "machine":
            self.refuse(caller, target, "a named person must do this")

    def refuse(self, caller: Caller, target: str, why: str) -> NoReturn:
        self._report(denied("authz_fail", caller.address, target, user=caller.user))
        raise HubError(ErrorCode.PERMISSION_DENIED, why)
