"""What a webhook is sent: `type`, `timestamp` and `data`, as Standard Webhooks has it. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from hub.publication import Publication
from hub.webhooks.reach import Lost
from hub.webhooks.signing import message_id
from protocol.codec import JSON
from protocol.positions import Position

LOST = "krin.lost"
TEST = "krin.test"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """`to`: the channel's position once this has been delivered."""

    id: str
    channel: str
    to: Position
    body: bytes


def of_publication(webhook: str, publication: Publication, epoch: str) -> Message:
    """`data` is the publication as a socket has it, always with its epoch."""
    channel, offset = publication.channel, publication.offset
    return Message(
        id=message_id(webhook, channel, epoch, offset),
        channel=channel,
        to=Position(epoch, offset),
        body=_body(
            publication.type, publication.timestamp, {**orjson.loads(publication.encoded(JSON)), "epoch": epoch}
        ),
    )


def of_loss(webhook: str, channel: str, lost: Lost, now_ms: int) -> Message:
    return Message(
        id=message_id(webhook, channel, lost.to.epoch, lost.to.offset, LOST),
        channel=channel,
        to=lost.to,
        body=_body(LOST, now_ms, {"channel": channel, **msgspec.to_builtins(lost)}),
    )


def of_test(webhook: str, number: str, now_ms: int) -> Message:
    return Message(
        id=message_id(webhook, "", number, 0, TEST),
        channel="",
        to=Position("", 0),
        body=_body(TEST, now_ms, {"webhook": webhook}),
    )


def _body(kind: str, timestamp_ms: int, data: dict[str, Any]) -> bytes:
    when = datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return orjson.dumps({"type": kind, "timestamp": when.replace("+00:00", "Z"), "data": data})
