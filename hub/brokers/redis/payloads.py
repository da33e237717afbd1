"""How publications travel through Redis: packed, several of one channel in one sealed payload.

    EPOCH SPACE FIRST-OFFSET SPACE SKIPPED SPACE SEAL CONTENT

The content is the packed publications, each after its length in four bytes. `SKIPPED` names those, counted from 0, that
turned out to be repeats: the seal was made before Redis knew. Payloads hold nothing that could run: msgpack of a fixed
shape, and what does not fit it is refused.
"""

from __future__ import annotations

import msgspec

from hub.brokers.redis.seals import SEAL_BYTES, NotSealed, Seals, Seen
from hub.clock import Clock
from hub.namespaces import Namespace
from hub.publication import Publication

_encode = msgspec.msgpack.Encoder().encode
_Packed = tuple[str, str | None, int, str | None, int, bytes]  # type, key, timestamp, publisher, expires (ms), body
_decode = msgspec.msgpack.Decoder(_Packed).decode


def base(channel: str) -> str:
    """All keys of a channel, and its pub/sub channel, share one hash tag: one slot in a cluster."""
    return f"krin:{{{channel}}}"


def channel_of(where: bytes) -> str:
    """The inverse of `base`."""
    return where[6:-1].decode()


class Payloads:
    def __init__(self, seals: Seals, *, clock: Clock) -> None:
        self._seals = seals
        self._clock = clock

    def pack(self, publication: Publication) -> bytes:
        expires = 0
        if publication.expires_at is not None:
            expires = self._clock.now_ms() + int((publication.expires_at - self._clock.monotonic()) * 1000)
        packed = _encode(
            (
                publication.type,
                publication.key,
                publication.timestamp,
                publication.publisher,
                expires,
                publication.body,
            )
        )
        return len(packed).to_bytes(4, "big") + packed

    def unpack(self, channel: str, policy: Namespace, epoch: str, offset: int, packed: bytes) -> Publication:
        """`packed` as `pack` made it. Raises msgspec.MsgspecError."""
        type_name, key, timestamp, publisher, expires, body = _decode(packed[4:])
        publication = Publication(
            channel,
            type_name,
            body=body,
            timestamp=timestamp,
            key=key,
            publisher=publisher,
            conflatable=policy.latest,
            expires_at=self._clock.monotonic() + (expires - self._clock.now_ms()) / 1000 if expires else None,
        )
        publication.place(epoch, offset)
        return publication

    def publisher_of(self, packed: bytes) -> str:
        """Raises msgspec.MsgspecError."""
        return _decode(packed[4:])[3] or ""

    def batch_seal(self, channel: str, content: bytes) -> bytes:
        """For publications that Redis will give their offsets."""
        return self._seals.seal(channel, b"", content)

    def bell(self, publication: Publication) -> bytes:
        """The whole payload of a publication that has its offset from Postgres."""
        place, content = f"{publication.epoch} {publication.offset}".encode(), self.pack(publication)
        return place + b"  " + self._seals.seal(publication.channel, place, content) + content

    def open(self, channel: str, policy: Namespace, payload: bytes, seen: Seen) -> list[Publication]:
        """The publications of a payload that came on this channel. Raises NotSealed."""
        try:
            epoch, first, skipped, rest = payload.split(b" ", 3)
            seal, content = rest[:SEAL_BYTES], rest[SEAL_BYTES:]
            place = epoch + b" " + first if policy.durable else b""
            self._seals.check(channel, place, seal, content)
            if not policy.durable:  # a place of a durable channel is sealed, and nobody is given it twice
                seen.note(seal)
            return self._parts(channel, policy, epoch.decode(), int(first), _numbers(skipped), content)
        except (ValueError, msgspec.MsgspecError):  # not ours: somebody else publishes here
            raise NotSealed("malformed") from None

    def _parts(
        self, channel: str, policy: Namespace, epoch: str, offset: int, skipped: frozenset[int], content: bytes
    ) -> list[Publication]:
        found = []
        start = number = 0
        while start < len(content):
            end = start + 4 + int.from_bytes(content[start : start + 4], "big")
            if number not in skipped:
                found.append(self.unpack(channel, policy, epoch, offset, content[start:end]))
                offset += 1
            start = end
            number += 1
        return found

    def announcement(self, topic: str, payload: bytes) -> bytes:
        content = topic.encode() + b"\n" + payload
        return self._seals.seal("", b"announcement", content) + content

    def open_announcement(self, payload: bytes, seen: Seen) -> tuple[str, bytes]:
        """Topic and payload. Raises NotSealed."""
        seal, content = payload[:SEAL_BYTES], payload[SEAL_BYTES:]
        self._seals.check("", b"announcement", seal, content)
        seen.note(seal)
        topic, _, body = content.partition(b"\n")
        return topic.decode(), body


def _numbers(text: bytes) -> frozenset[int]:
    return frozenset(int(each) for each in text.split(b",")) if text else frozenset()
