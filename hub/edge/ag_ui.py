"""AG-UI 1.0: a project as a run that any front end of that protocol can show, by server-sent events.

A run is the view of one project, from now until all of its tasks have ended: tasks under way are its steps, and its
state is the whole of the project, kept up to date by patches (RFC 6902). Every patch adds whole values, so that it
applies to the state as it was at the event before, whoever kept it: after `Last-Event-ID` only what was missed is told.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hub.caller import Caller
from hub.dispatch import Dispatcher
from hub.edge.body import read_struct
from hub.edge.envelope import KrinAPIService
from hub.edge.streams import COMMENT, Stream, Streams, event
from protocol.errors import ErrorCode, HubError
from protocol.fields import Name
from protocol.messages import Call, SubscribeOptions
from protocol.positions import Position

PROTOCOL_VERSION = "1.0"
CHANNELS = ("tasks", "team")  # in the order of their names
UNDER_WAY = frozenset({"WORKING", "INPUT_REQUIRED", "AUTH_REQUIRED"})
ENDED = frozenset({"COMPLETED", "CANCELED", "FAILED", "REJECTED"})
ACTIVITIES = {"HANDOFF": "task_id", "GATE_RESULT": "gate_id", "PLAN_PROPOSED": "plan_id", "PLAN_COMMITTED": "plan_id"}
"""Types that a front end shows as a thing of its own, and the field that says which one."""
PAGE = 500
MAX_TASKS = 10_000  # of a snapshot

Event = dict[str, Any]


class RunInput(msgspec.Struct, rename="camel"):
    """Of RunAgentInput what makes a difference here: the team works on its own, and takes no messages by this door."""

    thread_id: Name
    run_id: Name


class Run:
    """What one stream has told of a project. Pure: messages of the hub go in, events come out."""

    def __init__(self, run: RunInput, tasks: Mapping[str, Mapping[str, Any]], *, ended: bool = False) -> None:
        """`tasks` as they stand, by their id. `ended`: the project has."""
        self._run = run
        self._states: dict[str, str] = {id: task.get("state", "SUBMITTED") for id, task in tasks.items()}
        self._open: dict[str, None] = {}
        self._ended = ended

    @property
    def over(self) -> bool:
        """The project has ended, or there were tasks, and all of them have."""
        return self._ended or (bool(self._states) and ENDED.issuperset(self._states.values()))

    def start(self, snapshot: Mapping[str, Any] | None) -> Iterator[Event]:
        """`snapshot` None: the front end has the state as it was when it left."""
        yield {
            "type": "RUN_STARTED",
            "threadId": self._run.thread_id,
            "runId": self._run.run_id,
            "protocolVersion": PROTOCOL_VERSION,
        }
        if snapshot is not None:
            yield {"type": "STATE_SNAPSHOT", "snapshot": snapshot}
        for task_id, state in self._states.items():
            yield from self._step(task_id, state)

    def hear(self, message: Mapping[str, Any]) -> Iterator[Event]:
        """The events that a publication makes."""
        for each in self._translate(message["type"], message):
            yield {**each, "timestamp": message["timestamp"]}

    def finish(self) -> Iterator[Event]:
        """All tasks have ended."""
        counts: dict[str, int] = {}
        for state in self._states.values():
            counts[state] = counts.get(state, 0) + 1
        outcome = "cancelled" if set(counts) == {"CANCELED"} else "success"
        named = {"threadId": self._run.thread_id, "runId": self._run.run_id}
        yield {"type": "RUN_FINISHED", **named, "result": counts, "outcome": {"type": outcome}}

    def _translate(self, type: str, message: Mapping[str, Any]) -> Iterator[Event]:
        data = message["data"]
        self._ended = self._ended or type == "PROJECT_ENDED"
        if type in ("TASK_CREATED", "TASK_STATUS_UPDATE"):
            task_id, state = data["task_id"], data.get("state", "SUBMITTED")
            self._states[task_id] = state
            yield _delta(f"/tasks/{_token(task_id)}", data)
            yield from self._step(task_id, state)
        elif type == "SPECIALIST_UPDATE":
            yield {
                "type": "STATE_DELTA",
                "delta": [
                    *(_add(f"/updates/{_token(update['specialist_id'])}", update) for update in data),
                    *([_add("/next_steps", message["coordination"])] if "coordination" in message else []),
                ],
            }
        elif type in ACTIVITIES:
            named = data.get(ACTIVITIES[type], message["offset"])
            yield {
                "type": "ACTIVITY_SNAPSHOT",
                "messageId": f"{type.lower()}:{named}",
                "activityType": type,
                "content": data,
            }
        else:
            yield {"type": "CUSTOM", "name": type, "value": data}

    def _step(self, task_id: str, state: str) -> Iterator[Event]:
        if state in UNDER_WAY and task_id not in self._open:
            self._open[task_id] = None
            yield {"type": "STEP_STARTED", "stepName": task_id}
        elif state not in UNDER_WAY and task_id in self._open:
            del self._open[task_id]
            yield {"type": "STEP_FINISHED", "stepName": task_id}


def _token(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def _delta(path: str, value: Any) -> Event:
    return {"type": "STATE_DELTA", "delta": [_add(path, value)]}


class AgUiRoutes:
    """`GET` for those who only look, `POST` with a RunAgentInput for clients of the protocol."""

    def __init__(
        self, service: KrinAPIService, dispatcher: Dispatcher, streams: Streams, *, max_body_bytes: int
    ) -> None:
        self._dispatcher = dispatcher
        self._streams = streams
        self._max_body_bytes = max_body_bytes
        self.routes = [
            service.route("GET /ag-ui/{project_id:path}", self._watch),
            service.route("POST /ag-ui/{project_id:path}", self._run),
        ]

    async def _watch(self, request: Request, caller: Caller) -> Response:
        project_id = request.path_params["project_id"]
        return await self._open(request, caller, RunInput(thread_id=project_id, run_id=secrets.token_hex(8)))

    async def _run(self, request: Request, caller: Caller) -> Response:
        return await self._open(request, caller, await read_struct(request, self._max_body_bytes, RunInput))

    async def _open(self, request: Request, caller: Caller, run: RunInput) -> Response:
        """Listens first and looks then: what happens in between is told twice and not lost."""
        project_id = request.path_params["project_id"]
        seen = _positions(request.headers.get("last-event-id", ""))
        stream = await self._streams.open(
            caller, {f"{each}:{project_id}": SubscribeOptions(recover=seen.get(each)) for each in CHANNELS}
        )
        try:
            snapshot = await self._snapshot(project_id, caller)
        except BaseException:
            stream.end()
            raise
        view = Run(run, snapshot["tasks"], ended=snapshot["state"] != "OPEN")
        return self._streams.answer(stream, self._events(stream, view, snapshot))

    async def _events(self, stream: Stream, run: Run, snapshot: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        joined = stream.joined
        at = {channel: Position(each.epoch, each.offset) for channel, each in joined.items()}
        known = all(each.recovered for each in joined.values())
        told = [*run.start(None if known else snapshot)]
        if known:
            missed = [msgspec.json.decode(each) for result in joined.values() for each in result.messages]
            told += [each for message in missed for each in run.hear(message)]
        if run.over:
            told += run.finish()
        yield _events(told, at)
        if run.over:
            return
        async for message in stream.messages():
            if message is None:
                yield COMMENT
            elif "offset" in message:
                before = at[message["channel"]]
                at[message["channel"]] = Position(message.get("epoch", before.epoch), message["offset"])
                yield _events(run.hear(message), at)
                if run.over:
                    yield _events(run.finish(), at)
                    return
            elif message["type"] in ("unsubscribed", "disconnect"):
                yield event({"type": "RUN_ERROR", "message": message["reason"], "code": str(message["code"])})
                return

    async def _snapshot(self, project_id: str, caller: Caller) -> dict[str, Any]:
        """The whole project. `updates` are there for patches to fill."""
        project = await self._call("projects.get", {"project_id": project_id}, caller)
        tasks: dict[str, Any] = {}
        after: dict[str, Any] = {}
        while len(tasks) < MAX_TASKS:
            page = await self._call("tasks.list", {"project_id": project_id, "limit": PAGE, **after}, caller)
            tasks |= {task["task_id"]: task for task in page["tasks"]}
            if page.get("next") is None:
                break
            after = {"after": page["next"]}
        team = project["project"].get("team", project_id)
        agents = await self._call("agents.list", {"team": team}, caller)
        steps = await self._call("team.next_steps", {"project_id": project_id}, caller)
        return {
            "project": project["project"],
            "state": project["state"],
            "tasks": tasks,
            "specialists": {each["specialist"]["specialist_id"]: each for each in agents["specialists"]},
            "updates": {},
            "next_steps": steps["next_steps"],
        }

    async def _call(self, method: str, params: dict[str, Any], caller: Caller) -> Any:
        return msgspec.to_builtins(await self._dispatcher.answer(Call(id=1, method=method, params=params), caller))


def _events(events: Iterable[Event], at: Mapping[str, Position]) -> bytes:
    """Events that belong together: whoever has had the last of them is at these positions."""
    *others, last = events
    return b"".join([*(event(each) for each in others), event(last, id=_written(at))])


def _written(at: Mapping[str, Position]) -> str:
    """Positions as an event's id: `epoch:offset` of each channel."""
    return ",".join(f"{each.epoch}:{each.offset}" for _, each in sorted(at.items()))


def _positions(written: str) -> dict[str, Position]:
    """What `_written` wrote, by namespace; nothing for what it did not. Raises HubError(schema_invalid)."""
    if not written:
        return {}
    try:
        parts = [each.rpartition(":") for each in written.split(",")]
        return {
            name: msgspec.convert({"epoch": epoch, "offset": int(offset)}, Position)
            for name, (epoch, _, offset) in zip(CHANNELS, parts, strict=True)
        }
    except (ValueError, msgspec.ValidationError):
        raise HubError(ErrorCode.SCHEMA_INVALID, "this is no id of an event of here", path="last-event-id") from None
