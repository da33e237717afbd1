"""Is the audit log what was written? The database's rows against their chain, and against signed tree heads."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hub.audit.heads import heads_in, is_signed, key_id
from hub.guard.events import Report, SecurityEvent
from hub.unusable import ConfigError
from protocol.audit import AuditHead, AuditRow, ChainVerifier, Fault, from_json, in_order
from protocol.errors import ErrorCode, HubError
from storage.audit import CHUNK, AuditTable
from storage.errors import StorageError


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`rows` were read and are in order, the first `signed` of them as a signed head has them; then came the fault."""

    ok: bool
    rows: int
    signed: int
    fault: Fault | None


class HeadUnusable(ConfigError):
    """A tree head cannot be trusted; the text says which and why."""


Progress = Callable[[int, int | None], None]
"""Takes rows done and rows in all, where that is known."""


def no_progress(done: int, total: int | None) -> None: ...


async def verify_log(table: AuditTable, heads: Iterable[AuditHead], *, progress: Progress = no_progress) -> Verdict:
    """Read the whole log in one snapshot, memory flat. Raises HeadUnusable, `StorageError`."""
    async with table.snapshot() as (size, hash, rows):
        return await verify_all(rows, heads, size=size, hash=hash, progress=progress)


async def verify_all(
    rows: AsyncIterator[AuditRow],
    heads: Iterable[AuditHead],
    *,
    size: int | None = None,
    hash: bytes | None = None,
    progress: Progress = no_progress,
) -> Verdict:
    """`size` and `hash`: what the database's own head says, if there is one. Raises HeadUnusable."""
    verifier = ChainVerifier(heads)
    fault = None
    async for row in rows:
        if (fault := verifier.add(row)) is not None:
            break
        if verifier.tree.size % CHUNK == 0:
            progress(verifier.tree.size, size)
            await asyncio.sleep(0)  # within a hub others have their turn
    if fault is None:
        fault = verifier.end(size=size, hash=hash)
    return Verdict(ok=fault is None, rows=verifier.tree.size, signed=verifier.agreed, fault=fault)


async def exported_rows(file: Path) -> AsyncIterator[AuditRow]:
    """The rows of a file that `krin audit export` wrote. Raises ConfigError for a line that is none."""
    with file.open() as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield from_json(line)
            except ValueError:
                raise ConfigError(f"{file}: line {number} is not a row of an audit log") from None


def signed_heads(stack: ExitStack, files: Sequence[Path], keys: Sequence[Ed25519PublicKey]) -> Iterator[AuditHead]:
    """The heads of these files by size, each checked as it is read; the stack closes the files.

    Raises HeadUnusable while it is read: a head that none of the keys has signed.
    """
    known = {key_id(key): key for key in keys}
    return heapq.merge(
        *(in_order(_checked(stack.enter_context(file.open()), file, known)) for file in files),
        key=lambda head: head.size,
    )


def _checked(lines: Iterable[str], file: Path, known: dict[str, Ed25519PublicKey]) -> Iterator[AuditHead]:
    for head in heads_in(lines):
        key = known.get(head.key_id)
        if key is None:
            raise HeadUnusable(f"{file}: the head of {head.size} rows was signed by a key that was not given")
        if not is_signed(head, key):
            raise HeadUnusable(f"{file}: the signature on the head of {head.size} rows is wrong")
        yield head


class AuditVerification:
    """`audit.verify` as a call: one at a time, because it reads the whole log."""

    def __init__(self, table: AuditTable, *, file: Path, key: Ed25519PublicKey, report: Report) -> None:
        self._table = table
        self._file = file
        self._key = key
        self._report = report
        self._turn = asyncio.Lock()

    async def call(self) -> Verdict:
        """Raises HubError(overloaded) while another is under way, HubError(not_available)."""
        if self._turn.locked():
            raise HubError(ErrorCode.OVERLOADED, "the audit log is being verified", retry_after_ms=1000)
        async with self._turn:
            verdict = await self._verify()
        if not verdict.ok:
            self._report(SecurityEvent(name="sys_audit_broken", severity="CRITICAL"))
        return verdict

    async def _verify(self) -> Verdict:
        with ExitStack() as stack:
            files = [self._file] if self._file.exists() else []
            try:
                return await verify_log(self._table, signed_heads(stack, files, [self._key]))
            except HeadUnusable as failure:
                return Verdict(ok=False, rows=0, signed=0, fault=Fault(0, str(failure)))
            except StorageError:
                raise HubError(
                    ErrorCode.NOT_AVAILABLE, "the audit log cannot be read right now", retry_after_ms=1000
                ) from None
