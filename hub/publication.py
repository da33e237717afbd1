"""A message on its way through the hub. Encoded once per wire format, however many subscribers it has."""

from __future__ import annotations

import hashlib

import msgspec

from protocol import codec as codecs
from protocol.codec import Codec


class Standing(msgspec.Struct, frozen=True):
    """What a message of the market says of itself: its `state`, and when it was made, in microseconds."""

    state: str | None = None
    ts_event: int | None = None


class _Body(msgspec.Struct, frozen=True):
    data: Standing


_BODY = msgspec.json.Decoder(_Body)


class Publication:
    """A validated message. `offset` and `epoch` are set once, by the channel's offset authority (`place`).

    `body` is the JSON fragment made by `codec.encode_body`. `conflatable` messages of one key may replace each other
    while they wait for a slow reader. `expires_at` is monotonic: after it the message is not worth sending.
    """

    __slots__ = (
        "_json",
        "_msgpack",
        "_standing",
        "announces_epoch",
        "body",
        "channel",
        "conflatable",
        "epoch",
        "expires_at",
        "key",
        "offset",
        "publisher",
        "timestamp",
        "type",
    )

    def __init__(
        self,
        channel: str,
        type: str,
        *,
        body: bytes,
        timestamp: int,
        key: str | None = None,
        publisher: str | None = None,
        conflatable: bool = False,
        expires_at: float | None = None,
    ) -> None:
        self.channel = channel
        self.type = type
        self.key = key
        self.timestamp = timestamp
        self.body = body
        self.publisher = publisher
        self.conflatable = conflatable
        self.expires_at = expires_at
        self.offset = 0
        self.epoch = ""
        self.announces_epoch = False
        self._json: bytes | None = None
        self._msgpack: bytes | None = None
        self._standing: Standing | None = None

    def place(self, epoch: str, offset: int) -> None:
        self.epoch = epoch
        self.offset = offset

    def standing(self) -> Standing:
        """Read once, however many subscribers ask. Empty for a message that says nothing of the kind."""
        if self._standing is None:
            try:
                self._standing = _BODY.decode(b"{" + self.body + b"}").data
            except msgspec.ValidationError:
                self._standing = Standing()
        return self._standing

    def body_hash(self) -> bytes:
        """Tells a repeated message from another one under the same idempotency key."""
        said = self.type.encode() + b"\0" + codecs.without_trace(self.body)
        return hashlib.blake2b(said, digest_size=16).digest()

    def encoded(self, codec: Codec) -> bytes:
        """The complete message in one format."""
        if codec is codecs.JSON:
            if self._json is None:
                self._json = self._encode()
            return self._json
        if self._msgpack is None:
            self._msgpack = codecs.publication_msgpack(self.encoded(codecs.JSON))
        return self._msgpack

    def encoded_with(self, codec: Codec, *, skipped: int) -> bytes:
        """As `encoded`, for a reader for whom `skipped` earlier values of this key were merged into this one."""
        if not skipped:
            return self.encoded(codec)
        wire = self._encode(skipped)
        return wire if codec is codecs.JSON else codecs.publication_msgpack(wire)

    def _encode(self, skipped: int = 0) -> bytes:
        head = codecs.head(self.type, self.channel, self.offset, self.timestamp)
        return codecs.publication_json(
            head + self.body, epoch=self.epoch if self.announces_epoch else None, skipped=skipped
        )
