"""Field types that every message shares. Money and quantity are decimal strings, never floats."""

from __future__ import annotations

import sys
from typing import Annotated

from msgspec import Meta

EXPECTED: dict[str, str] = {}
"""What to say instead of what msgspec says of a text that does not match a pattern."""


def shaped(pattern: str, words: str, *, min_length: int | None = None, max_length: int | None = None) -> Meta:
    """A text of a pattern. `words` say it to people: in the schema, and in a refusal in place of the pattern."""
    EXPECTED[f"Expected `str` matching regex {pattern!r}"] = f"Expected {words}"
    return Meta(pattern=pattern, description=words, min_length=min_length, max_length=max_length)


DecimalString = Annotated[str, shaped(r"^-?[0-9]{1,30}(\.[0-9]{1,30})?\Z", "a decimal number as a string")]
Quantity = Annotated[str, shaped(r"^[0-9]{1,30}(\.[0-9]{1,30})?\Z", "a decimal number as a string, not negative")]
Micros = Annotated[int, Meta(ge=0, le=2**53 - 1, description="microseconds since 1970, UTC")]
Millis = Annotated[int, Meta(ge=0, le=2**53 - 1, description="milliseconds since 1970, UTC")]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
CommandId = Annotated[int, Meta(ge=1, le=2**53 - 1, description="chosen by the client, unique among its open commands")]
ChannelName = Annotated[str, Meta(min_length=3, max_length=255, description="namespace:name")]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
ChannelPart = Annotated[
    str,
    shaped(
        r"^[A-Za-z0-9_$#@^][A-Za-z0-9_.:/@#$+=~^!|&()'-]*\Z",
        "a name that is the part of a channel after the colon, too",
        min_length=1,
        max_length=128,
    ),
]
Text = Annotated[str, Meta(max_length=16384)]
Symbol = Annotated[
    str,
    shaped(r"^[A-Za-z0-9_.:/@#$+=~^-]+\Z", "a symbol: letters, digits and _.:/@#$+=~^-", min_length=1, max_length=64),
]
Key = Annotated[str, Meta(min_length=1, max_length=128, description="what a latest value replaces")]
IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=128)]
TtlMs = Annotated[int, Meta(ge=1, le=86_400_000, description="milliseconds")]
Token = Annotated[str, Meta(min_length=1, max_length=8192)]
Proof = Annotated[str, Meta(min_length=1, max_length=4096, description="RFC 9449: that the token's key is here")]
Fraction = Annotated[float, Meta(ge=0, le=1)]
MAX_FLOAT = sys.float_info.max
Finite = Annotated[float, Meta(ge=-MAX_FLOAT, le=MAX_FLOAT)]  # msgpack has NaN and infinities, and JSON has not
MessageType = Annotated[str, shaped(r"^[A-Z][A-Z0-9_]{0,63}\Z", "SCREAMING_SNAKE_CASE, at most 64 characters")]
