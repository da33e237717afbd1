"""Seals on what nodes tell each other through Redis: only who holds the cluster's key can make one.

A seal is a stamp (who sealed, and the how manieth of that node it is) and an HMAC-SHA256 over channel, place, stamp and
content. A message put into another channel or changed in any way does not fit its seal. One that is sent again does:
`Seen` knows it by its stamp.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict

ORIGIN_BYTES = 8
STAMP_BYTES = ORIGIN_BYTES + 8
SEAL_BYTES = STAMP_BYTES + 32
MAX_ORIGINS = 256


class NotSealed(Exception):
    """`reason` is forged, replayed or malformed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Seals:
    """Makes and checks the seals of one node."""

    def __init__(self, secret: bytes) -> None:
        key = hmac.digest(secret, b"krin bells v1", "sha256")
        self._keyed = hmac.new(key, digestmod="sha256")  # copied for each seal: 2 us instead of 5 with a new one
        self._origin = secrets.token_bytes(ORIGIN_BYTES)
        self._count = 0

    def seal(self, channel: str, place: bytes, content: bytes) -> bytes:
        """`place` is the position in the channel where the sender knows it: a bell's; empty for the others."""
        self._count += 1
        stamp = self._origin + self._count.to_bytes(8, "big")
        return stamp + self._code(channel, place, stamp, content)

    def check(self, channel: str, place: bytes, seal: bytes, content: bytes) -> None:
        """Raises NotSealed(forged)."""
        stamp, code = seal[:STAMP_BYTES], seal[STAMP_BYTES:]
        if not hmac.compare_digest(code, self._code(channel, place, stamp, content)):
            raise NotSealed("forged")

    def _code(self, channel: str, place: bytes, stamp: bytes, content: bytes) -> bytes:
        name = channel.encode()
        lengths = len(name).to_bytes(2, "big") + len(place).to_bytes(2, "big")  # no two readings of the same bytes
        code = self._keyed.copy()
        code.update(b"".join((lengths, name, place, stamp, content)))
        return code.digest()


class Seen:
    """The newest stamp of each node on one channel. A node counts up, and its messages come in order."""

    __slots__ = ("_newest",)

    def __init__(self) -> None:
        self._newest: OrderedDict[bytes, bytes] = OrderedDict()

    def note(self, seal: bytes) -> None:
        """Raises NotSealed(replayed)."""
        origin, stamp = seal[:ORIGIN_BYTES], seal[ORIGIN_BYTES:STAMP_BYTES]
        if stamp <= self._newest.get(origin, b""):
            raise NotSealed("replayed")
        self._newest[origin] = stamp
        self._newest.move_to_end(origin)
        if len(self._newest) > MAX_ORIGINS:
            self._newest.popitem(last=False)
