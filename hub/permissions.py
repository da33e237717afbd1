"""Who may use what: every command, method and route stands in one of these tables, or the hub does not start.

Deny by default: a handler that somebody adds and forgets to enter here never answers anybody.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from enum import Enum

from hub.auth.assurance import require_two_factors
from hub.caller import Caller
from hub.clock import Clock
from hub.guard.events import Report, SecurityEvent, not_permitted
from protocol.errors import ErrorCode, HubError
from protocol.messages import (
    Call,
    Connect,
    Explain,
    History,
    Presence,
    Publish,
    Refresh,
    Replay,
    Search,
    Subscribe,
    Unsubscribe,
)


class Need(Enum):
    """What a caller must be. A channel's own rules (hub.channels.access) come on top."""

    NOTHING = "anybody, signed in or not"
    SIGN_IN = "a valid token"
    CHANNEL = "a valid token, and the channel's leave"
    ADMIN = "the role admin"


COMMANDS: Mapping[type, Need] = {
    Connect: Need.NOTHING,  # brings the token
    Refresh: Need.SIGN_IN,
    Subscribe: Need.CHANNEL,
    Unsubscribe: Need.SIGN_IN,
    Publish: Need.CHANNEL,
    History: Need.CHANNEL,
    Replay: Need.CHANNEL,
    Explain: Need.SIGN_IN,  # of others' connections: ADMIN
    Presence: Need.CHANNEL,
    Search: Need.CHANNEL,
    Call: Need.SIGN_IN,  # and what METHODS says
}

METHODS: Mapping[str, Need] = {
    "channels.list": Need.SIGN_IN,
    "hub.time": Need.SIGN_IN,
    "hub.clients": Need.ADMIN,
    "auth.explain": Need.ADMIN,
    "audit.verify": Need.ADMIN,
    "audit.seen": Need.ADMIN,
    "orders.submit": Need.SIGN_IN,  # and for these: the leave of the account's channel, hub.trading.orders.service
    "orders.validate": Need.SIGN_IN,
    "orders.replace": Need.SIGN_IN,
    "orders.cancel": Need.SIGN_IN,
    "orders.cancel_all": Need.SIGN_IN,
    "orders.cancel_all_after": Need.SIGN_IN,
    "orders.cancel_on_disconnect": Need.SIGN_IN,
    "orders.status": Need.SIGN_IN,
    "orders.list": Need.SIGN_IN,
    "strategies.list": Need.SIGN_IN,  # likewise
    "strategies.start": Need.SIGN_IN,
    "strategies.stop": Need.SIGN_IN,
    "knowledge.add": Need.SIGN_IN,  # and for these: the leave of the project's team channel
    "knowledge.get": Need.SIGN_IN,
    "knowledge.search": Need.SIGN_IN,
    "contracts.validate": Need.SIGN_IN,
    "insights.list": Need.SIGN_IN,  # and for these: the leave of the channel of the insights
    "insights.feedback": Need.SIGN_IN,
    "insights.scores": Need.SIGN_IN,
    "insights.retract": Need.SIGN_IN,
    "insights.errors": Need.ADMIN,
    "risk.limits": Need.SIGN_IN,  # and for these: hub.trading.risk.officers
    "risk.set_limits": Need.SIGN_IN,
    "risk.state": Need.SIGN_IN,
    "risk.halt": Need.SIGN_IN,
    "risk.resume": Need.SIGN_IN,
    "risk.waiting": Need.SIGN_IN,
    "risk.approve": Need.SIGN_IN,
    "risk.decline": Need.SIGN_IN,
    "agents.register": Need.SIGN_IN,  # and for these: the leave of the channel of the team, hub.coordination.service
    "agents.heartbeat": Need.SIGN_IN,
    "agents.list": Need.SIGN_IN,
    "agents.status": Need.SIGN_IN,
    "agents.leave": Need.SIGN_IN,
    "agents.pause": Need.SIGN_IN,
    "agents.resume": Need.SIGN_IN,
    "projects.create": Need.SIGN_IN,
    "projects.get": Need.SIGN_IN,
    "projects.list": Need.SIGN_IN,
    "projects.close": Need.SIGN_IN,
    "projects.cancel": Need.SIGN_IN,
    "tasks.create": Need.SIGN_IN,
    "tasks.list": Need.SIGN_IN,
    "tasks.get": Need.SIGN_IN,
    "tasks.assign": Need.SIGN_IN,
    "tasks.claim": Need.SIGN_IN,
    "tasks.progress": Need.SIGN_IN,
    "tasks.block": Need.SIGN_IN,
    "tasks.unblock": Need.SIGN_IN,
    "tasks.submit": Need.SIGN_IN,
    "tasks.pause": Need.SIGN_IN,
    "tasks.resume": Need.SIGN_IN,
    "tasks.cancel": Need.SIGN_IN,
    "tasks.fail": Need.SIGN_IN,
    "tasks.decline": Need.SIGN_IN,
    "tasks.gate": Need.SIGN_IN,
    "tasks.request_input": Need.SIGN_IN,
    "approvals.request": Need.SIGN_IN,
    "approvals.resolve": Need.SIGN_IN,
    "approvals.list": Need.SIGN_IN,
    "approvals.get": Need.SIGN_IN,
    "handoffs.offer": Need.SIGN_IN,
    "handoffs.accept": Need.SIGN_IN,
    "handoffs.decline": Need.SIGN_IN,
    "handoffs.withdraw": Need.SIGN_IN,
    "handoffs.list": Need.SIGN_IN,
    "budgets.reserve": Need.SIGN_IN,
    "budgets.settle": Need.SIGN_IN,
    "budgets.list": Need.SIGN_IN,
    "contracts.announce": Need.SIGN_IN,
    "team.plan": Need.SIGN_IN,
    "team.what_if": Need.SIGN_IN,
    "team.commit": Need.SIGN_IN,
    "team.current": Need.SIGN_IN,
    "team.sync": Need.SIGN_IN,
    "team.next_steps": Need.SIGN_IN,
}

