"""JSON Schemas of structs, as any validator reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

REFERENCE = "#/components/schemas/"


def schemas_of(kinds: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A schema for each kind, in order, and the components that they refer to."""
    schemas, components = msgspec.json.schema_components(
        kinds, schema_hook=lambda kind: {}, ref_template=REFERENCE + "{name}"
    )
    return [_portable(each) for each in schemas], _portable(components)


def _portable(schema: Any) -> Any:
    """Patterns are Python's; those of JSON Schema are ECMA 262's, where `\\Z` is not the end but an error."""
    if isinstance(schema, dict):
        return {
            name: value.replace(r"\Z", "$") if name == "pattern" and isinstance(value, str) else _portable(value)
            for name, value in schema.items()
        }
    return [_portable(each) for each in schema] if isinstance(schema, list) else schema
