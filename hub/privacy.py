"""The rights of the people whose data is here: to have it, to have it gone, and that it stays gone."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hub.clock import Clock
from protocol.errors import HubError
from storage.audit import HUB
from storage.consents import Consents
from storage.errors import StorageError
from storage.privacy import EXPORTS, Erasure, Privacy
from storage.retention import Retention
from storage.revocations import Kind, erased_mark

logger = logging.getLogger("krin.privacy")

SCHEMA = "krin.privacy.export/1"
CHUNK_BYTES = 64 * 1024
RETENTION_INTERVAL_S = 3600.0
FORGET_AGAIN_S = 5.0
MAX_OPT_OUTS = 10_000


class _Erased(msgspec.Struct, frozen=True):
    """One line of the list. `person` is HMAC-SHA256(key, name) in hexadecimal, `at_ms` when."""

    person: str
    at_ms: int


class ErasedList:
    """Who was erased, outside the database, so that a restored backup does not bring anybody back.

    The list alone tells nobody's name: its HMAC key is in another file.
    """

    def __init__(self, file: Path, *, key: bytes) -> None:
        self._file = file
        self._key = key

    def hash(self, name: str) -> bytes:
        return hmac.new(self._key, name.encode(), hashlib.sha256).digest()

    def add(self, name: str, *, at_ms: int) -> None:
        """Raises OSError."""
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, msgspec.json.encode(_Erased(self.hash(name).hex(), at_ms)) + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)

    def entries(self) -> dict[bytes, datetime]:
        """Hash -> when, the last time. A line cut off by a crash belongs to an erasure that was never answered."""
        found: dict[bytes, datetime] = {}
        if self._file.exists():
            for line in self._file.read_bytes().splitlines():
                try:
                    erased = msgspec.json.decode(line, type=_Erased)
                except msgspec.MsgspecError:
                    continue
                found[bytes.fromhex(erased.person)] = datetime.fromtimestamp(erased.at_ms / 1000, UTC)
        return found


class PrivacyService:
    def __init__(
        self,
        privacy: Privacy,
        erased: ErasedList,
        *,
        clock: Clock,
        ring: Callable[[], None],
    ) -> None:
        """`ring`: tells every node to look at the revocations, where it learns whom to forget."""
        self._privacy = privacy
        self._erased = erased
        self._clock = clock
        self._ring = ring

    async def export(self, name: str, *, by: str) -> AsyncIterator[bytes]:
        """One JSON document about a person, in pieces: memory stays flat however much there is.

        `schema`, `person`, `generated_at` (milliseconds), and under `tables` an array of rows for each table.
        """
        now = self._now()
        request = await self._privacy.begin(name, "export", now=now)
        opening = msgspec.json.encode({"schema": SCHEMA, "person": name, "generated_at": self._clock.now_ms()})
        piece = bytearray(opening[:-1] + b',"tables":{')
        async with self._privacy.export(name, request, by=by, now=now) as rows:
            tables = iter(EXPORTS)
            current = ""
            async for table, row in rows:
                while table != current:  # also the tables in between, which have no rows
                    piece += _begun(current, current := next(tables))
                    first = True
                piece += row if first else b"," + row
                first = False
                if len(piece) >= CHUNK_BYTES:
                    yield bytes(piece)
                    piece.clear()
            for table in tables:
                piece += _begun(current, table)
                current = table
        yield bytes(piece + b"]}}\n")

    async def erase(self, name: str, *, by: str) -> Erasure:
        """Erase a person everywhere. Once begun it is finished: if this fails half-way, at the next start."""
        now = self._now()
        request = await self._privacy.begin(name, "erase", now=now)
        await asyncio.to_thread(self._erased.add, name, at_ms=self._clock.now_ms())
        erasure = await self._privacy.erase(name, request, self._erased.hash(name), by=by, now=now)
        self._ring()
        return erasure

    async def reapply(self) -> int:
        """Erase again whom a restored database has brought back, before anybody is served; answer how many.

        Who came anew under the name of somebody erased earlier is somebody else, and stays.
        """
        entries = await asyncio.to_thread(self._erased.entries)
        missing = {hash: at for hash, at in entries.items() if hash not in await self._privacy.erased()}
        if not missing:
            return 0
        found = [
            name
            async for name, since in self._privacy.known_names()
            if (at := missing.get(self._erased.hash(name))) is not None and (since is None or since <= at)
        ]
        for name in found:
            request = await self._privacy.begin(name, "erase", now=self._now())
            await self._privacy.erase(name, request, self._erased.hash(name), by=HUB, now=self._now())
        for hash, at in missing.items():
            await self._privacy.note_erased(hash, at)
        if found:
            logger.warning("%d erased persons came back with a restored database and were erased again", len(found))
        return len(found)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)


def _begun(before: str, table: str) -> bytes:
    return (b"]," if before else b"") + msgspec.json.encode(table) + b":["


class Forgetting:
    """Drops what this node, and the broker, hold of erased persons in memory. It learns of them by revocations, which
    every node reads: also of those who were erased on the command line."""

    def __init__(self, forget: Callable[[Callable[[str], bool]], Awaitable[None]], *, clock: Clock) -> None:
        """`forget` takes what tells whether a publisher is meant. It may raise HubError, and is then asked again."""
        self._forget = forget
        self._clock = clock
        self._marks: set[str] = set()
        self._heard = asyncio.Event()

    def hear(self, touched: Set[tuple[Kind, str]]) -> None:
        marks = {subject for kind, subject in touched if kind == "erased"}
        if marks:
            self._marks |= marks
            self._heard.set()

    async def run(self) -> None:
        while True:
            await self._heard.wait()
            self._heard.clear()
            marks, self._marks = self._marks, set()
            known: dict[str, bool] = {}  # few publishers, many messages

            def theirs(publisher: str, marks: set[str] = marks, known: dict[str, bool] = known) -> bool:
                if publisher not in known:
                    known[publisher] = erased_mark(publisher) in marks
                return known[publisher]

            try:
                await self._forget(theirs)
            except HubError as failure:
                logger.warning("erased persons are not yet forgotten by the broker: %s", failure)
                self._marks |= marks
                self._heard.set()
                await self._clock.sleep(FORGET_AGAIN_S)


class OptOuts:
    """Notes who sent `Sec-GPC: 1` as a refusal of sale and sharing: once, and never in the way of the request."""

    def __init__(self, consents: Consents, *, clock: Clock) -> None:
        self._consents = consents
        self._clock = clock
        self._noted: set[str] = set()
        self._waiting: asyncio.Queue[str] = asyncio.Queue(MAX_OPT_OUTS)

    def hear(self, name: str) -> None:
        if name in self._noted or self._waiting.full():  # the browser says it again with the next request
            return
        if len(self._noted) >= MAX_OPT_OUTS:
            self._noted.clear()
        self._noted.add(name)
        self._waiting.put_nowait(name)

    async def run(self) -> None:
        while True:
            name = await self._waiting.get()
            now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
            try:
                await self._consents.put(name, "sale_or_sharing", False, source="sec-gpc", now=now, by=name)
            except StorageError as failure:
                logger.warning("an opt-out could not be noted: %s", failure)
                self._noted.discard(name)


class RetentionJob:
    """Applies the retention windows once an hour. `deleted` counts rows by table; `overdue` requests."""

    def __init__(self, retention: Retention, privacy: Privacy, *, clock: Clock) -> None:
        self._retention = retention
        self._privacy = privacy
        self._clock = clock
        self.deleted: dict[str, int] = {}
        self.overdue = 0

    async def run(self) -> None:
        while True:
            await self._clock.sleep(RETENTION_INTERVAL_S)
            now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
            try:
                for table, rows in (await self._retention.apply(now)).items():
                    self.deleted[table] = self.deleted.get(table, 0) + rows
                    logger.info("retention: %d rows of %s deleted", rows, table)
                waiting = await self._privacy.requests(open_only=True)
                self.overdue = sum(request.due_at < now for request in waiting)
            except StorageError as failure:
                logger.warning("retention waits: %s", failure)