ROUTES: Mapping[str, Need] = {
    "GET /": Need.NOTHING,
    "GET /static": Need.NOTHING,
    "GET /docs": Need.NOTHING,
    "GET /health": Need.NOTHING,
    "GET /ready": Need.NOTHING,
    "GET /metrics": Need.NOTHING,
    "GET /openapi.json": Need.NOTHING,
    "GET /asyncapi.json": Need.NOTHING,
    "GET /demo/token": Need.NOTHING,  # exists in `krin demo` only
    "GET /ws": Need.NOTHING,  # then COMMANDS
    "GET /socket.io": Need.NOTHING,  # likewise
    "GET /{path:path}": Need.NOTHING,  # answers every other WebSocket with 404
    "GET /.well-known/jwks.json": Need.NOTHING,
    "GET /.well-known/oauth-authorization-server": Need.NOTHING,
    "GET /oauth/authorize": Need.NOTHING,  # a page; it asks the person to sign in
    "POST /oauth/authorize": Need.NOTHING,  # checks a sign-in of the person's own by itself
    "POST /oauth/token": Need.NOTHING,
    "POST /oauth/introspect": Need.NOTHING,  # this and the next check the client's credentials by themselves
    "POST /oauth/revoke": Need.NOTHING,
    "POST /v1/auth/login": Need.NOTHING,
    "POST /v1/auth/step-up": Need.SIGN_IN,
    "POST /v1/auth/password": Need.SIGN_IN,
    "GET /v1/auth/mfa": Need.SIGN_IN,
    "POST /v1/auth/mfa/enrol": Need.SIGN_IN,
    "POST /v1/auth/mfa/confirm": Need.SIGN_IN,
    "POST /v1/auth/mfa/recovery-codes": Need.SIGN_IN,
    "POST /v1/auth/mfa/disable": Need.SIGN_IN,
    "POST /v1/auth/logout": Need.SIGN_IN,
    "GET /v1/sessions": Need.SIGN_IN,  # of somebody else: ADMIN
    "DELETE /v1/sessions": Need.SIGN_IN,
    "DELETE /v1/sessions/{id}": Need.SIGN_IN,
    "GET /v1/users": Need.ADMIN,
    "POST /v1/users": Need.ADMIN,
    "PATCH /v1/users/{name:path}": Need.ADMIN,
    "POST /v1/publish": Need.CHANNEL,
    "GET /v1/channels": Need.SIGN_IN,
    "GET /v1/history/{channel:path}": Need.CHANNEL,
    "GET /v1/presence/{channel:path}": Need.CHANNEL,
    "GET /v1/poll/{channel:path}": Need.CHANNEL,
    "GET /sse": Need.CHANNEL,
    "GET /v1/explain": Need.SIGN_IN,  # of others' connections: ADMIN
    "GET /v1/search": Need.CHANNEL,
    "POST /v1/orders": Need.CHANNEL,
    "GET /v1/orders": Need.CHANNEL,
    "DELETE /v1/orders": Need.CHANNEL,
    "POST /v1/orders/validate": Need.CHANNEL,
    "PUT /v1/orders/cancel-all-after": Need.CHANNEL,
    "GET /v1/orders/{client_order_id}": Need.CHANNEL,
    "PATCH /v1/orders/{client_order_id}": Need.CHANNEL,
    "DELETE /v1/orders/{client_order_id}": Need.CHANNEL,
    "POST /mcp": Need.SIGN_IN,  # and for these: what COMMANDS and METHODS say
    "POST /a2a": Need.SIGN_IN,
    "GET /ag-ui/{project_id:path}": Need.CHANNEL,
    "POST /ag-ui/{project_id:path}": Need.CHANNEL,
    "GET /.well-known/agent-card.json": Need.NOTHING,
    "GET /.well-known/oauth-protected-resource/mcp": Need.NOTHING,
    "GET /v1/audit": Need.ADMIN,
    "GET /v1/risk/limits": Need.SIGN_IN,  # and what the method of that name needs
    "PUT /v1/risk/limits": Need.SIGN_IN,
    "GET /v1/risk/state": Need.SIGN_IN,
    "POST /v1/risk/halt": Need.SIGN_IN,
    "POST /v1/risk/resume": Need.SIGN_IN,
    "POST /v1/risk/approve": Need.SIGN_IN,
    "POST /v1/risk/decline": Need.SIGN_IN,
    "GET /v1/knowledge": Need.SIGN_IN,  # and what the method of that name needs
    "POST /v1/knowledge": Need.SIGN_IN,
    "GET /v1/knowledge/{entry_id}": Need.SIGN_IN,
    "POST /v1/contracts/validate": Need.SIGN_IN,
    "GET /v1/insights": Need.SIGN_IN,  # likewise
    "GET /v1/insights/scores": Need.SIGN_IN,
    "POST /v1/insights/{insight_id}/feedback": Need.SIGN_IN,
    "POST /v1/insights/{insight_id}/retraction": Need.SIGN_IN,
    "GET /v1/projects": Need.SIGN_IN,
    "POST /v1/projects": Need.SIGN_IN,
    "GET /v1/projects/{project_id}": Need.SIGN_IN,
    "POST /v1/projects/{project_id}/close": Need.SIGN_IN,
    "POST /v1/projects/{project_id}/cancel": Need.SIGN_IN,
    "GET /v1/projects/{project_id}/tasks": Need.SIGN_IN,
    "POST /v1/projects/{project_id}/tasks": Need.SIGN_IN,
    "GET /v1/projects/{project_id}/tasks/{task_id}": Need.SIGN_IN,
    "GET /v1/projects/{project_id}/plan": Need.SIGN_IN,
    "POST /v1/projects/{project_id}/plan": Need.SIGN_IN,
    "GET /v1/agents": Need.SIGN_IN,
    "GET /v1/screens/{screen}": Need.SIGN_IN,  # and what the method of each part needs
    "GET /v1/approvals": Need.SIGN_IN,
    "POST /v1/approvals/{approval_id}": Need.SIGN_IN,
    "GET /v1/webhooks": Need.SIGN_IN,  # the caller's own, for these; others': admin
    "POST /v1/webhooks": Need.SIGN_IN,
    "GET /v1/webhooks/{id}": Need.SIGN_IN,
    "PATCH /v1/webhooks/{id}": Need.SIGN_IN,
    "DELETE /v1/webhooks/{id}": Need.SIGN_IN,
    "POST /v1/webhooks/{id}/secret": Need.SIGN_IN,
    "POST /v1/webhooks/{id}/test": Need.SIGN_IN,
    "GET /v1/webhooks/{id}/deliveries": Need.SIGN_IN,
    "GET /v1/privacy/export": Need.SIGN_IN,  # of others: ADMIN
    "POST /v1/privacy/erase": Need.SIGN_IN,  # others: ADMIN
    "POST /v1/privacy/restrict": Need.SIGN_IN,  # the same for these
    "POST /v1/privacy/release": Need.SIGN_IN,
    "POST /v1/privacy/correct": Need.SIGN_IN,
    "GET /v1/privacy/consents": Need.SIGN_IN,
    "PUT /v1/privacy/consents/{purpose}": Need.SIGN_IN,
}

