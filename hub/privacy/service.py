"""What a person may ask for: all that is known of them, and that it goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from hub.clock import Clock
from hub.privacy.correction import corrected
from hub.privacy.erased import ErasedList
from storage.audit import HUB
from storage.privacy import EXPORTS, Erasure, Privacy

logger = logging.getLogger("krin.privacy")

SCHEMA = "krin.privacy.export/1"
CHUNK_BYTES = 64 * 1024


class Restriction(msgspec.Struct, frozen=True):
    """What a restriction took out of sight: rows by table."""

    request: UUID
    restricted: dict[str, int]


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

    async def restrict(self, name: str, *, by: str) -> Restriction:
        """Keep everything about a person, and show it to nobody until `release`. What comes later is not meant."""
        now = self._now()
        request = await self._privacy.begin(name, "restrict", now=now)
        rows = await self._privacy.restrict(name, request, by=by, now=now)
        self._ring()
        return Restriction(request, rows)

    async def release(self, name: str, *, by: str) -> dict[str, int]:
        """End a restriction; answer the rows by table that are back. Raises NotFound."""
        rows = await self._privacy.release(name, by=by, now=self._now())
        self._ring()
        return rows

    async def correct(self, name: str, channel: str, offset: int, data: msgspec.Raw, *, by: str) -> UUID:
        """Let a durable message that a person has published say something else; answer the request's id.

        Raises NotFound, and HubError as publishing it would.
        """
        type_name, before = await self._privacy.published(name, channel, offset)
        body, key = corrected(type_name, before, data, publisher=name)
        now = self._now()
        request = await self._privacy.begin(name, "correct", now=now)
        await self._privacy.correct(name, request, channel, offset, body, key, by=by, now=now)
        self._ring()
        return request

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
