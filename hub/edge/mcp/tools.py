"""The tools and resources, and what each asks the hub for: nothing that its caller could not do at another door.

The vocabulary is a model's: times are spans, because models do not know the hour, and whoever works says so with each
call, because between calls nobody beats for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta

from hub.dispatch import convert
from protocol.coordination import Specialist
from protocol.errors import ErrorCode, HubError
from protocol.fields import ChannelName, Name, Symbol, Text
from protocol.messages import Call, Command, History, Search
from protocol.team import AgentList, ProjectName, TaskBlock, TaskClaim, TaskHold, TaskProgress, TaskSubmit
from protocol.trading import OrderSubmit

QUOTES = "prices:"
Seconds = Annotated[int, Meta(ge=10, le=30 * 24 * 3600, description="seconds from now")]


class _Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a tool takes."""


class Offer(TaskHold, frozen=True, kw_only=True):
    """To one specialist, or to whoever has the skill and takes it first."""

    to_specialist: Name | None = None
    to_skill: Name | None = None
    reason: Text = ""
    summary: Text = ""
    expires_in_s: Seconds = 3600


class Ask(_Arguments, frozen=True):
    """`response_schema` is for the payload of an approval. Without an answer in time it counts as declined."""

    subject: Text
    approver_roles: Annotated[list[Name], Meta(min_length=1, max_length=16)]
    reason: Literal["TOOL_CALL", "INPUT_REQUIRED", "CONFIRMATION"] = "CONFIRMATION"
    quorum: Annotated[int, Meta(ge=1, le=10)] = 1
    project_id: Name | None = None
    task_id: Name | None = None
    response_schema: dict[str, Any] | None = None
    expires_in_s: Seconds = 3600


class Asked(_Arguments, frozen=True):
    approval_id: Name


class Quote(_Arguments, frozen=True):
    symbol: Symbol


class Look(_Arguments, frozen=True):
    """`query` searches, in one channel or in all that may be read; without it, the newest of `channel` come first."""

    query: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    channel: ChannelName | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 10


Commands = Callable[[Any, int], Sequence[Command]]
"""(arguments, now in microseconds) -> what is asked for, one after the other; the last answer is the tool's."""


