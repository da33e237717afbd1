"""The log of orders: one engine at a time appends, in group commits, and everything is made from it again.

The rows are chained: hash = SHA-256(the hash before || `sequence account recorded_us ` || body), with the numbers in
decimal and a space after each of the three. Of an erased person the rows keep their hash and lose account and body.

Rule: an event, its order's row, and the messages about it are committed together or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import msgspec

from storage.database import Database, Queries, columns
from storage.errors import StorageError
from storage.leadership import Fenced, Lock, leadership
from storage.messages import NewMessage, Stored, row_of

LOCK = 0x6F726472  # "ordr": the advisory lock that the engine holds
TAKE_OVER = "UPDATE order_engine SET epoch = epoch + 1, node = $1 RETURNING epoch, sequence, hash"
COMMIT = """
SELECT given_offset, given_epoch, given_timestamp_ms, outcome
FROM krin_commit_orders($1, $2, $3, $4,
    $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[],
    $10::text[], $11::text[], $12::text[], $13::bytea[],
    $14::text[], $15::text[], $16::text[], $17::text[], $18::bigint[], $19::text[], $20::bytea[],
    $21::text[], $22::text[],
    $23::text[], $24::bigint[], $25::text[], $26::text[], $27::text[], $28::text[], $29::bytea[], $30::bytea[],
    $31::text[])
"""
EVENT = "e.sequence, e.account, e.order_id, e.recorded_us, e.body::text, e.hash"
OPEN = f"""
SELECT {EVENT} FROM orders AS o JOIN order_events AS e USING (order_id)
WHERE o.open AND e.sequence > $1 ORDER BY e.sequence LIMIT $2
"""
OF_ORDER = f"SELECT {EVENT} FROM order_events AS e WHERE e.order_id = $1 ORDER BY e.sequence"
ALL = f"SELECT {EVENT} FROM order_events AS e WHERE e.sequence > $1 ORDER BY e.sequence LIMIT $2"
EXECUTIONS = f"""
SELECT {EVENT}, o.symbol, o.side FROM order_events AS e JOIN orders AS o USING (order_id)
WHERE e.exec_type IN ('TRADE', 'TRADE_CANCEL', 'TRADE_CORRECT') AND e.sequence > $1 ORDER BY e.sequence LIMIT $2
"""
NAME = "SELECT order_id, fingerprint FROM order_names WHERE account = $1 AND client_order_id = $2"
OF_ACCOUNT = """
SELECT order_id, sequence FROM orders
WHERE account = $1 AND sequence < $2 AND ($3::text IS NULL OR symbol = $3) ORDER BY sequence DESC LIMIT $4
"""
END = "SELECT sequence, hash FROM order_engine"
SET_SWITCH = """
INSERT INTO order_switches (account, deadline_us) VALUES ($1, $2)
ON CONFLICT (account) DO UPDATE SET deadline_us = excluded.deadline_us
"""
ERASED = b"null"  # the body of an erased event
CHUNK = 1000
LAST = 2**63 - 1


class Taken(StorageError):
    """Names of the batch are in use. Nothing was written; `places` are theirs in `OrderBatch.names`."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__("A name of an order was used before.")
        self.places = places


class NewOrder(msgspec.Struct, frozen=True):
    """`event` is the place of its first event in the batch."""

    order_id: str
    account: str
    symbol: str
    side: Literal["BUY", "SELL"]
    event: int


class NewName(msgspec.Struct, frozen=True):
    account: str
    client_order_id: str
    order_id: str
    fingerprint: bytes


class NewEvent(msgspec.Struct, frozen=True):
    """`exec_id` is unique within the order. `body` is JSON."""

    order_id: str
    account: str
    exec_type: str
    exec_id: str
    ts_event: int
    body: bytes


class OrderBatch(msgspec.Struct):
    """One commit. `ended` and `reopened` are orders that may not, or may again, trade."""

    orders: list[NewOrder] = []
    names: list[NewName] = []
    events: list[NewEvent] = []
    ended: list[str] = []
    reopened: list[str] = []
    messages: list[NewMessage] = []


class LogEnd(msgspec.Struct, frozen=True):
    """Where the log ends, as the engine of `epoch` knows it."""

    epoch: int
    sequence: int
    hash: bytes


class StoredEvent(msgspec.Struct, frozen=True):
    sequence: int
    account: str
    order_id: str
    recorded_us: int
    body: bytes
    hash: bytes


class StoredExecution(msgspec.Struct, frozen=True):
    event: StoredEvent
    symbol: str
    side: Literal["BUY", "SELL"]


