"""`/asyncapi.json`, made from the protocol's structs: each command with its answers, each push, each publication."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import msgspec

from hub import __version__
from hub.edge.schemas import schemas_of
from protocol import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK
from protocol.messages import (
    Call,
    Connect,
    Connected,
    Disconnect,
    ErrorBody,
    Explain,
    ExplainResult,
    History,
    HistoryResult,
    Notice,
    Ping,
    Pong,
    Presence,
    PresenceDiff,
    PresenceResult,
    Publication,
    Publish,
    Published,
    Refresh,
    Replay,
    ReplayResult,
    Search,
    SearchResult,
    Subscribe,
    SubscribeResult,
    Unsubscribe,
    Unsubscribed,
)
from protocol.operations import OPERATIONS
from protocol.vocabulary import DATA_TYPES, MESSAGE_TYPES, CustomMessage

RESULTS: Mapping[type[msgspec.Struct], Any] = {
    Connect: Connected,
    Subscribe: SubscribeResult,
    Unsubscribe: dict[str, Any],
    Presence: PresenceResult,
    Publish: Published,
    History: HistoryResult,
    Replay: ReplayResult,
    Explain: ExplainResult,
    Search: SearchResult,
    Refresh: dict[str, int],
}
"""What answers each command. `call` is answered as its method says."""

PUSHES = (PresenceDiff, Unsubscribed, Notice, Ping, Disconnect)
ID = {"type": "integer", "minimum": 1, "maximum": 2**53 - 1}
SOCKET = "#/channels/socket"

Schema = dict[str, Any]


@functools.cache
def describe() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of the WebSocket: the hub receives commands, answers them, and sends the rest."""
    found, components = map(_as_draft_07, schemas_of([*_kinds().values()]))
    schema = dict(zip(_kinds(), found, strict=True))
    _fill_in(components, schema)
    messages: dict[str, Schema] = {"error": _message("error", _reply("error", schema["error"]))}
    operations: dict[str, Schema] = {}
    for name in _commands():
        messages[name] = _message(name, schema[name])
        messages[f"{name}_result"] = _message("reply", _reply("result", schema[f"{name}_result"]))
        operations[name] = _operation(name, f"{name}_result")
    for method in OPERATIONS:
        messages[method] = _message("call", _call(method, schema[method]), title=method)
        messages[f"{method}_result"] = _message("reply", _reply("result", schema[f"{method}_result"]))
        operations[method] = _operation(method, f"{method}_result")
    messages["pong"] = _message("pong", schema["pong"])
    operations["pong"] = {"action": "receive", "channel": {"$ref": SOCKET}, "messages": [_in_socket("pong")]}
    told = {name: _message(name, schema[name]) for name in (*(_tag(each) for each in PUSHES), *DATA_TYPES, "CUSTOM")}
    operations["told"] = {
        "action": "send",
        "channel": {"$ref": SOCKET},
        "summary": "Pushes, and publications of the channels that were joined",
        "messages": [_in_socket(name) for name in told],
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Krin",
            "version": __version__,
            "description": "Frames hold one message or an array of messages, as JSON text (subprotocol "
            f"`{SUBPROTOCOL_JSON}`) or as binary MessagePack (`{SUBPROTOCOL_MSGPACK}`).",
        },
        "defaultContentType": "application/json",
        "servers": {
            "hub": {
                "host": "{host}",
                "protocol": "wss",
                "variables": {"host": {"default": "localhost:8000"}},
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            }
        },
        "channels": {
            "socket": {"address": "/ws", "servers": [{"$ref": "#/servers/hub"}], "messages": {**messages, **told}}
        },
        "operations": operations,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "With the handshake, or as `token` in `connect`. Never in the URL.",
                }
            },
        },
    }


def _commands() -> dict[str, type[msgspec.Struct]]:
    return {_tag(kind): kind for kind in RESULTS}


@functools.cache
def _kinds() -> dict[str, Any]:
    """Everything that needs a schema, by the name of its message."""
    return {
        **_commands(),
        **{f"{_tag(kind)}_result": result for kind, result in RESULTS.items()},
        **{method: operation.params for method, operation in OPERATIONS.items()},
        **{f"{method}_result": operation.result for method, operation in OPERATIONS.items()},
        **{_tag(kind): kind for kind in (*PUSHES, Pong, Call)},
        **{name: _publication(name, data) for name, data in DATA_TYPES.items()},
        "CUSTOM": Publication,
        "error": ErrorBody,
        **{f"message {name}": kind for name, kind in MESSAGE_TYPES.items()},
        "message CUSTOM": CustomMessage,
    }


def _fill_in(components: dict[str, Any], schema: Mapping[str, Schema]) -> None:
    """What the structs leave open: a domain type is a constant, a command's message is one of them, and what is
    stored is sent on as it was written."""
    for name in DATA_TYPES:
        for each in (schema[name], schema[f"message {name}"]):
            components[_component(each)]["properties"]["type"] = {"const": name}
    messages = [each for name, each in schema.items() if name.startswith("message ")]
    components["Publish"]["properties"]["message"] = {"anyOf": messages}
    for name in ("SubscribeResult", "HistoryResult"):
        components[name]["properties"]["messages"]["items"] = schema["CUSTOM"]


def _as_draft_07(schema: Any) -> Any:
    """AsyncAPI's own schemas are of JSON Schema draft 07, where a tuple is told in another way."""
    if isinstance(schema, dict):
        renamed = {"prefixItems": "items", "items": "additionalItems"} if "prefixItems" in schema else {}
        return {renamed.get(name, name): _as_draft_07(value) for name, value in schema.items()}
    return [_as_draft_07(each) for each in schema] if isinstance(schema, list) else schema


def _publication(name: str, data: Any) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        f"Publication{name.title().replace('_', '')}",
        [("data", data)],
        bases=(Publication,),
        frozen=True,
        omit_defaults=True,
        kw_only=True,
    )


def _tag(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def _component(schema: Schema) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _message(name: str, payload: Schema, *, title: str | None = None) -> Schema:
    return {"name": name, **({"title": title} if title else {}), "payload": payload}


def _reply(field: str, content: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["type", "id", field],
        "properties": {"type": {"const": "reply"}, "id": {**ID, "minimum": 0}, field: content},
    }


def _call(method: str, params: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["type", "id", "method"],
        "properties": {"type": {"const": "call"}, "id": ID, "method": {"const": method}, "params": params},
    }


def _operation(message: str, result: str) -> Schema:
    return {
        "action": "receive",
        "channel": {"$ref": SOCKET},
        "messages": [_in_socket(message)],
        "reply": {"channel": {"$ref": SOCKET}, "messages": [_in_socket(result), _in_socket("error")]},
    }


def _in_socket(message: str) -> Schema:
    return {"$ref": f"{SOCKET}/messages/{message}"}