class Tool(msgspec.Struct, frozen=True):
    description: str
    arguments: type
    commands: Commands
    reads: bool = False

    def asks(self, arguments: Mapping[str, Any], now_us: int) -> Sequence[Command]:
        """Raises HubError(schema_invalid, bad_request)."""
        return self.commands(convert(arguments, self.arguments), now_us)

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the arguments, an object at its top as MCP wants it."""
        (top,), kinds = msgspec.json.schema_components([self.arguments], ref_template="#/$defs/{name}")
        schema = kinds.pop(top["$ref"].rpartition("/")[2])
        return {**schema, **({"$defs": kinds} if kinds else {})}


def _call(method: str, params: Any) -> Call:
    return Call(id=1, method=method, params=msgspec.to_builtins(params))


def _method(method: str, *, holds: str | None = None) -> Commands:
    """A tool that is one method with the same parameters; they are its field `holds`, if that is given."""
    return lambda asked, now_us: [_call(method, asked if holds is None else {holds: msgspec.to_builtins(asked)})]


def _at_work(method: str) -> Commands:
    """A method of somebody who has a task: they are there, and go on having it."""

    def commands(asked: Any, now_us: int) -> Sequence[Command]:
        params = _until(asked, now_us)
        claim = {name: params[name] for name in ("project_id", "task_id", "fence")}
        beat = {"specialist_id": asked.specialist_id, "claims": [claim]}
        return [_call("agents.heartbeat", beat), _call(method, params)]

    return commands


def _claim(asked: TaskClaim, now_us: int) -> Sequence[Command]:
    beat = {"specialist_id": asked.specialist_id, "claims": []}
    return [_call("agents.heartbeat", beat), _call("tasks.claim", asked)]


def _ask(asked: Ask, now_us: int) -> Sequence[Command]:
    return [_call("approvals.request", _until(asked, now_us))]


def _until(asked: Any, now_us: int) -> dict[str, Any]:
    """Parameters as the methods have them, with the moment in place of the span."""
    params: dict[str, Any] = msgspec.to_builtins(asked)
    if hasattr(asked, "expires_in_s"):
        params.pop("expires_in_s", None)
        params["expires_at"] = now_us + asked.expires_in_s * 1_000_000
    return params


def _quote(asked: Quote, now_us: int) -> Sequence[Command]:
    return [History(id=1, channel=f"{QUOTES}{asked.symbol}", limit=1, reverse=True)]


def _look(asked: Look, now_us: int) -> Sequence[Command]:
    if asked.query is not None:
        return [Search(id=1, query=asked.query, channel=asked.channel, limit=asked.limit)]
    if asked.channel is None:
        raise HubError(ErrorCode.BAD_REQUEST, "say what to search for, or which channel to read", path="$.params")
    return [History(id=1, channel=asked.channel, limit=asked.limit, reverse=True)]


TOOLS: Mapping[str, Tool] = {
    "register_specialist": Tool(
        "Join a team as a specialist, or change what is known of you. A heartbeat_s of 300 gives you 15 minutes "
        "between two calls before your tasks go to somebody else.",
        Specialist,
        _method("agents.register", holds="specialist"),
    ),
    "list_specialists": Tool(
        "Who is in a team: skills, what each is doing, and whether they get anywhere.",
        AgentList,
        _method("agents.list"),
        True,
    ),
    "get_plan": Tool(
        "The plan that a project follows, or the one proposed last: who does what and when, the critical path, and "
        "what is not assigned and why.",
        ProjectName,
        _method("team.current"),
        True,
    ),
    "claim_task": Tool(
        "Take a task: the one you name, or the best for you. The answer has its specification and the fence that later "
        "calls need; no task means that there is none for you now.",
        TaskClaim,
        _claim,
    ),
    "post_update": Tool(
        "Say how far a task is. Do it before your heartbeats run out, or the task is given to somebody else.",
        TaskProgress,
        _at_work("tasks.progress"),
    ),
    "complete_task": Tool(
        "Hand in the result of a task. It is completed, reviewed first, or comes back to you with what is missing.",
        TaskSubmit,
        _at_work("tasks.submit"),
    ),
    "report_blocker": Tool("Say what a task has to wait for.", TaskBlock, _at_work("tasks.block")),
    "hand_off": Tool(
        "Offer a task of yours to somebody else. It stays yours until they accept.", Offer, _at_work("handoffs.offer")
    ),
    "request_approval": Tool(
        "Ask people of some roles for a decision. Returns at once; get_approval says how it stands.", Ask, _ask
    ),
    "get_approval": Tool(
        "How a request for approval stands, and what was answered.", Asked, _method("approvals.get"), True
    ),
    "search_history": Tool("Search what was published, or read the newest messages of a channel.", Look, _look, True),
    "get_quote": Tool("The newest price of a symbol, such as BTC-USD.", Quote, _quote, True),
    "validate_order": Tool(
        "What the risk checks would say to an order. Nothing is placed.", OrderSubmit, _method("orders.validate"), True
    ),
    "submit_order": Tool(
        "Place an order. Above a limit it waits for a person's approval. The same client_order_id never trades twice.",
        OrderSubmit,
        _method("orders.submit"),
    ),
}


class Resource(msgspec.Struct, frozen=True):
    """`asks` makes what is asked for of the parts of the address, as many as its template has."""

    name: str
    description: str
    asks: Callable[..., Sequence[Command]]


RESOURCES: Mapping[str, Resource] = {
    "hub://team/{id}": Resource("team", "A team's specialists", lambda id: [_call("agents.list", {"team": id})]),
    "hub://task/{project}/{id}": Resource(
        "task",
        "A task: its state, specification and results",
        lambda project, id: [_call("tasks.get", {"project_id": project, "task_id": id})],
    ),
    "hub://quote/{symbol}": Resource(
        "quote", "The newest price", lambda symbol: _quote(convert({"symbol": symbol}, Quote), 0)
    ),
}


def resource(uri: str) -> Sequence[Command]:
    """What a resource's address asks for. Raises HubError(not_found, schema_invalid)."""
    address = urlsplit(uri)
    parts = [unquote(part) for part in address.path.split("/")[1:]]
    for template, found in RESOURCES.items():
        if (
            address.scheme == "hub"
            and urlsplit(template).netloc == address.netloc
            and len(parts) == template.count("{")
        ):
            return found.asks(*parts)
    raise HubError(ErrorCode.NOT_FOUND, "no such resource")
