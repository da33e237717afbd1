"""The MCP server itself, on the official SDK. Each request stands for itself: no session, no stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import orjson
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    ResourceTemplate,
    TextContent,
    TextResourceContents,
    Tool,
    ToolAnnotations,
)
from starlette.types import Receive, Scope, Send

from hub import __version__
from hub.caller import Caller
from hub.clock import Clock
from hub.dispatch import Dispatcher
from hub.edge.mcp.tools import RESOURCES, TOOLS, resource
from protocol.errors import ErrorCode, HubError
from protocol.messages import Command, ErrorBody

CALLER = "krin.caller"  # in the scope of a request: who the token says it is from
INSTRUCTIONS = "A hub on which people and agents work and trade together. What you may do hangs on your token."
JSON = "application/json"
RESOURCE_NOT_FOUND = -32002

Context: TypeAlias = ServerRequestContext[Any, Any]


class McpServer:
    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        allowed_hosts: Sequence[str],
        allowed_origins: Sequence[str],
        max_body_bytes: int,
        clock: Clock,
    ) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        server: Server[Any] = Server(
            "krin",
            version=__version__,
            instructions=INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
        )
        self._manager = StreamableHTTPSessionManager(
            server,
            json_response=True,
            stateless=True,
            security_settings=TransportSecuritySettings(
                allowed_hosts=list(allowed_hosts), allowed_origins=list(allowed_origins)
            ),
            max_request_body_size=max_body_bytes,
        )
        self._running = asyncio.Event()

    async def run(self) -> None:
        async with self._manager.run():
            self._running.set()
            await asyncio.Event().wait()

    async def serve(self, scope: Scope, receive: Receive, send: Send, *, caller: Caller) -> None:
        """Answer one request, once `run` has begun."""
        await self._running.wait()
        await self._manager.handle_request({**scope, CALLER: caller}, receive, send)

    async def _list_tools(self, context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(
            tools=[
                Tool(
                    name=name,
                    description=tool.description,
                    input_schema=tool.schema,
                    annotations=ToolAnnotations(read_only_hint=tool.reads),
                )
                for name, tool in TOOLS.items()
            ]
        )

    async def _call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        """A refusal is the tool's result, not the protocol's error: the model is to read it and do better."""
        tool = TOOLS.get(params.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, "no such tool")
        try:
            answer = await self._ask(context, tool.asks(params.arguments or {}, self._clock.now_us()))
        except HubError as error:
            return _result(ErrorBody.of(error), failed=True)
        return _result(answer)

    async def _list_resources(self, context: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        return ListResourcesResult(resources=[])  # there are as many as symbols, tasks and teams: see the templates

    async def _list_templates(
        self, context: Context, params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(
            resource_templates=[
                ResourceTemplate(uri_template=template, name=each.name, description=each.description, mime_type=JSON)
                for template, each in RESOURCES.items()
            ]
        )

    async def _read_resource(self, context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        try:
            answer = await self._ask(context, resource(params.uri))
        except HubError as error:
            code = RESOURCE_NOT_FOUND if error.code is ErrorCode.NOT_FOUND else INVALID_PARAMS
            raise MCPError(code, error.message, msgspec.to_builtins(ErrorBody.of(error))) from None
        text = msgspec.json.encode(answer).decode()
        return ReadResourceResult(contents=[TextResourceContents(uri=params.uri, mime_type=JSON, text=text)])

    async def _ask(self, context: Context, commands: Sequence[Command]) -> Any:
        """The answer to the last. Raises HubError."""
        assert context.request is not None
        caller: Caller = context.request.scope[CALLER]
        answer = None
        for command in commands:
            try:
                answer = await self._dispatcher.answer(command, caller)
            except Exception as failure:
                raise self._dispatcher.as_hub_error(failure) from None
        return answer


def _result(answer: Any, *, failed: bool = False) -> CallToolResult:
    text = msgspec.json.encode(answer)
    return CallToolResult(
        content=[TextContent(text=text.decode())], structured_content=orjson.loads(text), is_error=failed
    )