ANY_AGE = math.inf
RECENT_S = 300
SECOND_FACTOR: Mapping[str, float] = {
    "POST /v1/auth/mfa/recovery-codes": RECENT_S,
    "POST /v1/auth/mfa/disable": RECENT_S,
    "GET /v1/privacy/export": RECENT_S,
    "POST /v1/privacy/erase": RECENT_S,
    "POST /v1/privacy/restrict": RECENT_S,
    "POST /v1/privacy/release": RECENT_S,
    "POST /v1/privacy/correct": RECENT_S,
    "risk.set_limits": ANY_AGE,  # what loosens needs two factors; what stops trading must not wait for one
    "risk.resume": ANY_AGE,
    "risk.approve": ANY_AGE,
}
"""Methods and routes that a password alone does not open, and how old the proof may be, in seconds. What needs ADMIN is
always among them."""


class Ungoverned(Exception):
    """Handlers that no table mentions; the text names them, for the terminal."""


class Permissions:
    """The tables at work."""

    def __init__(
        self,
        *,
        report: Report,
        signal: Report,
        clock: Clock,
        commands: Mapping[type, Need] = COMMANDS,
        methods: Mapping[str, Need] = METHODS,
        routes: Mapping[str, Need] = ROUTES,
        second_factor: Mapping[str, float] = SECOND_FACTOR,
    ) -> None:
        """`signal` hears of every use of an administrator's right."""
        self._report = report
        self._signal = signal
        self._clock = clock
        self._commands = commands
        self._methods = methods
        self._routes = routes
        self._second_factor = second_factor

    def govern(self, commands: Collection[type], methods: Collection[str]) -> None:
        """Raises Ungoverned if one of these has no entry."""
        missing = [kind.__name__ for kind in commands if kind not in self._commands]
        _complain([*missing, *(method for method in methods if method not in self._methods)])

    def govern_routes(self, names: Iterable[str]) -> None:
        """Routes as `METHOD /path`. Raises Ungoverned if one of these has no entry."""
        _complain([name for name in names if name not in self._routes])

    def of_route(self, name: str) -> Need:
        """Raises Ungoverned."""
        self.govern_routes([name])
        return self._routes[name]

    def require_method(self, method: str, caller: Caller) -> None:
        """Raises HubError(permission_denied, mfa_required)."""
        self.require(self._methods[method], caller, target=method)

    def require(self, need: Need, caller: Caller, *, target: str) -> None:
        """For a caller whose token is valid. Raises HubError(permission_denied, mfa_required)."""
        try:
            if need is Need.ADMIN and "admin" not in caller.roles:
                raise HubError(ErrorCode.PERMISSION_DENIED, "this needs the role admin")
            max_age_s = self._second_factor.get(target, ANY_AGE if need is Need.ADMIN else None)
            if max_age_s is not None:
                require_two_factors(caller, now_s=self._clock.now_ms() // 1000, max_age_s=max_age_s)
        except HubError:
            self._report(not_permitted(caller, target))
            raise
        if need is Need.ADMIN:
            self._signal(SecurityEvent(name="authz_admin", user=caller.user, address=caller.address, target=target))


def _complain(missing: list[str]) -> None:
    if missing:
        raise Ungoverned(f"nobody has decided who may use {', '.join(missing)}: see hub/permissions.py")
