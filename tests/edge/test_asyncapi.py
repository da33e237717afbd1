"""`/asyncapi.json` is a valid AsyncAPI 3.0 document, and says of messages what the hub does.

`asyncapi-3.0.0.json` is the specification's own schema (@asyncapi/specs, Apache-2.0) without bindings and other formats.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # its stubs are a package of their own

from hub.edge import asyncapi, openapi
from protocol.codec import CODECS
from protocol.messages import AnyCommand
from protocol.operations import OPERATIONS
from protocol.vocabulary import DATA_TYPES

DOCUMENT = asyncapi.describe()
MESSAGES = DOCUMENT["channels"]["socket"]["messages"]
README = (Path(__file__).parents[2] / "protocol" / "README.md").read_text()
EXAMPLES = [
    (kind, json.loads(text)) for kind, text in re.findall(r"^```json (\w[\w ]*)\n(.*?)^```", README, re.M | re.S)
]


@functools.cache
def validator(message: str) -> Draft7Validator:
    return Draft7Validator({**MESSAGES[message]["payload"], "components": DOCUMENT["components"]})


def why_not(message: str, value: Any) -> list[str]:
    return [error.message for error in validator(message).iter_errors(value)]


def test_it_is_a_document_of_asyncapi_3() -> None:
    schema = json.loads(Path(__file__).with_name("asyncapi-3.0.0.json").read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(DOCUMENT)] == []


def test_every_reference_leads_somewhere() -> None:
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT)))
    assert references
    for reference in references:
        functools.reduce(lambda part, name: part[name], reference.split("/"), DOCUMENT)


async def test_the_hub_serves_it_to_anybody(http: httpx.AsyncClient) -> None:
    answer = await http.get("/asyncapi.json")
    assert (answer.status_code, answer.json()) == (200, json.loads(json.dumps(DOCUMENT)))


def test_every_method_type_and_command_of_the_protocol_is_in_it() -> None:
    assert {*OPERATIONS, *DATA_TYPES} <= set(MESSAGES)
    commands = {kind.__struct_config__.tag for kind in get_args(AnyCommand)}
    assert commands - {"call"} <= set(MESSAGES)


@pytest.mark.parametrize("value", [value for kind, value in EXAMPLES if kind == "command" and isinstance(value, dict)])
def test_the_commands_of_the_specification_fit(value: dict[str, Any]) -> None:
    name = value["method"] if value["type"] == "call" else value["type"]
    assert why_not(name, value) == []
    assert why_not(name, value | {"id": 0} if "id" in value else {"type": "pong"})


@pytest.mark.parametrize("value", [value for kind, value in EXAMPLES if kind == "publication"])
def test_the_publications_of_the_specification_fit(value: dict[str, Any]) -> None:
    name = value["type"] if value["type"] in DATA_TYPES else "CUSTOM"
    assert why_not(name, value) == []
    assert why_not(name, value | {"offset": -1})


def test_the_patterns_of_both_documents_are_those_of_json_schema() -> None:
    for document in (DOCUMENT, openapi.describe()):
        patterns = re.findall(r'"pattern": "([^"]+)"', json.dumps(document))
        assert patterns
        assert not [each for each in patterns if r"\Z" in each]


def test_it_names_the_subprotocols() -> None:
    assert all(name in DOCUMENT["info"]["description"] for name in CODECS)