class OrderLog:
    """`writer` keeps commits apart from the pool's slower readers."""

    def __init__(self, db: Database, *, writer: Queries | None = None) -> None:
        self._db = db
        self._writer = writer or db

    def leadership(self) -> AbstractAsyncContextManager[Lock | None]:
        """The engine's lock, or None if somebody else has it. Raises StorageError."""
        return leadership(self._db, LOCK)

    async def take_over(self, node: str) -> LogEnd:
        """From now on every commit of an earlier engine is refused."""
        return LogEnd(*await self._writer.fetch_row(TAKE_OVER, node))

    async def commit(self, batch: OrderBatch, end: LogEnd, *, now_us: int) -> tuple[list[Stored], LogEnd]:
        """Commit in one round trip and one transaction; answers the places of the messages and the new end.

        Raises Fenced, Taken: nothing was written. Unavailable: neither. OutcomeUnknown: read the log.
        """
        hashes = _chain(end, batch.events, now_us)
        head = hashes[-1] if hashes else end.hash
        orders = [
            (each.order_id, each.account, each.symbol, each.side, end.sequence + 1 + each.event)
            for each in batch.orders
        ]
        names = [(each.account, each.client_order_id, each.order_id, each.fingerprint) for each in batch.names]
        events = [
            (each.order_id, each.account, each.exec_type, each.exec_id, each.ts_event, each.body.decode(), link)
            for each, link in zip(batch.events, hashes, strict=True)
        ]
        rows = await self._writer.fetch(
            COMMIT,
            *(end.epoch, end.sequence, head, now_us),
            *columns(orders, width=5),
            *columns(names, width=4),
            *columns(events, width=7),
            *(batch.ended, batch.reopened),
            *columns([row_of(message) for message in batch.messages], width=9),
        )
        outcome = rows[0]["outcome"] if rows else ""
        if outcome == "fenced":
            raise Fenced("Another engine has taken over.")
        if outcome == "taken":
            raise Taken([row["given_offset"] - 1 for row in rows])
        stored = [Stored(row["given_offset"], row["given_epoch"], row["given_timestamp_ms"]) for row in rows]
        return stored, LogEnd(end.epoch, end.sequence + len(batch.events), head)

    async def open_events(self) -> AsyncIterator[StoredEvent]:
        """The events of all orders that may still trade, in order."""
        async for row in self._pages(OPEN):
            yield _event(row)

    async def events(self, order_id: str) -> list[StoredEvent]:
        return [_event(row) for row in await self._db.fetch(OF_ORDER, order_id)]

    async def all_events(self) -> AsyncIterator[StoredEvent]:
        async for row in self._pages(ALL):
            yield _event(row)

    async def executions(self) -> AsyncIterator[StoredExecution]:
        """Every trade, bust and correction, in order."""
        async for row in self._pages(EXECUTIONS):
            yield StoredExecution(_event(row), row["symbol"], row["side"])

    async def find(self, account: str, client_order_id: str) -> tuple[str, bytes] | None:
        """(order_id, fingerprint) of a name."""
        row = await self._db.fetch_row(NAME, account, client_order_id)
        return (row["order_id"], row["fingerprint"]) if row else None

    async def orders(
        self, account: str, *, before: int | None = None, symbol: str | None = None, limit: int = 100
    ) -> list[tuple[str, int]]:
        """(order_id, sequence) of an account's orders, the newest first."""
        rows = await self._db.fetch(OF_ACCOUNT, account, LAST if before is None else before, symbol, limit)
        return [(row["order_id"], row["sequence"]) for row in rows]

    async def switches(self) -> dict[str, int]:
        """Account -> when its orders are to be canceled, in microseconds since 1970."""
        return {row["account"]: row["deadline_us"] for row in await self._db.fetch("SELECT * FROM order_switches")}

    async def set_switch(self, account: str, deadline_us: int | None) -> None:
        """None: disarmed."""
        if deadline_us is None:
            await self._db.execute("DELETE FROM order_switches WHERE account = $1", account)
        else:
            await self._db.execute(SET_SWITCH, account, deadline_us)

    async def verify(self) -> int | None:
        """Follow the chain from its start; the number of the first row that does not fit, or None. The engine may go on
        writing meanwhile."""
        end = await self._db.fetch_row(END)
        link = bytes(32)
        expected = 1
        async for event in self.all_events():
            made = _link(link, event.sequence, event.account, event.recorded_us, event.body)
            if event.sequence != expected or (event.hash != made and event.body != ERASED):
                return expected
            link = event.hash
            if expected == end["sequence"] and link != end["hash"]:
                return expected
            expected += 1
        newest = await self._db.fetch_row(END)
        if expected <= end["sequence"]:
            return expected
        return newest["sequence"] + 1 if expected > newest["sequence"] + 1 else None

    async def _pages(self, query: str) -> AsyncIterator[Any]:
        after = 0
        while rows := await self._db.fetch(query, after, CHUNK):
            for row in rows:
                yield row
            after = rows[-1]["sequence"]


def _event(row: Any) -> StoredEvent:
    return StoredEvent(
        row["sequence"], row["account"], row["order_id"], row["recorded_us"], row["body"].encode(), row["hash"]
    )


def _chain(end: LogEnd, events: Sequence[NewEvent], now_us: int) -> list[bytes]:
    hashes = []
    link = end.hash
    for number, event in enumerate(events, start=end.sequence + 1):
        link = _link(link, number, event.account, now_us, event.body)
        hashes.append(link)
    return hashes


def _link(before: bytes, sequence: int, account: str, recorded_us: int, body: bytes) -> bytes:
    return hashlib.sha256(before + f"{sequence} {account} {recorded_us} ".encode() + body).digest()
