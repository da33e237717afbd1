"""What goes over the wire, and how the hub's tasks look there. Pure.

JSON as ProtoJSON has it: camelCase, enumerations by their names, times by RFC 3339. A task's id is `project/task`, each
half percent-encoded; its context is the project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

import msgspec
from msgspec import Meta

from hub.edge.a2a.errors import A2AError, Fault
from protocol.coordination import TaskSpec
from protocol.fields import Name

STATES = ("SUBMITTED", "WORKING", "INPUT_REQUIRED", "AUTH_REQUIRED", "COMPLETED", "CANCELED", "FAILED", "REJECTED")
TERMINAL = frozenset({"COMPLETED", "CANCELED", "FAILED", "REJECTED"})
INTERRUPTED = frozenset({"INPUT_REQUIRED", "AUTH_REQUIRED"})
STATE_PREFIX = "TASK_STATE_"
MAX_TITLE = 200
PAGE = 50
MAX_PAGE = 100

WireId = Annotated[str, Meta(min_length=1, max_length=1024)]


class _Wire(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What is not named here is not needed here."""


class Part(_Wire, frozen=True):
    text: str | None = None
    raw: str | None = None
    url: str | None = None
    data: Any = msgspec.UNSET
    media_type: str = ""


class Message(_Wire, frozen=True):
    message_id: Name
    parts: Annotated[list[Part], Meta(min_length=1, max_length=32)]
    role: Literal["ROLE_USER", "ROLE_AGENT"] = "ROLE_USER"
    context_id: str = ""
    task_id: str = ""
    reference_task_ids: Annotated[list[WireId], Meta(max_length=100)] = []


class Configuration(_Wire, frozen=True):
    return_immediately: bool = False
    task_push_notification_config: dict[str, Any] | None = None


class SendMessage(_Wire, frozen=True):
    message: Message
    configuration: Configuration = Configuration()


class OfTask(_Wire, frozen=True):
    """Parameters of GetTask, CancelTask and SubscribeToTask."""

    id: WireId


class ListTasks(_Wire, frozen=True):
    context_id: str = ""
    status: Literal[
        "",
        "TASK_STATE_UNSPECIFIED",
        "TASK_STATE_SUBMITTED",
        "TASK_STATE_WORKING",
        "TASK_STATE_INPUT_REQUIRED",
        "TASK_STATE_AUTH_REQUIRED",
        "TASK_STATE_COMPLETED",
        "TASK_STATE_CANCELED",
        "TASK_STATE_FAILED",
        "TASK_STATE_REJECTED",
    ] = ""
    page_size: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = PAGE
    page_token: Annotated[str, Meta(max_length=1100)] = ""
    status_timestamp_after: datetime | None = None
    include_artifacts: bool = False

    @property
    def state(self) -> str | None:
        """The hub's name of the state that is asked for."""
        name = self.status.removeprefix(STATE_PREFIX)
        return name if name in STATES else None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """JSON-RPC 2.0. Without `id` it would be a notification, of which this protocol has none."""

    jsonrpc: Literal["2.0"]
    method: str
    params: dict[str, Any] = {}
    id: str | int


def wire_id(project_id: str, task_id: str) -> str:
    return f"{quote(project_id, safe='')}/{quote(task_id, safe='')}"


def task_named(wire: str) -> tuple[str, str]:
    """(project, task). Raises A2AError(TASK_NOT_FOUND): nothing has another name."""
    project_id, slash, task_id = wire.partition("/")
    if not (slash and project_id and task_id) or "/" in task_id:
        raise A2AError(Fault.TASK_NOT_FOUND, "no such task")
    return unquote(project_id), unquote(task_id)


