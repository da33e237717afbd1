"""May this caller do that to this channel? One pure function; everything not allowed is denied."""

from __future__ import annotations

from typing import Literal

from hub.caller import Caller
from hub.namespaces import Namespace
from protocol.channels import matches

Action = Literal["publish", "subscribe"]


def allowed(caller: Caller, action: Action, channel: str, namespace: Namespace, name: str) -> bool:
    """Decide by role, then by grant. `name` is the channel's part after the colon."""
    if "admin" in caller.roles:
        return True
    who = namespace.publish if action == "publish" else namespace.subscribe
    if any(_holds(caller, entry, name) for entry in who):
        return True
    patterns = caller.grant.publish if action == "publish" else caller.grant.subscribe
    return any(matches(pattern, channel) for pattern in patterns)


def _holds(caller: Caller, entry: str, name: str) -> bool:
    role, _, qualifier = entry.partition(":")
    if role != "*" and role not in caller.roles:
        return False
    match qualifier:
        case "":
            return True
        case "own":
            return name == caller.user
        case "team":
            return name in caller.teams or "*" in caller.teams
        case "role":
            return name in caller.roles
        case _:
            return False
