"""The words of a message: what a reader would look for it by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

MAX_CHARACTERS = 8_000  # of one document: what an embedding model reads of it
MAX_DEPTH = 16
_NUMBER = re.compile(r"[-+.,:0-9eETZ]+\Z")  # prices and times: nobody looks for them, and each differs from all others


def words_of(body: bytes) -> str:
    """The strings in a stored message's `data` and `coordination`, in their order; "" if there is nothing to find."""
    try:
        parts = msgspec.json.decode(b"{" + body + b"}")
    except msgspec.MsgspecError:
        return ""
    said = [text for name in ("data", "coordination") for text in _strings(parts.get(name), MAX_DEPTH)]
    return " ".join(said).replace("\0", " ")[:MAX_CHARACTERS]


def _strings(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        if value and not _NUMBER.match(value):
            yield value
    elif depth and isinstance(value, dict):
        for each in value.values():
            yield from _strings(each, depth - 1)
    elif depth and isinstance(value, list):
        for each in value:
            yield from _strings(each, depth - 1)
