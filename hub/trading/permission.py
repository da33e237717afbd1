"""Who may command an account, and who may see it: whoever may publish, or subscribe, to its orders."""

from __future__ import annotations

from hub.caller import Caller
from hub.channels.access import Access, Action
from protocol.errors import ErrorCode, HubError

REFUSALS: dict[Action, str] = {
    "publish": "you may not command this account",
    "subscribe": "you may not see this account",
}


def require_account(access: Access, caller: Caller, action: Action, account: str) -> None:
    """Raises HubError(permission_denied, mfa_required)."""
    try:
        access.require(caller, action, f"orders:{account}")
    except HubError as refused:
        if refused.code is not ErrorCode.PERMISSION_DENIED:
            raise
        raise HubError(ErrorCode.PERMISSION_DENIED, REFUSALS[action], path="$.params.account") from None
