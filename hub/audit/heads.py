"""Signed tree heads of the audit log, outside the database: whoever rewrites it cannot rewrite these as well.

Every head goes into an append-only file, each with the proof that it only adds to the one before; once a minute the
newest is published on `system:audit`, so that every client is a witness. What lies between two heads (ten seconds or a
thousand rows) is what a forger of the whole chain could still change unseen.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hub.clock import Clock
from hub.guard.events import Report, SecurityEvent
from protocol.audit import NO_HASH, AuditHead, Tree, consistency_proof
from protocol.errors import HubError
from storage.audit import AuditTable
from storage.errors import StorageError

logger = logging.getLogger("krin.audit")

CHANNEL = "system:audit"
LOOK_S = 1.0
EVERY_S = 10.0
EVERY_ROWS = 1000
ANNOUNCE_S = 60.0
TAIL_BYTES = 16 * 1024  # of the file: more than its longest line


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the file. `peaks` are the complete subtrees of the tree of `head.size`, to go on from; `proof` shows
    that it begins with the tree of `previous_size` (RFC 6962 2.1.2)."""

    head: AuditHead
    peaks: list[str]
    previous_size: int
    proof: list[str]


class AuditKey:
    """The node's Ed25519 key for tree heads."""

    def __init__(self, seed: bytes) -> None:
        """`seed`: the 32 secret bytes that an Ed25519 key is (RFC 8032)."""
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key()
        self.id = key_id(self.public)

    def sign(self, head: AuditHead) -> AuditHead:
        """The head with this key's id and signature."""
        signature = self._private.sign(head.signed_bytes()).hex()
        return msgspec.structs.replace(head, key_id=self.id, signature=signature)


def key_id(public: Ed25519PublicKey) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()


def is_signed(head: AuditHead, public: Ed25519PublicKey) -> bool:
    try:
        public.verify(bytes.fromhex(head.signature), head.signed_bytes())
    except (InvalidSignature, ValueError):
        return False
    return head.key_id == key_id(public)


class Checkpoints:
    """Follows the log and signs what it has become."""

    def __init__(
        self,
        table: AuditTable,
        *,
        key: AuditKey,
        file: Path,
        node: str,
        announce: Callable[[AuditHead], Awaitable[object]],
        report: Report,
        clock: Clock,
    ) -> None:
        self._table = table
        self._key = key
        self._file = file
        self._node = node
        self._announce = announce
        self._report = report
        self._clock = clock
        self._tree = Tree()
        self._last_hash = NO_HASH
        self.newest: AuditHead | None = None

    async def run(self) -> None:
        """Until the log is no longer the one that was signed: then that is reported, and nothing more is signed."""
        if (last := await asyncio.to_thread(last_checkpoint, self._file)) is not None:
            self._tree = Tree(last.head.size, [bytes.fromhex(peak) for peak in last.peaks])
            self._last_hash = bytes.fromhex(last.head.hash)
        signed_at = self._clock.monotonic()
        announced_at = signed_at - ANNOUNCE_S
        while True:
            await self._clock.sleep(LOOK_S)
            now = self._clock.monotonic()
            try:
                waiting = (await self._table.head())[0] - self._tree.size
                broken = waiting < 0
                if waiting > 0 and (now - signed_at >= EVERY_S or waiting >= EVERY_ROWS):
                    broken = not await self._sign()
                    signed_at = now
            except StorageError as failure:
                logger.debug("the audit log cannot be looked at: %s", failure)
                continue
            except OSError as failure:
                logger.error("a checkpoint of the audit log cannot be written: %s", failure.strerror)
                continue
            if broken:
                logger.critical("the audit log is not the one that was signed: run `krin audit verify`")
                self._report(SecurityEvent(name="sys_audit_broken", allowed=True, severity="CRITICAL"))
                return
            if self.newest is not None and now - announced_at >= ANNOUNCE_S:
                announced_at = now
                with contextlib.suppress(HubError):  # without a broker: the file has it, and the next one says as much
                    await self._announce(self.newest)

    async def _sign(self) -> bool:
        """Sign what was added since the last head; false if it does not follow what was signed."""
        while rows := await self._table.links(after=self._tree.size, limit=EVERY_ROWS):
            grown = Tree(self._tree.size, self._tree.peaks)
            before = self._last_hash
            for prev_hash, row_hash in rows:
                if prev_hash != before:
                    return False
                grown.append(row_hash)
                before = row_hash
            head = self._key.sign(
                AuditHead(
                    node=self._node,
                    size=grown.size,
                    root=grown.root().hex(),
                    hash=before.hex(),
                    time=self._clock.now_ms(),
                    key_id="",
                    signature="",
                )
            )
            checkpoint = Checkpoint(
                head=head,
                peaks=[peak.hex() for peak in grown.peaks],
                previous_size=self._tree.size,
                proof=[node.hex() for node in consistency_proof(self._tree, [link[1] for link in rows])],
            )
            await asyncio.to_thread(_append, self._file, msgspec.json.encode(checkpoint) + b"\n")
            self._tree, self._last_hash, self.newest = grown, before, head
            if len(rows) < EVERY_ROWS:
                break
        return True


def _append(file: Path, line: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line  # after a line that a crash cut off
        os.write(handle, line)  # one write: lines of several workers do not mix
        os.fsync(handle)
    finally:
        os.close(handle)


def last_checkpoint(file: Path) -> Checkpoint | None:
    """The last whole line of the file. Raises OSError."""
    if not file.exists():
        return None
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - TAIL_BYTES))
        tail = stream.read()
    for line in reversed(tail.split(b"\n")):
        try:
            return msgspec.json.decode(line, type=Checkpoint)
        except msgspec.MsgspecError:  # cut off by a crash, or by where we began to read
            continue
    return None


class _Line(msgspec.Struct):
    """A checkpoint, or a publication of `system:audit` as a witness has kept it."""

    head: AuditHead | None = None
    data: AuditHead | None = None


def heads_in(lines: Iterable[str]) -> Iterator[AuditHead]:
    """The tree heads of a checkpoint file, or of what `krin tail system:audit --json` has printed.

    A line that is neither is passed over: a crash cuts lines off, and it proves no more than one that is not there.
    """
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError):
            found = msgspec.json.decode(line, type=_Line)
            if (head := found.head or found.data) is not None:
                yield head
