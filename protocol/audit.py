"""The audit log as an outsider can verify it: what a row's hash covers, the tree over all rows, signed tree heads.

A row's canonical form is these nine fields in this order, each as its length in four bytes (big-endian) followed by its
UTF-8: sequence, time_us (both in decimal), event, actor, address, target, outcome, severity, detail (the exact JSON
text of the row). Its hash is SHA-256(0x00 || canonical form || prev_hash), where prev_hash is the hash of the row
before, or 32 zero bytes for row 1. That makes a row's hash the leaf hash of RFC 6962 section 2.1 for the entry
"canonical form || prev_hash", and the tree over all rows an RFC 6962 Merkle tree.

Rule: hashes are bytes of length 32 here, and lower-case hexadecimal wherever they are written down.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from protocol.fields import Count, Millis, Name

NO_HASH = bytes(32)
EMPTY_ROOT = hashlib.sha256().digest()


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row as it is stored. `detail` is JSON text: hashed as it stands, never encoded anew."""

    sequence: int
    time_us: int
    event: str
    actor: str
    address: str
    target: str
    outcome: str
    severity: str
    detail: str
    prev_hash: bytes
    hash: bytes

    def canonical(self) -> bytes:
        fields = (str(self.sequence), str(self.time_us), self.event, self.actor, self.address, self.target)
        return b"".join(map(_field, (*fields, self.outcome, self.severity, self.detail)))

    def computed_hash(self) -> bytes:
        return leaf_hash(self.canonical() + self.prev_hash)


