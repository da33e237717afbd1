"""The durable channel log: append batches, read them back, know each channel's head, drop the oldest.

Rule: an offset is given once, gapless per channel from 1, in the order of commits. What has been acknowledged stays
until `trim`, and a position is a pair of epoch and offset: offsets of two epochs are never compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from protocol.codec import without_trace
from storage.database import Database, Queries, columns
from storage.errors import Conflict, Rejected, StorageError

APPEND = """
SELECT given_offset, given_epoch, given_timestamp_ms, outcome
FROM krin_append($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[],
                 $9::text[])
"""
# Offsets have no gaps, so a page is a range of offsets, computed from the head. "ORDER BY ... LIMIT" alone lets the
# planner sort the whole channel while the table has not been analysed: 150 ms for a page of 100 among 380,000 messages.
# A page that is empty is one row, of the head alone.
PAGE = """
WITH c AS MATERIALIZED (
    SELECT id, coalesce(epoch, krin_epoch(n)) AS epoch, coalesce(top, 0) AS top, coalesce(first, 1) AS first,
           greatest($2::bigint, first - 1) AS low, least($3::bigint, top + 1) AS high
    FROM (SELECT $1::text COLLATE "C" AS n) AS asked LEFT JOIN channels ON name = n
)
SELECT c.epoch, c.top, c.first, m."offset", m.timestamp_ms, m.type, m.key, m.publisher, m.body, m.trace
FROM c LEFT JOIN messages AS m ON m.channel_id = c.id AND m."offset" > c.low AND m."offset" < c.high AND {page}
ORDER BY m."offset" {order}
"""
READ = PAGE.format(page='m."offset" <= c.low + $4::bigint', order="ASC")
READ_BACK = PAGE.format(page='m."offset" >= c.high - $4::bigint', order="DESC")
FIND = """
SELECT m."offset", c.epoch, m.timestamp_ms FROM channels AS c JOIN messages AS m ON m.channel_id + 0 = c.id
WHERE c.name = $1 AND m.publisher = $2 AND m.idempotency_key = $3
"""
HEADS = """
SELECT n, coalesce(c.epoch, krin_epoch(n)), coalesce(c.top, 0), coalesce(c.first, 1)
FROM (SELECT DISTINCT unnest($1::text[]) COLLATE "C" AS n) AS asked LEFT JOIN channels AS c ON c.name = n
"""
# The promise is withdrawn before the rows go, so no reader finds a hole above `first`.
WITHDRAW = """
UPDATE channels AS c SET first = greatest(c.first, least(c.top + 1, greatest(
    c.top - coalesce($2::bigint, c.top) + 1,
    coalesce((SELECT m."offset" FROM messages AS m
              WHERE m.channel_id = c.id AND m."offset" >= c.first AND m.timestamp_ms >= $3::bigint
              ORDER BY m."offset" LIMIT 1), CASE WHEN $3::bigint IS NULL THEN c.first ELSE c.top + 1 END))))
WHERE c.name = $1 RETURNING c.id, c.first
"""
LOWEST = 'SELECT coalesce(min("offset"), 1) FROM messages WHERE channel_id = $1'
DELETE = 'DELETE FROM messages WHERE channel_id = $1 AND "offset" >= $2 AND "offset" < $3'
TRIM_ROWS = 5_000  # rows per statement, so that each stays far below the statement timeout
LAST = 2**63 - 1


class NewMessage(msgspec.Struct, frozen=True):
    channel: str
    type: str
    body: bytes
    timestamp_ms: int
    publisher: str
    key: str | None = None
    idempotency_key: str | None = None
    trace: str | None = None


class Stored(msgspec.Struct, frozen=True):
    """Where a message is. With `duplicate`, where and when its idempotency key was first stored."""

    offset: int
    epoch: str
    timestamp_ms: int
    duplicate: bool = False


class StoredMessage(msgspec.Struct, frozen=True):
    channel: str
    offset: int
    epoch: str
    timestamp_ms: int
    type: str
    key: str | None
    publisher: str
    body: bytes
    trace: str | None


class Head(msgspec.Struct, frozen=True):
    """A channel's state: `top` is the newest offset (0: none yet), `first` the oldest that is still promised."""

    epoch: str
    top: int
    first: int


