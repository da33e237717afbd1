"""What security events become: rows of the audit log, in batches, with floods of denied attempts counted together.

Rules: hearing an event never waits and never fails. Nobody's denied attempts can fill the disk (FloodFilter) or crowd
out what others did (half of the queue is theirs). What was lost all the same is counted, and the loss is audited.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import logging
from collections import deque
from typing import Any, Literal

from hub.clock import Clock
from hub.guard.events import SecurityEvent, denied
from storage.audit import AuditEntry, AuditTable
from storage.errors import StorageError

logger = logging.getLogger("krin.audit")

WINDOW_S = 1.0
ROWS_PER_ADDRESS = 10  # denied attempts of one name from one address that get rows of their own within a window
ROWS_PER_NAME = 100  # from all addresses
MAX_WAITING = 10_000
MAX_BATCH = 200  # rows in one statement: some 0.1 s, far below its timeout
RETRY_S = 0.5
FLUSH_S = 2.0  # at the end: what Postgres has not taken by then is lost


class FloodFilter:
    """Which denied attempts get rows of their own. Pure: windows begin and end when told to.

    The first of its kind (name, user, address, target) in a window does; equal ones are counted. Past the bounds above
    different ones are counted too, by what they have in common: the address, then only the name.
    """

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str, str, str], int] = {}
        self._seen: set[tuple[str, str, str, str]] = set()
        self._rows: dict[tuple[str, str], int] = {}  # by (name, address), and by (name, "*")

    def admit(self, event: SecurityEvent) -> bool:
        """Whether this attempt is written down by itself; otherwise it is counted."""
        kind = (event.name, event.user, event.address, event.target)
        here, everywhere = (event.name, event.address), (event.name, "*")
        if kind not in self._seen:
            if self._rows.get(everywhere, 0) >= ROWS_PER_NAME:
                kind = (event.name, "", "", "")
            elif self._rows.get(here, 0) >= ROWS_PER_ADDRESS:
                kind = (event.name, "", event.address, "")
            else:
                self._seen.add(kind)
                for scope in (here, everywhere):
                    self._rows[scope] = self._rows.get(scope, 0) + 1
                return True
        self._counted[kind] = self._counted.get(kind, 0) + 1
        return False

    def close_window(self) -> list[SecurityEvent]:
        """One event for each kind that was counted, with how many `attempts`; then everything begins anew."""
        told = [
            denied(name, address, target, user=user, detail={"attempts": attempts})
            for (name, user, address, target), attempts in self._counted.items()
        ]
        self._counted.clear()
        self._seen.clear()
        self._rows.clear()
        return told


class AuditLog:
    """Listens to security events and writes them down. `waiting` and `lost` are for the metrics."""

    def __init__(self, table: AuditTable, *, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._floods = FloodFilter()
        self._queue: deque[AuditEntry] = deque()
        self._arrived = asyncio.Event()
        self._unreported = {"done": 0, "denied": 0}
        self.lost = 0
        self.written = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def hear(self, event: SecurityEvent) -> None:
        """A listener of SecurityEvents."""
        if event.allowed or self._floods.admit(event):
            self._enqueue(event)

    def _enqueue(self, event: SecurityEvent) -> None:
        outcome: Literal["done", "denied"] = "done" if event.allowed else "denied"
        if len(self._queue) >= (MAX_WAITING if event.allowed else MAX_WAITING // 2):
            self._unreported[outcome] += 1
            self.lost += 1
            return
        self._queue.append(
            AuditEntry(
                event=event.name,
                actor=_storable(event.user),
                target=_storable(event.target),
                outcome=outcome,
                severity=event.severity,
                address=_storable(event.address),
                detail=plain_detail(event),
                time_us=self._clock.now_us(),
            )
        )
        self._arrived.set()

    async def run(self) -> None:
        """Write what arrives, until cancelled; then what is left, for as long as FLUSH_S."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._windows(), name="audit windows")
            try:
                while True:
                    await self._arrived.wait()
                    self._arrived.clear()
                    while self._queue:
                        if not await self._write_batch():
                            await self._clock.sleep(RETRY_S)
            finally:
                await self._flush()

    async def _windows(self) -> None:
        while True:
            await self._clock.sleep(WINDOW_S)
            self._close_window()

    def _close_window(self) -> None:
        for event in self._floods.close_window():
            self._enqueue(event)

    async def _write_batch(self) -> bool:
        """False: Postgres did not take it, and it still waits.

        After a connection lost in the commit a batch may stand there twice: rather that than not at all.
        """
        batch = list(itertools.islice(self._queue, MAX_BATCH))
        count = len(batch)
        lost = dict(self._unreported)
        if any(lost.values()):
            batch.append(AuditEntry(event="sys_audit_lost", severity="CRITICAL", detail=lost))
        try:
            await self._table.append_all(batch)
        except StorageError as failure:
            logger.warning("audit entries wait, %d so far: %s", len(self._queue), failure)
            return False
        for outcome, missing in lost.items():
            self._unreported[outcome] -= missing
        for _ in range(count):
            self._queue.popleft()
        self.written += len(batch)
        return True

    async def _flush(self) -> None:
        self._close_window()
        try:
            async with asyncio.timeout(FLUSH_S):
                while self._queue and await self._write_batch():
                    pass
        except TimeoutError:
            pass
        if self._queue:
            logger.error("%d audit entries were lost at the end: Postgres did not take them", len(self._queue))


def plain_detail(event: SecurityEvent) -> dict[str, Any]:
    """An event's detail as it may be kept: flat, with addresses only where they get a pseudonym."""
    return {name: _plain(value, event.address) for name, value in event.detail.items()}


def _plain(value: Any, address: str) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case list() | tuple() | set() | frozenset():
            return [_plain(each, address) for each in value]
        case _:
            text = _storable(str(value))
            return "(an address)" if text != address and _is_address(text) else text


def _storable(text: str) -> str:
    """What a stranger sent may hold what Postgres refuses, and would keep everybody else's entries waiting with it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
