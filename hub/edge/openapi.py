"""`/openapi.json`, made from the structs the routes decode and encode."""

from __future__ import annotations

import functools
from types import NoneType
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta

from hub import __version__
from hub.auth.accounts import Confirmed
from hub.auth.administration import Account, NewUser, UserChanges
from hub.auth.multi_factor import MfaStatus
from hub.auth.service import TokenPair
from hub.auth.sign_ins import Session
from hub.edge.accounts import (
    ConfirmBody,
    Done,
    EnrolBody,
    Enrolment,
    LoginBody,
    PasswordBody,
    RecoveryCodes,
    StepUpBody,
)
from hub.edge.administration import UserPage
from hub.edge.coordination import EndBody, ResolveBody, TasksBody
from hub.edge.insights import FeedbackBody, RetractionBody
from hub.edge.orders import ReplaceBody
from hub.edge.privacy import ConsentBody, CorrectBody, EraseBody, LogPage, RestrictBody
from hub.edge.rest import PublishBody
from hub.edge.schemas import REFERENCE, schemas_of
from hub.edge.screens import SCREENS, Screen
from hub.edge.sse import MAX_CHANNELS, MAX_WAIT_MS
from hub.edge.webhooks import DeliveryPage
from hub.guard.security_audit import SecurityAudit
from hub.privacy.service import Restriction
from hub.webhooks.service import NewWebhook, Tried, WebhookChanges, WebhookView
from protocol.approvals import ApprovalList, ApprovalResult, ApprovalsFound
from protocol.contracts import ContractExpectation, ContractReport
from protocol.coordination import ProjectConfig
from protocol.fields import ChannelName, ChannelPart, Name
from protocol.insights import Insight, InsightId, InsightList, InsightRetracted, InsightScore, InsightScores
from protocol.knowledge import EntryId, KnowledgeAdd, KnowledgeEntry, KnowledgeSearch
from protocol.messages import (
    ErrorBody,
    Explain,
    ExplainResult,
    History,
    HistoryResult,
    PresenceResult,
    Published,
    Search,
    SearchResult,
    SubscribeResult,
)
from protocol.planning import TeamCommitted, TeamPlanned
from protocol.risk import (
    ApprovalAnswer,
    ApprovalState,
    Halt,
    LimitsInForce,
    LimitsOf,
    Resume,
    RiskState,
    SetLimits,
    StateChanged,
)
from protocol.team import (
    AgentList,
    AgentPage,
    ProjectAnswer,
    ProjectCreated,
    ProjectList,
    ProjectPage,
    TaskDetail,
    TaskList,
    TaskPage,
)
from protocol.trading import (
    CancelAllAfter,
    Canceled,
    ClientOrderId,
    ExecutionReport,
    OrderCancelAll,
    OrderList,
    OrderSubmit,
    RiskDecision,
    SwitchState,
)
from storage.consents import Purpose
from storage.privacy import Erasure
from storage.webhooks import Delivery