class MessageLog:
    """The log of all durable channels. `writer` keeps appends apart from the pool's slower readers."""

    def __init__(self, db: Database, *, writer: Queries | None = None) -> None:
        self._db = db
        self._writer = writer or db

    async def append(self, batch: Sequence[NewMessage]) -> list[Stored | StorageError]:
        """Commit a batch in one round trip and one transaction; answer for each message, in order.

        A message whose idempotency key is already stored for its channel and publisher is not stored again: its first
        position is answered, or `Conflict` if its type, key or body differ. A message that Postgres will never accept
        is answered with `Rejected`; its neighbours are stored, then in several transactions.

        `Unavailable` means definitely not stored. On `OutcomeUnknown` simply append a message that has an idempotency
        key again, or look it up with `find`; without a key nobody can tell.
        """
        answers: dict[int, Stored | StorageError] = {}
        first: dict[tuple[str, str, str], int] = {}
        repeats: list[tuple[int, int]] = []
        fresh: list[int] = []
        for place, message in enumerate(batch):
            if "\0" in _texts(message):  # found here, it costs the batch nothing
                answers[place] = Rejected("Text must not contain the character NUL.")
                continue
            if message.idempotency_key is not None:
                earlier = first.setdefault((message.channel, message.publisher, message.idempotency_key), place)
                if earlier != place:
                    repeats.append((place, earlier))
                    continue
            fresh.append(place)
        for place, answer in zip(fresh, await self._append([batch[place] for place in fresh]), strict=True):
            answers[place] = answer
        for place, earlier in repeats:
            answers[place] = _repeat(batch[place], batch[earlier], answers[earlier])
        return [answers[place] for place in range(len(batch))]

    async def _append(self, batch: list[NewMessage]) -> list[Stored | StorageError]:
        if not batch:
            return []
        try:
            rows = await self._writer.fetch(APPEND, *columns([row_of(message) for message in batch]))
        except Rejected as error:
            if len(batch) == 1:
                return [error]
            middle = len(batch) // 2  # halves, not singles: one bad message in 512 costs 19 commits instead of 512
            return await self._append(batch[:middle]) + await self._append(batch[middle:])
        except StorageError as error:
            return [error] * len(batch)
        return [_answer(*row) for row in rows]

    async def find(self, channel: str, publisher: str, idempotency_key: str) -> Stored | None:
        """Where a message with this key was stored, or None. Never answers from memory."""
        row = await self._writer.fetch_row(FIND, channel, publisher, idempotency_key)
        return Stored(row[0], row[1], row[2], True) if row else None

    async def read(
        self, channel: str, *, after: int, limit: int, reverse: bool = False, before: int | None = None
    ) -> list[StoredMessage]:
        """Messages with offsets between `after` and `before`, both excluded; the newest first if `reverse`.

        Nothing below `Head.first` is answered, so a page that does not begin right after `after` tells of a gap.
        """
        return (await self.page(channel, after=after, limit=limit, reverse=reverse, before=before))[1]

    async def page(
        self, channel: str, *, after: int, limit: int, reverse: bool = False, before: int | None = None
    ) -> tuple[Head, list[StoredMessage]]:
        """As `read`, with the channel's head at the same moment."""
        query = READ_BACK if reverse else READ
        rows = await self._db.fetch(query, channel, after, LAST if before is None else before, limit)
        epoch, top, first = rows[0][:3]
        messages = [
            StoredMessage(channel, offset, epoch, *rest) for _, _, _, offset, *rest in rows if offset is not None
        ]
        return Head(epoch, top, first), messages

    async def head(self, channel: str) -> Head:
        return (await self.heads([channel]))[channel]

    async def heads(self, channels: Iterable[str]) -> dict[str, Head]:
        """The heads of these channels, in one query; asking leaves nothing behind.

        A channel that nobody has written to is empty and has the epoch that its first message will have.
        """
        return {name: Head(*head) for name, *head in await self._db.fetch(HEADS, list(channels))}

    async def channels(self, prefix: str = "") -> list[str]:
        """The channels with messages whose names begin with `prefix`, such as `orders:`, in order."""
        query = "SELECT name FROM channels WHERE starts_with(name, $1) AND top > 0 ORDER BY name"
        rows = await self._db.fetch(query, prefix)
        return [row["name"] for row in rows]

    async def trim(self, channel: str, *, keep: int | None = None, before_ms: int | None = None) -> int:
        """Drop all but the newest `keep` messages, and those stored before `before_ms`; answer how many went.

        The epoch stays: `Head.first` tells which positions can still be resumed, and it is raised before the first
        row is deleted. Idempotency keys go with their messages.
        """
        row = await self._db.fetch_row(WITHDRAW, channel, keep, before_ms)
        if row is None:
            return 0
        # By ranges from the lowest row: a search for "the oldest" would wade through what was just deleted.
        lowest = await self._db.fetch_value(LOWEST, row["id"])
        dropped = 0
        for start in range(lowest, row["first"], TRIM_ROWS):
            end = min(start + TRIM_ROWS, row["first"])
            dropped += int((await self._db.execute(DELETE, row["id"], start, end)).rpartition(" ")[2])
        return dropped


def _texts(message: NewMessage) -> str:
    optional = f"{message.key}{message.idempotency_key}{message.trace}"
    return f"{message.channel}{message.type}{message.publisher}{optional}"


def row_of(message: NewMessage) -> tuple[str | int | bytes | None, ...]:
    return (
        message.channel,
        message.timestamp_ms,
        message.type,
        message.key,
        message.publisher,
        message.idempotency_key,
        _body_hash(message) if message.idempotency_key is not None else None,
        message.body,
        message.trace,
    )


def _body_hash(message: NewMessage) -> bytes:
    """What "the same message" means for an idempotency key: its type, key and body, not its time or trace."""
    said = msgspec.msgpack.encode((message.type, message.key, without_trace(message.body)))
    return hashlib.blake2b(said, digest_size=16).digest()


def _answer(offset: int, epoch: str, timestamp_ms: int, outcome: str) -> Stored | StorageError:
    if outcome == "conflict":
        return Conflict("The idempotency key was used before for another message.")
    return Stored(offset, epoch, timestamp_ms, outcome == "duplicate")


def _repeat(message: NewMessage, earlier: NewMessage, answer: Stored | StorageError) -> Stored | StorageError:
    """The answer for a key that stands twice in one batch, from the answer for where it stood first."""
    if not isinstance(answer, Stored):
        return answer
    if _body_hash(message) != _body_hash(earlier):
        return Conflict("The idempotency key was used before for another message.")
    return msgspec.structs.replace(answer, duplicate=True)
