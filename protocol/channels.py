"""The grammar of channel names: `namespace:name`.

The first colon splits; the name takes the rest, because symbols themselves hold `/`, `-`, `.` and `:`
(`book:10:BTC/USDT:USDT`). Comparison is byte for byte and case-sensitive.
"""

from __future__ import annotations

import re

from protocol.errors import ErrorCode, HubError

MAX_CHANNEL_BYTES = 255

NAMESPACE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")

# An ASCII allow-list leaves no room for look-alikes, direction overrides or zero-width characters.
# `\Z`, not `$`: `$` also matches before a trailing newline.
_CHANNEL = re.compile(r"([a-z][a-z0-9_]{0,31}):([A-Za-z0-9_$#@^][A-Za-z0-9_.:/@#$+=~^!|&()'-]*)\Z")


def split_channel(channel: str) -> tuple[str, str]:
    """`namespace:name` -> (namespace, name). Raises HubError(bad_request) for anything outside the grammar."""
    if len(channel) <= MAX_CHANNEL_BYTES and (match := _CHANNEL.match(channel)):
        return match[1], match[2]
    raise HubError(
        ErrorCode.BAD_REQUEST,
        f"a channel is namespace:name, at most {MAX_CHANNEL_BYTES} ASCII characters without white space",
        path="$.channel",
    )


def matches(pattern: str, channel: str) -> bool:
    """Whether a channel falls under a pattern: a literal name, or a literal prefix followed by one final `*`.

    No other wildcard exists, so matching is linear and nobody's pattern reaches a regular expression.
    """
    if pattern.endswith("*"):
        return channel.startswith(pattern[:-1])
    return channel == pattern