@functools.cache
def describe() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the REST surface."""
    kinds = [
        *(LoginBody, StepUpBody, PasswordBody, EnrolBody, ConfirmBody, PublishBody),
        *(TokenPair, MfaStatus, Enrolment, Confirmed, RecoveryCodes, Done),
        *(Published, HistoryResult, PresenceResult, SubscribeResult, ExplainResult, SearchResult),
        *(ErrorBody, SecurityAudit),
        *(Account, NewUser, UserChanges, Session),
        *(NewWebhook, WebhookChanges, WebhookView, Tried, Delivery),
        *(EraseBody, RestrictBody, CorrectBody, ConsentBody, Erasure, Restriction),
        *(OrderSubmit, ReplaceBody, CancelAllAfter, ExecutionReport, RiskDecision, Canceled, SwitchState),
        *(KnowledgeAdd, KnowledgeEntry, ContractExpectation, ContractReport),
        *(Insight, InsightRetracted, InsightScore, FeedbackBody, RetractionBody),
        *(
            ProjectConfig,
            ProjectCreated,
            ProjectAnswer,
            ProjectPage,
            EndBody,
            TasksBody,
            TaskPage,
            TaskDetail,
            AgentPage,
        ),
        *(Screen, TeamPlanned, TeamCommitted, ApprovalsFound, ResolveBody, ApprovalResult),
        *(SetLimits, LimitsInForce, RiskState, Halt, Resume, StateChanged, ApprovalAnswer, ApprovalState),
    ]
    _, components = schemas_of(kinds)
    channel = _path("channel", ChannelName)
    order, account = _path("client_order_id", ClientOrderId), _query("account", Name, "default: the caller's")
    project = _path("project_id", ChannelPart)
    insight = _path("insight_id", InsightId)
    page = _queries(UserPage, after="the last name of the page before", limit="")
    search = _queries(Search, query="", channel="only there", mode="", limit="")
    subject = _queries(InsightScores, subject="")
    whose = _query("user", Name, "somebody else, for administrators")
    history = [
        channel,
        _query("since", str, "an offset, or epoch:offset"),
        *_queries(History, limit="", reverse="newest first"),
    ]
    rewind = _query("rewind", str, "start with that many newest messages, or with those as old as 30s")
    wait = Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)]
    poll = [channel, _query("since", str, "epoch:offset"), _query("wait_ms", wait, "milliseconds"), rewind]
    sse = [_query("channels", str, f"1 to {MAX_CHANNELS}, with commas between", required=True), rewind]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Krin", "version": __version__},
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "security": [{"bearer": []}],
        "paths": {
            "/v1/auth/login": {"post": _operation("Sign in", "TokenPair", body="LoginBody", public=True)},
            "/v1/auth/step-up": {
                "post": _operation("A second factor for a session that has one", "TokenPair", body="StepUpBody")
            },
            "/v1/auth/password": {"post": _operation("Another password", "Done", body="PasswordBody")},
            "/v1/auth/mfa": {"get": _operation("The second factor of the caller", "MfaStatus")},
            "/v1/auth/mfa/enrol": {"post": _operation("Begin with an app", "Enrolment", body="EnrolBody")},
            "/v1/auth/mfa/confirm": {"post": _operation("The first code of the app", "Confirmed", body="ConfirmBody")},
            "/v1/auth/mfa/recovery-codes": {"post": _operation("New recovery codes", "RecoveryCodes")},
            "/v1/auth/mfa/disable": {"post": _operation("Do without a second factor", "Done")},
            "/v1/auth/logout": {"post": _operation("Sign out: end what the token descends from", "Done")},
            "/v1/sessions": {
                "get": _operation("Sign-ins and open sockets on every node", "Session", many=True, parameters=[whose]),
                "delete": _operation("End all of them but the one that asks", "Done", parameters=[whose]),
            },
            "/v1/sessions/{id}": {"delete": _operation("End one", "Done", parameters=[_path("id"), whose])},
            "/v1/users": {
                "get": _operation("Users by name", "Account", many=True, parameters=page),
                "post": _operation("Add a user", "Account", body="NewUser"),
            },
            "/v1/users/{name}": {
                "patch": _operation(
                    "Change roles, teams and grants, or disable: at once and everywhere",
                    "Account",
                    body="UserChanges",
                    parameters=[_path("name")],
                )
            },
            "/v1/publish": {"post": _operation("Publish a message", "Published", body="PublishBody")},
            "/v1/channels": {"get": _operation("Channels the caller may read", {"type": "string"}, many=True)},
            "/v1/history/{channel}": {"get": _operation("Messages of a channel", "HistoryResult", parameters=history)},
            "/v1/presence/{channel}": {"get": _operation("Who is there", "PresenceResult", parameters=[channel])},
            "/v1/poll/{channel}": {
                "get": _operation("The next messages of a channel", "SubscribeResult", parameters=poll)
            },
            "/sse": {"get": _events("Channels as server-sent events", *sse)},
            "/v1/explain": {
                "get": _operation(
                    "What became of a message for the caller's connections",
                    "ExplainResult",
                    parameters=_queries(
                        Explain,
                        channel="where it was published",
                        offset="its place",
                        client="of one connection; of somebody else's: admin",
                    ),
                )
            },
            "/v1/search": {
                "get": _operation("What the caller may read, by words and meaning", "SearchResult", parameters=search)
            },
            "/oauth/token": {"post": _form("A token for a grant (RFC 6749)", {"$ref": REFERENCE + "TokenPair"})},
            "/oauth/introspect": {"post": _form("What a token is worth (RFC 7662)", {"type": "object"})},
            "/oauth/revoke": {"post": _form("End a token (RFC 7009)", {"type": "object"})},
            "/oauth/authorize": {
                "get": _public("The page on which a person allows an application (RFC 6749 section 4.1)"),
                "post": _form("The page's answer; wants the person's bearer token", {"type": "object"}),
            },
            "/.well-known/oauth-authorization-server": {"get": _public("What the endpoints can do (RFC 8414)")},
            "/v1/audit": {
                "get": _operation(
                    "The audit log, the newest rows first (admin)",
                    {"type": "object"},
                    many=True,
                    parameters=_queries(LogPage, before="a row's sequence number", limit=""),
                )
            },
            "/v1/orders": {
                "post": _operation("Place an order", "ExecutionReport", body="OrderSubmit"),
                "get": _operation(
                    "An account's orders, the newest first",
                    "ExecutionReport",
                    many=True,
                    parameters=[
                        account,
                        *_queries(
                            OrderList,
                            open="only those that may still trade",
                            symbol="of one symbol",
                            before="`meta.paging.next` of the page before",
                            limit="",
                        ),
                    ],
                ),
                "delete": _operation(
                    "Cancel every open order that fits",
                    "Canceled",
                    parameters=[
                        account,
                        *_queries(OrderCancelAll, symbol="of one symbol", side="", strategy_id="of one strategy"),
                    ],
                ),
            },
            "/v1/orders/validate": {
                "post": _operation("What the risk checks would say", "RiskDecision", body="OrderSubmit")
            },
            "/v1/orders/cancel-all-after": {
                "put": _operation("The dead man's switch", "SwitchState", body="CancelAllAfter")
            },
            "/v1/orders/{client_order_id}": {
                "get": _operation("How an order stands", "ExecutionReport", parameters=[order, account]),
                "patch": _operation(
                    "Change an order", "ExecutionReport", body="ReplaceBody", parameters=[order, account]
                ),
                "delete": _operation("Cancel an order", "ExecutionReport", parameters=[order, account]),
            },
            "/v1/risk/limits": {
                "get": _operation(
                    "The risk limits in force",
                    "LimitsInForce",
                    parameters=_queries(
                        LimitsOf, account="whose orders", strategy_id="of a strategy", symbol="in a symbol"
                    ),
                ),
                "put": _operation("What a scope says of the limits", "LimitsInForce", body="SetLimits"),
            },
            "/v1/risk/state": {"get": _operation("What is not active", "RiskState")},
            "/v1/risk/halt": {"post": _operation("The kill switch", "StateChanged", body="Halt")},
            "/v1/risk/resume": {"post": _operation("Trading goes on", "StateChanged", body="Resume")},
            "/v1/risk/approve": {
                "post": _operation("Let an order pass above a limit", "ApprovalState", body="ApprovalAnswer")
            },
            "/v1/risk/decline": {
                "post": _operation("Deny an order that waits for approval", "ApprovalState", body="ApprovalAnswer")
            },
            "/v1/knowledge": {
                "get": _operation(
                    "What the teams have learned, the best match first",
                    "KnowledgeEntry",
                    many=True,
                    parameters=_queries(
                        KnowledgeSearch,
                        query="words, as in a web search; without: the newest",
                        kind="",
                        project_id="of one project",
                        limit="",
                    ),
                ),
                "post": _operation("Add an entry", "KnowledgeEntry", body="KnowledgeAdd"),
            },
            "/v1/knowledge/{entry_id}": {
                "get": _operation("One entry", "KnowledgeEntry", parameters=[_path("entry_id", EntryId)])
            },
            "/v1/insights": {
                "get": _operation(
                    "What was noticed in a channel, the newest first",
                    "Insight",
                    many=True,
                    parameters=_queries(
                        InsightList,
                        subject="",
                        kind="only of this kind",
                        before="`generated_at` of the last one of the page before",
                        limit="",
                    ),
                )
            },
            "/v1/insights/scores": {
                "get": _operation(
                    "How well each source of insights does", "InsightScore", many=True, parameters=subject
                )
            },
            "/v1/insights/{insight_id}/feedback": {
                "post": _operation(
                    "What the caller thinks of an insight, and how it turned out",
                    "InsightScore",
                    many=True,
                    body="FeedbackBody",
                    parameters=[insight],
                )
            },
            "/v1/insights/{insight_id}/retraction": {
                "post": _operation(
                    "Take an insight back", "InsightRetracted", body="RetractionBody", parameters=[insight]
                )
            },
            "/v1/contracts/validate": {
                "post": _operation(
                    "Where a front end's expectations and the hub differ", "ContractReport", body="ContractExpectation"
                )
            },
            "/v1/projects": {
                "get": _operation(
                    "Projects that the caller may read",
                    "ProjectPage",
                    parameters=_queries(ProjectList, state="", before="the last name of the page before", limit=""),
                ),
                "post": _operation("Begin a project", "ProjectCreated", body="ProjectConfig"),
            },
            "/v1/projects/{project_id}": {
                "get": _operation("A project, and its tasks by state", "ProjectAnswer", parameters=[project])
            },
            **{
                f"/v1/projects/{{project_id}}/{verb}": {
                    "post": _operation(summary, "ProjectAnswer", body="EndBody", optional=True, parameters=[project])
                }
                for verb, summary in (
                    ("close", "End a project whose tasks have ended"),
                    ("cancel", "End a project, and the tasks that have not"),
                )
            },
            "/v1/projects/{project_id}/tasks": {
                "get": _operation(
                    "Tasks by name",
                    "TaskPage",
                    parameters=[
                        project,
                        *_queries(
                            TaskList,
                            state="only those in this state",
                            specialist_id="only those of this specialist",
                            after="the last name of the page before",
                            limit="",
                        ),
                    ],
                ),
                "post": _operation("Add tasks", "TaskPage", body="TasksBody", parameters=[project]),
            },
            "/v1/projects/{project_id}/tasks/{task_id}": {
                "get": _operation("One task", "TaskDetail", parameters=[project, _path("task_id", Name)])
            },
            "/v1/projects/{project_id}/plan": {
                "get": _operation("The plan in force, or else the last one", "TeamCommitted", parameters=[project]),
                "post": _operation("A plan, and what a greedy one comes to", "TeamPlanned", parameters=[project]),
            },
            "/v1/agents": {
                "get": _operation(
                    "Specialists and how they are",
                    "AgentPage",
                    parameters=_queries(AgentList, team="only of this team"),
                )
            },
            "/v1/screens/{screen}": {
                "get": _operation(
                    "What a screen of a front end begins with: orders, team or operate",
                    "Screen",
                    parameters=[
                        {**_path("screen"), "schema": {"enum": list(SCREENS)}},
                        account,
                        _query("project_id", ChannelPart, "team: which project"),
                        _query("team", ChannelPart, "team: whose specialists; default: all that the caller may see"),
                    ],
                )
            },
            "/v1/approvals": {
                "get": _operation(
                    "What the caller may answer, or has asked for",
                    "ApprovalsFound",
                    parameters=_queries(ApprovalList, state="only those in this state"),
                )
            },
            "/v1/approvals/{approval_id}": {
                "post": _operation(
                    "Answer a question", "ApprovalResult", body="ResolveBody", parameters=[_path("approval_id", Name)]
                )
            },
            "/v1/privacy/export": {
                "get": {
                    "summary": "Everything about a person, as one JSON document and not in the envelope",
                    "parameters": [_query("person", Name, "admin: anybody; default: the caller")],
                    "responses": {
                        "200": {"description": "the document", "content": _json({"type": "object"})},
                        "default": {"description": "`meta.error` says what is wrong"},
                    },
                }
            },
            "/v1/privacy/erase": {"post": _operation("Erase a person", "Erasure", body="EraseBody")},
            "/v1/privacy/restrict": {
                "post": _operation("Keep a person's data out of everybody's sight", "Restriction", body="RestrictBody")
            },
            "/v1/privacy/release": {"post": _operation("End a restriction", {"type": "object"}, body="RestrictBody")},
            "/v1/privacy/correct": {
                "post": _operation("Correct a durable message of a person", {"type": "object"}, body="CorrectBody")
            },
            "/v1/privacy/consents": {
                "get": _operation("The caller's newest answer for each purpose", {"type": "object"}, many=True)
            },
            "/v1/privacy/consents/{purpose}": {
                "put": _operation(
                    "Agree, or withdraw",
                    {"type": "object"},
                    many=True,
                    body="ConsentBody",
                    parameters=[_path("purpose", Purpose)],
                )
            },
            "/v1/webhooks": {
                "get": _operation("The caller's webhooks; for an administrator everybody's", "WebhookView", many=True),
                "post": _operation("Be told what is published from now on", "WebhookView", body="NewWebhook"),
            },
            "/v1/webhooks/{id}": {
                "get": _operation("A webhook", "WebhookView", parameters=[_path("id")]),
                "patch": _operation(
                    "Change, disable or enable a webhook",
                    "WebhookView",
                    body="WebhookChanges",
                    parameters=[_path("id")],
                ),
                "delete": _operation("Remove a webhook", "Done", parameters=[_path("id")]),
            },
            "/v1/webhooks/{id}/secret": {
                "post": _operation(
                    "Another secret; the old one signs for a day", "WebhookView", parameters=[_path("id")]
                )
            },
            "/v1/webhooks/{id}/test": {
                "post": _operation("Send a message of no channel, once", "Tried", parameters=[_path("id")])
            },
            "/v1/webhooks/{id}/deliveries": {
                "get": _operation(
                    "What was sent, the newest first",
                    "Delivery",
                    many=True,
                    parameters=[_path("id"), *_queries(DeliveryPage, limit="")],
                )
            },
            "/mcp": {
                "post": _other("The Model Context Protocol (2026-07-28 and before), where the extra `mcp` is installed")
            },
            "/.well-known/oauth-protected-resource/mcp": {
                "get": _public("Where a client of `/mcp` gets a token (RFC 9728)")
            },
            "/a2a": {"post": _other("Agent2Agent 1.0, over JSON-RPC")},
            "/.well-known/agent-card.json": {"get": _public("The hub's agent card (A2A 1.0)")},
            "/ag-ui/{project_id}": {
                "get": _events("A project as events of AG-UI 1.0", _path("project_id", ChannelPart)),
                "post": _other("The same, for a RunAgentInput", _path("project_id", ChannelPart)),
            },
            "/.well-known/jwks.json": {"get": _public("The public keys of access tokens (RFC 7517)")},
            "/health": {"get": _public("What works and what does not")},
            "/docs": {"get": _public("This document and that of the WebSocket, as a page to try them")},
            "/asyncapi.json": {"get": _public("The WebSocket's messages, as AsyncAPI 3.0")},
            "/ready": {"get": _public("200 while this node takes connections")},
            "/metrics": {"get": _public("Prometheus metrics")},
        },
    }


def _operation(
    summary: str,
    result: str | dict[str, Any],
    *,
    many: bool = False,
    body: str | None = None,
    optional: bool = False,
    parameters: list[dict[str, Any]] | None = None,
    public: bool = False,
) -> dict[str, Any]:
    data = {"$ref": REFERENCE + result} if isinstance(result, str) else result
    if many:
        data = {"type": "array", "items": data}
    envelope = {
        "type": "object",
        "required": ["data", "meta", "ai_insights", "performance_metrics", "security_audit"],
        "properties": {
            "data": {"anyOf": [data, {"type": "null"}]},
            "meta": {"type": "object"},
            "ai_insights": {"type": ["object", "null"]},
            "performance_metrics": {"type": "object"},
            "security_audit": {"$ref": REFERENCE + "SecurityAudit"},
        },
    }
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": "done", "content": _json(envelope)},
            "default": {"description": "`meta.error` says what is wrong", "content": _json(envelope)},
        },
    }
    if body:
        operation["requestBody"] = {"required": not optional, "content": _json({"$ref": REFERENCE + body})}
    if parameters:
        operation["parameters"] = parameters
    if public:
        operation["security"] = []
    return operation


def _form(summary: str, result: dict[str, Any]) -> dict[str, Any]:
    """OAuth's own form, in and out."""
    return {
        "summary": summary,
        "security": [],
        "requestBody": {
            "content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}},
            "required": True,
        },
        "responses": {
            "200": {"description": "done", "content": _json(result)},
            "400": {"description": "`error` is one of RFC 6749 section 5.2"},
            "401": {"description": "invalid_client"},
        },
    }


