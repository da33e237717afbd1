"""`POST /a2a`: the operations, as calls of the hub's methods by whoever the token names."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from hub.caller import Caller
from hub.dispatch import Dispatcher
from hub.edge.a2a import wire
from hub.edge.a2a.card import PROTOCOL_VERSION, card
from hub.edge.a2a.errors import A2AError, Fault
from hub.edge.body import number_in, read_body
from hub.edge.credentials import Credentials
from hub.edge.envelope import KrinAPIService
from hub.edge.streams import COMMENT, Stream, Streams, event
from protocol.errors import ErrorCode, HubError
from protocol.messages import Call, SubscribeOptions

WAIT_S = 30.0  # for a task to end, when SendMessage does not want to return at once
PAGE = 500
MAX_LISTED = 10_000  # tasks that one ListTasks looks at
CARD_PATH = "/.well-known/agent-card.json"
PUSH_NOTIFICATIONS = (
    "CreateTaskPushNotificationConfig",
    "GetTaskPushNotificationConfig",
    "ListTaskPushNotificationConfigs",
    "DeleteTaskPushNotificationConfig",
)

T = TypeVar("T")


class A2ARoutes:
    def __init__(
        self,
        service: KrinAPIService,
        dispatcher: Dispatcher,
        streams: Streams,
        *,
        credentials: Credentials,
        max_body_bytes: int,
    ) -> None:
        self._dispatcher = dispatcher
        self._streams = streams
        self._credentials = credentials
        self._max_body_bytes = max_body_bytes
        self._operations: Mapping[str, Callable[[wire.Request, Caller], Awaitable[Any]]] = {
            "SendMessage": self._send,
            "SendStreamingMessage": self._send_streaming,
            "GetTask": self._get,
            "ListTasks": self._list,
            "CancelTask": self._cancel,
            "SubscribeToTask": self._subscribe,
        }
        self.routes = [Route(CARD_PATH, self._card), service.route("POST /a2a", self._answer, waits=True)]

    async def _card(self, request: HttpRequest) -> Response:
        address = self._credentials.url(request.scope).removesuffix(CARD_PATH)
        return Response(msgspec.json.encode(card(address)), media_type="application/json")

    async def _answer(self, request: HttpRequest, caller: Caller) -> Response:
        number: str | int | None = None
        try:
            _check_version(request)
            call = await self._read(request)
            number = call.id
            result = await self._operation(call.method)(call, caller)
        except Exception as failure:
            error = self._as_a2a_error(failure)
            return _json(_error(number, error), error.status)
        return result if isinstance(result, Response) else _json(_reply(number, result))

    async def _read(self, request: HttpRequest) -> wire.Request:
        try:
            decoded = msgspec.json.decode(await read_body(request, self._max_body_bytes))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise A2AError(Fault.PARSE, "this is not JSON") from None
        try:
            return msgspec.convert(decoded, wire.Request)
        except msgspec.ValidationError as failure:
            raise A2AError(Fault.INVALID_REQUEST, str(failure)) from None

    def _operation(self, method: str) -> Callable[[wire.Request, Caller], Awaitable[Any]]:
        if method in PUSH_NOTIFICATIONS:
            raise A2AError(Fault.PUSH_NOTIFICATION, "nobody is called back: subscribe to the task")
        if method == "GetExtendedAgentCard":
            raise A2AError(Fault.EXTENDED_CARD, "there is one card for all")
        if (found := self._operations.get(method)) is None:
            raise A2AError(Fault.METHOD_NOT_FOUND, "no such method")
        return found

    async def _send(self, call: wire.Request, caller: Caller) -> Any:
        """Without `returnImmediately` when the task has ended or waits for somebody, or after WAIT_S."""
        asked = _params(call, wire.SendMessage)
        _refuse_callbacks(asked)
        if asked.configuration.return_immediately:
            return {"task": _task(await self._accept(asked.message, caller))}
        stream = await self._listen(_project(asked.message), caller)
        try:
            found = await self._accept(asked.message, caller)
            try:
                async with asyncio.timeout(WAIT_S), aclosing(self._follow(stream, found, caller)) as told:
                    async for _ in told:
                        pass
            except TimeoutError:
                pass
        finally:
            stream.end()
        return {"task": _task(await self._found(found["task"]["project_id"], found["task"]["task_id"], caller))}

    async def _send_streaming(self, call: wire.Request, caller: Caller) -> Response:
        asked = _params(call, wire.SendMessage)
        _refuse_callbacks(asked)
        stream = await self._listen(_project(asked.message), caller)
        try:
            found = await self._accept(asked.message, caller)
        except BaseException:
            stream.end()
            raise
        return self._streams.answer(stream, self._stream(call.id, stream, found, caller))

    async def _subscribe(self, call: wire.Request, caller: Caller) -> Response:
        project_id, task_id = wire.task_named(_params(call, wire.OfTask).id)
        stream = await self._listen(project_id, caller)
        try:
            found = await self._found(project_id, task_id, caller)
            if found["task"]["state"] in wire.TERMINAL:
                raise A2AError(Fault.UNSUPPORTED, "the task has ended")
        except BaseException:
            stream.end()
            raise
        return self._streams.answer(stream, self._stream(call.id, stream, found, caller))

    async def _get(self, call: wire.Request, caller: Caller) -> Any:
        return _task(await self._found(*wire.task_named(_params(call, wire.OfTask).id), caller))

    async def _cancel(self, call: wire.Request, caller: Caller) -> Any:
        project_id, task_id = wire.task_named(_params(call, wire.OfTask).id)
        try:
            canceled = await self._call("tasks.cancel", {"project_id": project_id, "task_id": task_id}, caller)
        except HubError as error:
            raise A2AError.of(error, illegal=Fault.NOT_CANCELABLE) from None
        return wire.task(canceled["task"])

    async def _list(self, call: wire.Request, caller: Caller) -> Any:
        """The newest change first."""
        asked = _params(call, wire.ListTasks)
        oldest_us = int(asked.status_timestamp_after.timestamp() * 1e6) if asked.status_timestamp_after else 0
        tasks = await self._all([asked.context_id] if asked.context_id else await self._projects(caller), asked, caller)
        ordered = sorted((each for each in tasks if each.get("ts_event", 0) >= oldest_us), key=_place)
        rest = [each for each in ordered if _place(each) > _place_of(asked.page_token)] if asked.page_token else ordered
        page = rest[: asked.page_size]
        listed = [
            _task(await self._found(each["project_id"], each["task_id"], caller))
            if asked.include_artifacts
            else wire.task(each)
            for each in page
        ]
        following = _token(page[-1]) if len(rest) > len(page) else ""
        return {
            "tasks": listed,
            "nextPageToken": following,
            "pageSize": asked.page_size,
            "totalSize": len(ordered),
        }

    async def _projects(self, caller: Caller) -> list[str]:
        return [each["project"]["project_id"] for each in (await self._call("projects.list", {}, caller))["projects"]]

    async def _all(self, projects: list[str], asked: wire.ListTasks, caller: Caller) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for project_id in projects:
            params = {"project_id": project_id, "limit": PAGE, **({"state": asked.state} if asked.state else {})}
            after: dict[str, Any] = {}
            while len(found) < MAX_LISTED:
                page = await self._call("tasks.list", {**params, **after}, caller)
                found += [{"project_id": project_id, **task} for task in page["tasks"]]
                if page.get("next") is None:
                    break
                after = {"after": page["next"]}
        return found

    async def _accept(self, message: wire.Message, caller: Caller) -> dict[str, Any]:
        """The task that this message makes, or answers."""
        project_id = _project(message)
        if message.task_id:
            return await self._resume(message, caller)
        # The same message twice is one task; two callers may name theirs alike.
        task_id = "a2a-" + hashlib.sha256(f"{caller.user}\0{message.message_id}".encode()).hexdigest()[:24]
        spec = wire.specification(message, task_id)
        try:
            return await self._found(project_id, task_id, caller)
        except HubError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
        await self._call("tasks.create", {"project_id": project_id, "tasks": [spec]}, caller)
        return await self._found(project_id, task_id, caller)

    async def _resume(self, message: wire.Message, caller: Caller) -> dict[str, Any]:
        """A message to a task that waits for an answer is the answer; others it does not hear."""
        project_id, task_id = wire.task_named(message.task_id)
        found = await self._found(project_id, task_id, caller)
        if found.get("interrupt") is None:
            raise A2AError(
                Fault.UNSUPPORTED, "the task waits for no answer; send a new message, and refer to this task"
            )
        if found["interrupt"]["reason"] != "INPUT":  # "no" is a message, too, and must not be taken for consent
            raise A2AError(Fault.UNSUPPORTED, "this is to be approved or declined: call approvals.resolve")
        text, data = wire.content(message.parts)
        answer = {"approval_id": found["interrupt"]["interrupt_id"], "decision": "APPROVED"}
        await self._call("approvals.resolve", {**answer, "payload": data or {"text": text}}, caller)
        return await self._found(project_id, task_id, caller)

    async def _listen(self, project_id: str, caller: Caller) -> Stream:
        return await self._streams.open(caller, {f"tasks:{project_id}": SubscribeOptions()})

    async def _stream(
        self, number: str | int, stream: Stream, found: Mapping[str, Any], caller: Caller
    ) -> AsyncGenerator[bytes, None]:
        yield event(_reply(number, {"task": _task(found)}))
        try:
            async with aclosing(self._follow(stream, found, caller)) as told:
                async for each in told:
                    yield COMMENT if each is None else event(_reply(number, each))
        except Exception as failure:
            yield event(_error(number, self._as_a2a_error(failure)))

    async def _follow(
        self, stream: Stream, found: Mapping[str, Any], caller: Caller
    ) -> AsyncGenerator[dict[str, Any] | None, None]:
        """What happens to a task after it was `found`, until it ends or waits for somebody. None: nothing so far."""
        shown = found["task"]
        if shown["state"] in wire.TERMINAL:
            return
        async for message in stream.messages():
            if message is None:
                yield None
            elif message["type"] in ("unsubscribed", "disconnect"):
                raise A2AError(Fault.REFUSED, message["reason"])
            elif message["type"] in ("TASK_CREATED", "TASK_STATUS_UPDATE"):
                update = {"project_id": shown["project_id"], **message["data"]}
                if update["task_id"] != shown["task_id"] or update == shown or _older(update, shown):
                    continue
                shown = update
                async for each in self._tell(update, caller):
                    yield each
                if update["state"] in wire.TERMINAL | wire.INTERRUPTED:
                    return

    async def _tell(self, update: Mapping[str, Any], caller: Caller) -> AsyncIterator[dict[str, Any]]:
        """Results come before the state that says that there are no more."""
        if update["state"] == "COMPLETED":
            found = await self._found(update["project_id"], update["task_id"], caller)
            for number, each in enumerate(found.get("artifacts", ()), start=1):
                yield wire.artifact_update(update, each, number)
        yield wire.status_update(update)

    async def _found(self, project_id: str, task_id: str, caller: Caller) -> dict[str, Any]:
        """What `tasks.get` answers."""
        found = await self._call("tasks.get", {"project_id": project_id, "task_id": task_id}, caller)
        return {**found, "task": {"project_id": project_id, "state": "SUBMITTED", **found["task"]}}

    def _as_a2a_error(self, failure: Exception) -> A2AError:
        return failure if isinstance(failure, A2AError) else A2AError.of(self._dispatcher.as_hub_error(failure))

    async def _call(self, method: str, params: dict[str, Any], caller: Caller) -> Any:
        return msgspec.to_builtins(await self._dispatcher.answer(Call(id=1, method=method, params=params), caller))


def _check_version(request: HttpRequest) -> None:
    """Who names no version speaks 0.3 (section 3.6.2)."""
    named = request.headers.get("a2a-version", "0.3")
    if named.split(".")[:2] != PROTOCOL_VERSION.split("."):
        raise A2AError(Fault.VERSION, f"this agent speaks {PROTOCOL_VERSION}: send A2A-Version")


def _params(call: wire.Request, kind: type[T]) -> T:
    try:
        return msgspec.convert(call.params, kind)
    except msgspec.ValidationError as failure:
        raise A2AError(Fault.INVALID_PARAMS, str(failure)) from None


def _refuse_callbacks(asked: wire.SendMessage) -> None:
    if asked.configuration.task_push_notification_config:
        raise A2AError(Fault.PUSH_NOTIFICATION, "nobody is called back: subscribe to the task")


def _project(message: wire.Message) -> str:
    """The project that a message is for."""
    of_task = wire.task_named(message.task_id)[0] if message.task_id else ""
    if not (message.context_id or of_task):
        raise A2AError(Fault.INVALID_PARAMS, "contextId names the project")
    if message.context_id and of_task not in ("", message.context_id):
        raise A2AError(Fault.INVALID_PARAMS, "the task is of another context")
    return message.context_id or of_task


def _task(found: Mapping[str, Any]) -> dict[str, Any]:
    return wire.task(found["task"], artifacts=found.get("artifacts", ()))


def _older(update: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    return bool(update.get("ts_event", 0) < shown.get("ts_event", 0))


def _place(task: Mapping[str, Any]) -> tuple[int, str]:
    return -task.get("ts_event", 0), wire.wire_id(task["project_id"], task["task_id"])


def _token(task: Mapping[str, Any]) -> str:
    moment, named = _place(task)
    return f"{-moment}:{named}"


def _place_of(token: str) -> tuple[int, str]:
    moment, _, named = token.partition(":")
    if (number := number_in(moment)) is None:
        raise A2AError(Fault.INVALID_PARAMS, "no such page")
    return -number, named


def _reply(number: str | int | None, result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "result": result}


def _error(number: str | int | None, error: A2AError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": error.body}


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