def _field(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded


class AuditHead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signed tree head: the first `size` rows have this Merkle `root`, and the last of them this `hash`.

    `signature` is Ed25519 over `signed_bytes`, by the node's audit key; `key_id` is the SHA-256 of its 32 bytes.
    """

    node: Name
    size: Count
    root: str
    hash: str
    time: Millis
    key_id: str
    signature: str

    def signed_bytes(self) -> bytes:
        return f"krin audit head v1\n{self.node}\n{self.size}\n{self.root}\n{self.hash}\n{self.time}\n".encode()


# --- RFC 6962 section 2.1 ---


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes."""
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


class Tree:
    """A Merkle tree that grows, as the roots of its complete subtrees: memory is the logarithm of its size."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """`peaks`: the complete subtrees from left to right, one for each bit set in `size`. Raises ValueError."""
        if len(peaks) != size.bit_count():
            raise ValueError("a tree has one peak for each bit of its size")
        self.size = size
        self.peaks = list(peaks)

    def append(self, leaf: bytes) -> None:
        size, node = self.size, leaf
        while size & 1:  # a complete subtree of this size stands to the left: join them
            node = node_hash(self.peaks.pop(), node)
            size >>= 1
        self.peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        if not self.peaks:
            return EMPTY_ROOT
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = node_hash(peak, node)
        return node


def consistency_proof(old: Tree, leaves: Sequence[bytes]) -> list[bytes]:
    """PROOF(old.size, D[old.size + len(leaves)]): that the larger tree only adds `leaves` to the older.

    The older tree's own leaves are not needed: all that a proof takes from it are its peaks.
    """
    peaks, start = {}, 0
    for peak, bit in zip(old.peaks, _bits(old.size), strict=True):
        peaks[start, start + bit] = peak
        start += bit

    def subtree(low: int, high: int) -> bytes:
        if (found := peaks.get((low, high))) is not None:
            return found
        if low >= old.size:
            return merkle_root(leaves[low - old.size : high - old.size])
        middle = low + _split(high - low)
        return node_hash(subtree(low, middle), subtree(middle, high))

    def prove(low: int, high: int, *, whole: bool) -> list[bytes]:
        if high == old.size:
            return [] if whole else [subtree(low, high)]
        middle = low + _split(high - low)
        if old.size <= middle:
            return [*prove(low, middle, whole=whole), subtree(middle, high)]
        return [*prove(middle, high, whole=False), subtree(low, middle)]

    size = old.size + len(leaves)
    return prove(0, size, whole=True) if 0 < old.size < size else []


def is_consistent(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the tree of `size` begins with the tree of `old_size` (RFC 9162 2.1.4.2)."""
    if old_size == size:
        return old_root == root and not proof
    if old_size == 0:
        return old_root == EMPTY_ROOT and not proof
    if old_size > size or not proof:
        return False
    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    first, last = old_size - 1, size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old_node = node = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old_node, node = node_hash(sibling, old_node), node_hash(sibling, node)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and old_node == old_root and node == root


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _bits(size: int) -> Iterable[int]:
    """The powers of two in `size`, largest first."""
    return (1 << place for place in reversed(range(size.bit_length())) if size >> place & 1)


# --- the chain ---


class Fault(msgspec.Struct, frozen=True):
    """The first thing that is wrong: at which row, and what."""

    sequence: int
    problem: str


class ChainVerifier:
    """Takes the rows in order of their sequence and stops at the first that cannot be what was written.

    `heads` are the tree heads known from elsewhere: against them also a chain is caught that was written anew as a
    whole, as somewhere between the last head that agrees and the first that does not. They come in the order of their
    size (see `in_order`), and are read only as far as the rows have come.
    """

    def __init__(self, heads: Iterable[AuditHead] = ()) -> None:
        self._heads = (head for head in heads if head.size)
        self._next = next(self._heads, None)
        self.agreed = 0  # rows up to the last head that agrees
        self._previous = NO_HASH
        self.tree = Tree()

    def add(self, row: AuditRow) -> Fault | None:
        expected = self.tree.size + 1
        if row.sequence > expected:
            missing = f"row {expected}" if row.sequence == expected + 1 else f"rows {expected} to {row.sequence - 1}"
            return Fault(expected, f"{missing} removed")
        if row.sequence < expected:
            return Fault(row.sequence, "inserted: there is a row with this number already")
        if row.computed_hash() != row.hash:
            return Fault(expected, "changed: its hash does not fit its content")
        if row.prev_hash != self._previous:
            return Fault(expected, "does not follow the row before it: removed, inserted or swapped here")
        self._previous = row.hash
        self.tree.append(row.hash)
        while (head := self._next) is not None and head.size <= self.tree.size:
            if head.size < self.tree.size or head.root != self.tree.root().hex() or head.hash != row.hash.hex():
                place = f"between rows {self.agreed + 1} and {head.size}"
                return Fault(self.agreed + 1, f"rewritten {place}: the tree is not the one that was signed")
            self.agreed = head.size
            self._next = next(self._heads, None)
        return None

    def end(self, *, size: int | None = None, hash: bytes | None = None) -> Fault | None:
        """After the last row. `size` and `hash` are what the database's own head says of it."""
        here = self.tree.size
        if self._next is not None:
            signed = max(head.size for head in (self._next, *self._heads))
            return Fault(here + 1, f"cut off: {signed} rows were signed, {here} are there")
        if size is not None and size != here:
            return Fault(here + 1, f"cut off: the head counts {size} rows, {here} are there")
        if hash is not None and hash != self._previous:
            return Fault(here, "is not the row that the head names as the last")
        return None


def in_order(heads: Iterable[AuditHead], *, window: int = 256) -> Iterator[AuditHead]:
    """Heads by size, from a file in which several writers' lines are mixed by at most `window` lines."""
    waiting: list[tuple[int, int, AuditHead]] = []
    for number, head in enumerate(heads):
        heapq.heappush(waiting, (head.size, number, head))
        if len(waiting) > window:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def verify_rows(rows: Iterable[AuditRow], heads: Iterable[AuditHead] = ()) -> Fault | None:
    """The first fault of a whole log, or None."""
    verifier = ChainVerifier(heads)
    for row in rows:
        if (fault := verifier.add(row)) is not None:
            return fault
    return verifier.end()


def as_json(row: AuditRow) -> dict[str, Any]:
    """A row for export: hashes in hexadecimal, `detail` as the text that was hashed."""
    return msgspec.structs.asdict(row) | {"prev_hash": row.prev_hash.hex(), "hash": row.hash.hex()}


def from_json(line: str | bytes) -> AuditRow:
    """A row as `as_json` wrote it. Raises ValueError."""
    told = msgspec.json.decode(line)
    try:
        hashes = {name: bytes.fromhex(told[name]) for name in ("prev_hash", "hash")}
        return msgspec.convert(told | hashes, AuditRow)
    except (TypeError, KeyError) as failure:
        raise ValueError(f"not a row of an audit log: {failure}") from None
