"""May this caller do that to this channel? One pure function; everything not allowed is denied, and says why.

The order of the rules: the tenant's wall first, then `admin`, then the roles of the namespace, then the caller's grant.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hub.auth.assurance import mfa_required, two_factors
from hub.caller import Caller
from hub.guard.events import Report, not_permitted
from hub.namespaces import Namespace, Namespaces
from protocol.channels import matches
from protocol.errors import ErrorCode, HubError

Action = Literal["publish", "subscribe"]
Rule = Literal["tenant", "admin", "role", "grant", "default"]

MAX_REMEMBERED = 16_384  # decisions, some 300 bytes each
REFUSALS: dict[Action, str] = {
    "publish": "you may not publish to this channel",
    "subscribe": "you may not subscribe to this channel or read it",
}


class Decision(msgspec.Struct, frozen=True):
    """`rule` is the kind of rule that decided, `reason` one sentence about it for an operator, never for the peer."""

    allowed: bool
    rule: Rule
    reason: str


def decide(caller: Caller, action: Action, channel: str, namespace: Namespace, name: str) -> Decision:
    """The one decision. `name` is the channel's part after the colon.

    In a tenant-scoped namespace a name is `tenant/rest`, and the qualifiers look at the rest; a name without a slash is
    nobody's in particular. A caller with a tenant stays within it there. Elsewhere a tenant changes nothing, but that
    `admin` counts only inside: whoever administers one tenant does not administer the hub.
    """
    qualified = True
    if namespace.tenant_scoped:
        first, slash, rest = name.partition("/")
        tenant, name = (first, rest) if slash else ("", name)
        if caller.tenant and tenant != caller.tenant:
            return Decision(False, "tenant", f"a caller of tenant {caller.tenant} reaches no other channels here")
        qualified = tenant == caller.tenant  # ann of no tenant is not the ann of acme/ann
    if "admin" in caller.roles and (namespace.tenant_scoped or not caller.tenant):
        return Decision(True, "admin", "the role admin may do everything")
    who = namespace.publish if action == "publish" else namespace.subscribe
    prefix = channel.partition(":")[0]
    for entry in who:
        if _holds(caller, entry, name, qualified=qualified):
            return Decision(True, "role", f"{entry!r} in {action} of namespace {prefix}")
    patterns = caller.grant.publish if action == "publish" else caller.grant.subscribe
    for pattern in patterns:
        if matches(pattern, channel):
            return Decision(True, "grant", f"{pattern!r} in {action} of the caller's grant")
    entries = ", ".join(who) or "nobody"
    return Decision(False, "default", f"namespace {prefix} lets {entries} {action}, and no grant names this channel")


def _holds(caller: Caller, entry: str, name: str, *, qualified: bool) -> bool:
    role, _, qualifier = entry.partition(":")
    if role != "*" and role not in caller.roles:
        return False
    match qualifier:
        case "":
            return True
        case "own":
            return qualified and name == caller.user
        case "team":
            return qualified and (name in caller.teams or "*" in caller.teams)
        case "role":
            return qualified and name in caller.roles
        case _:
            return False


class Access:
    """Decisions by name of the channel, remembered: a publish asks for the same one again and again.

    What is remembered hangs on everything that was decided from, so a changed caller never meets an old answer.
    """

    def __init__(self, namespaces: Namespaces, *, report: Report) -> None:
        self._namespaces = namespaces
        self._report = report
        self._remembered: dict[tuple[object, ...], Namespace | None] = {}  # None: denied

    def decide(self, caller: Caller, action: Action, channel: str) -> Decision:
        """Raises HubError(bad_request, unknown_channel)."""
        namespace, name = self._namespaces.of(channel)
        return decide(caller, action, channel, namespace, name)

    def require(self, caller: Caller, action: Action, channel: str) -> Namespace:
        """The channel's policy. Raises HubError(permission_denied, mfa_required, bad_request, unknown_channel).

        A refusal is the same for a channel that holds something and for one that does not.
        """
        asked = (channel, action, caller.user, caller.roles, caller.teams, caller.grant, caller.tenant)
        try:
            found = self._remembered[asked]
        except KeyError:
            namespace, name = self._namespaces.of(channel)
            found = namespace if decide(caller, action, channel, namespace, name).allowed else None
            if len(self._remembered) >= MAX_REMEMBERED:  # a cache, not a registry: forget rather than grow
                self._remembered.clear()
            self._remembered[asked] = found
        if found is not None and not (found.mfa and action == "publish" and not two_factors(caller)):
            return found
        self._report(not_permitted(caller, channel, action=action))
        if found is not None:
            raise mfa_required()
        raise HubError(ErrorCode.PERMISSION_DENIED, REFUSALS[action], path="$.channel")