def content(parts: Sequence[Part]) -> tuple[str, dict[str, Any]]:
    """The text of a message, and what its data parts say. Raises A2AError."""
    texts: list[str] = []
    data: dict[str, Any] = {}
    for part in parts:
        if part.text is not None:
            texts.append(part.text)
        elif isinstance(part.data, dict):
            data |= part.data
        elif part.data is not msgspec.UNSET:
            raise A2AError(Fault.INVALID_PARAMS, "a data part is an object with fields of a task")
        else:
            raise A2AError(Fault.CONTENT_TYPE, "parts are text or data")
    return "\n\n".join(texts), data


def specification(message: Message, task_id: str) -> dict[str, Any]:
    """The task that a message asks for: its text in words, and whatever fields of a task its data parts hold.

    Raises A2AError.
    """
    text, data = content(message.parts)
    given = {
        "title": text.strip().partition("\n")[0][:MAX_TITLE],
        "description": text,
        "reference_task_ids": [task_named(each)[1] for each in message.reference_task_ids],
        **_whole(data),
        "task_id": task_id,
    }
    try:
        spec: dict[str, Any] = msgspec.to_builtins(msgspec.convert(given, TaskSpec))
    except msgspec.ValidationError as failure:
        raise A2AError(Fault.INVALID_PARAMS, str(failure)) from None
    return spec


def status(update: Mapping[str, Any]) -> dict[str, Any]:
    """A2A's TaskStatus."""
    said: dict[str, Any] = {"state": STATE_PREFIX + update.get("state", "SUBMITTED")}
    if (moment := update.get("ts_event")) is not None:
        said["timestamp"] = _rfc3339(moment)
    if text := update.get("message"):
        project_id, task_id = update["project_id"], update["task_id"]
        said["message"] = {
            "messageId": f"{wire_id(project_id, task_id)}@{moment or 0}",
            "contextId": project_id,
            "taskId": wire_id(project_id, task_id),
            "role": "ROLE_AGENT",
            "parts": [{"text": text}],
        }
    return said


def task(update: Mapping[str, Any], *, artifacts: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    project_id = update["project_id"]
    made: dict[str, Any] = {
        "id": wire_id(project_id, update["task_id"]),
        "contextId": project_id,
        "status": status(update),
        "metadata": _metadata(update),
    }
    if artifacts:
        made["artifacts"] = [artifact(each, number) for number, each in enumerate(artifacts, start=1)]
    return made


def artifact(given: Mapping[str, Any], number: int) -> dict[str, Any]:
    """One of the hub's, which are objects of any shape, as A2A's."""
    made: dict[str, Any] = {
        "artifactId": str(given.get("artifact_id") or number),
        "parts": [{"text": given["text"]} if isinstance(given.get("text"), str) else {"data": dict(given)}],
    }
    if isinstance(given.get("name"), str):
        made["name"] = given["name"]
    return made


def status_update(update: Mapping[str, Any]) -> dict[str, Any]:
    told = {"status": status(update), "metadata": _metadata(update)}
    return {"statusUpdate": {**_of(update), **told}}


def artifact_update(update: Mapping[str, Any], given: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {"artifactUpdate": {**_of(update), "artifact": artifact(given, number), "lastChunk": True}}


def _of(update: Mapping[str, Any]) -> dict[str, Any]:
    project_id = update["project_id"]
    return {"taskId": wire_id(project_id, update["task_id"]), "contextId": project_id}


def _metadata(update: Mapping[str, Any]) -> dict[str, Any]:
    """What the hub knows of a task and A2A has no field for."""
    named = ("title", "substate", "specialist_id", "progress", "attempt", "priority", "depends_on", "blockers")
    return {name: update[name] for name in named if update.get(name) not in (None, [])}


def _whole(data: Any) -> Any:
    """Whole numbers as such: ProtoJSON has only one kind of number."""
    match data:
        case float() if data.is_integer():
            return int(data)
        case dict():
            return {name: _whole(each) for name, each in data.items()}
        case list():
            return [_whole(each) for each in data]
    return data


def _rfc3339(micros: int) -> str:
    moment = datetime.fromtimestamp(micros / 1_000_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