def _public(summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": [],
        "responses": {"200": {"description": "done"}, "default": {"description": "what is wrong"}},
    }


def _events(summary: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": list(parameters),
        "responses": {
            "200": {"description": "events, while there are any", "content": {"text/event-stream": {}}},
            "default": {"description": "what is wrong"},
        },
    }


def _other(summary: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    """JSON of a protocol with a specification of its own."""
    return {
        "summary": summary,
        "parameters": list(parameters),
        "requestBody": {"required": True, "content": _json({"type": "object"})},
        "responses": {"200": {"description": "done"}, "default": {"description": "what is wrong"}},
    }


def _path(name: str, kind: Any = str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _schema_of(kind)}


def _query(name: str, kind: Any, text: str, *, required: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "in": "query", "schema": _schema_of(kind)}
    return found | ({"description": text} if text else {}) | ({"required": True} if required else {})


def _queries(struct: type[msgspec.Struct], **texts: str) -> list[dict[str, Any]]:
    """Fields of the struct that the query is read into, in words where their types do not say it all."""
    fields = {each.encode_name: each for each in msgspec.structs.fields(struct)}
    return [_query(name, fields[name].type, text, required=fields[name].required) for name, text in texts.items()]


def _schema_of(kind: Any) -> dict[str, Any]:
    """Of what an address can hold, which has no null."""
    options = get_args(kind)
    given = next(each for each in options if each is not NoneType) if NoneType in options else kind
    [schema], _ = schemas_of([given])
    return schema


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
