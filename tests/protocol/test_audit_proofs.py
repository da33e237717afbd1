"""What an outsider needs to verify an audit log: T26, and C78 to C80, without a database."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.audit import (
    EMPTY_ROOT,
    NO_HASH,
    AuditHead,
    AuditRow,
    Tree,
    consistency_proof,
    is_consistent,
    leaf_hash,
    merkle_root,
    verify_rows,
)

FIELDS = ("time_us", "event", "actor", "address", "target", "outcome", "severity", "detail", "prev_hash", "hash")


def chain(count: int, *, seed: int = 1) -> list[AuditRow]:
    """A log as the hub writes it."""
    numbers = random.Random(seed)
    rows: list[AuditRow] = []
    previous = NO_HASH
    for sequence in range(1, count + 1):
        row = AuditRow(
            sequence=sequence,
            time_us=1_732_330_000_000_000 + sequence,
            event=numbers.choice(["user_created", "authz_fail", "authn_login_fail"]),
            actor=f"~{numbers.randbytes(16).hex()}",
            address=numbers.choice(["", f"~{numbers.randbytes(16).hex()}"]),
            target=f"orders:{numbers.randrange(9)}",
            outcome=numbers.choice(["done", "denied"]),
            severity="INFO",
            detail=f'{{"n": {sequence}}}',
            prev_hash=previous,
            hash=b"",
        )
        previous = row.computed_hash()
        rows.append(msgspec.structs.replace(row, hash=previous))
    return rows


def head(rows: Sequence[AuditRow], size: int) -> AuditHead:
    root = merkle_root([row.hash for row in rows[:size]])
    last = rows[size - 1].hash
    return AuditHead(node="n", size=size, root=root.hex(), hash=last.hex(), time=1, key_id="", signature="")


def rechained(rows: list[AuditRow]) -> list[AuditRow]:
    """What a forger with every right makes: numbers and hashes anew, so that the chain itself holds."""
    made: list[AuditRow] = []
    for sequence, row in enumerate(rows, start=1):
        bare = msgspec.structs.replace(row, sequence=sequence, prev_hash=made[-1].hash if made else NO_HASH)
        made.append(msgspec.structs.replace(bare, hash=bare.computed_hash()))
    return made


ROWS = chain(60)
HEADS = [head(ROWS, size) for size in (20, 40, 60)]


def edited(row: AuditRow, numbers: random.Random) -> AuditRow:
    """The row with one byte of one field changed to another."""
    name = numbers.choice([name for name in FIELDS if getattr(row, name) not in ("", b"")])
    value = getattr(row, name)
    if isinstance(value, int):
        return msgspec.structs.replace(row, **{name: value ^ (1 << numbers.randrange(40))})
    content = bytearray(value.encode() if isinstance(value, str) else value)
    place = numbers.randrange(len(content))
    content[place] ^= numbers.randrange(1, 128) if isinstance(value, str) else numbers.randrange(1, 256)
    return msgspec.structs.replace(row, **{name: content.decode() if isinstance(value, str) else bytes(content)})


def test_c78_a_log_that_was_left_alone_verifies() -> None:
    assert verify_rows(ROWS, HEADS) is None
    assert verify_rows([]) is None


def test_c78_t26_each_of_10000_single_byte_edits_is_found_at_its_row() -> None:
    numbers = random.Random(26)
    for _ in range(10_000):
        place = numbers.randrange(len(ROWS))
        rows = [*ROWS[:place], edited(ROWS[place], numbers), *ROWS[place + 1 :]]
        fault = verify_rows(rows)
        assert fault is not None
        assert (fault.sequence, fault.problem) == (place + 1, "changed: its hash does not fit its content")


@pytest.mark.parametrize("place", range(len(ROWS)))
def test_c78_t26_a_removed_row_is_named(place: int) -> None:
    fault = verify_rows(ROWS[:place] + ROWS[place + 1 :], HEADS)
    assert fault is not None
    assert fault.sequence == place + 1
    assert "removed" in fault.problem or "cut off" in fault.problem


def test_c78_t26_rows_moved_copied_or_brought_in_are_named() -> None:
    numbers = random.Random(78)
    other = chain(60, seed=2)
    for _ in range(2_000):
        first, second = sorted(numbers.sample(range(len(ROWS)), 2))
        swapped = list(ROWS)
        swapped[first], swapped[second] = swapped[second], swapped[first]
        contents_swapped = list(ROWS)
        for here, there in ((first, second), (second, first)):
            contents_swapped[here] = msgspec.structs.replace(ROWS[there], sequence=here + 1)
        for damaged, expected in (
            (swapped, first + 1),
            (contents_swapped, first + 1),
            ([*ROWS[: second + 1], ROWS[first], *ROWS[second + 1 :]], first + 1),  # a copy
            ([*ROWS[:first], other[first], *ROWS[first + 1 :]], first + 1),  # a whole row of another log
        ):
            fault = verify_rows(damaged, HEADS)
            assert fault is not None
            # Row 1 of another log follows nothing either, so only its successor tells.
            assert fault.sequence == expected or (damaged[0] == other[0] and fault.sequence == 2)


@pytest.mark.parametrize("kept", range(60))
def test_c79_t26_a_cut_tail_is_found_down_to_the_last_checkpoint(kept: int) -> None:
    fault = verify_rows(ROWS[:kept], HEADS)
    assert fault is not None
    assert fault.sequence == kept + 1
    assert fault.problem == f"cut off: 60 rows were signed, {kept} are there"
    assert verify_rows(ROWS[:kept]) is None  # the chain alone cannot know


FORGERIES: dict[str, Callable[[int], list[AuditRow]]] = {
    "changed": lambda place: [*ROWS[:place], msgspec.structs.replace(ROWS[place], event="x"), *ROWS[place + 1 :]],
    "removed, and one added at the end": lambda place: [*ROWS[:place], *ROWS[place + 1 :], ROWS[0]],
    "inserted": lambda place: [*ROWS[:place], ROWS[0], *ROWS[place:]],
    "rolled back and gone on": lambda place: [*ROWS[:place], *chain(61 - place, seed=3)],
}


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("place", [1, 19, 20, 39, 40, 59])
def test_c79_t26_a_chain_written_anew_is_found_between_two_checkpoints(forgery: str, place: int) -> None:
    forged = rechained(FORGERIES[forgery](place))
    assert verify_rows(forged) is None
    fault = verify_rows(forged, HEADS)
    assert fault is not None
    assert fault.problem.startswith("rewritten between rows")
    assert fault.sequence == place // 20 * 20 + 1


def test_c78_the_canonical_form_is_the_one_that_is_written_down() -> None:
    row = msgspec.structs.replace(ROWS[0], actor="é", address="", detail="{}")
    fields = ["1", str(row.time_us), row.event, "é", "", row.target, row.outcome, row.severity, "{}"]
    expected = b"".join(len(f.encode()).to_bytes(4, "big") + f.encode() for f in fields)
    assert row.canonical() == expected
    assert row.computed_hash() == hashlib.sha256(b"\x00" + expected + bytes(32)).digest()


# --- RFC 6962 ---


def test_c80_the_known_values_of_rfc_6962() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert merkle_root([]) == EMPTY_ROOT
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    two = merkle_root([leaf_hash(b""), leaf_hash(b"\x00")])
    assert two.hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"


def by_the_book(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word, over leaf hashes."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + by_the_book(leaves[:split]) + by_the_book(leaves[split:])).digest()


LEAVES = [leaf_hash(bytes([number])) for number in range(200)]


@given(st.integers(0, 200))
def test_c80_a_tree_that_grows_has_the_root_of_the_rfc(size: int) -> None:
    assert merkle_root(LEAVES[:size]) == by_the_book(LEAVES[:size])


@given(st.integers(0, 200), st.integers(0, 200))
def test_c79_every_consistency_proof_holds_and_is_made_without_the_old_leaves(one: int, other: int) -> None:
    old_size, size = sorted((one, other))
    old = Tree()
    for leaf in LEAVES[:old_size]:
        old.append(leaf)
    again = Tree(old.size, old.peaks)  # as read from a checkpoint
    proof = consistency_proof(again, LEAVES[old_size:size])
    assert is_consistent(old_size, old.root(), size, merkle_root(LEAVES[:size]), proof)


@given(st.integers(1, 120), st.integers(1, 80), st.data())
def test_c79_no_proof_holds_for_another_history(old_size: int, added: int, data: st.DataObject) -> None:
    size = old_size + added
    old = Tree()
    for leaf in LEAVES[:old_size]:
        old.append(leaf)
    proof = consistency_proof(old, LEAVES[old_size:size])
    changed = data.draw(st.integers(0, old_size - 1))
    forged = [*LEAVES[:changed], leaf_hash(b"forged"), *LEAVES[changed + 1 : size]]
    assert not is_consistent(old_size, old.root(), size, merkle_root(forged), proof)
    assert not is_consistent(old_size, merkle_root(forged[:old_size]), size, merkle_root(LEAVES[:size]), proof)
    root = merkle_root(LEAVES[:size])
    assert not is_consistent(old_size, old.root(), size, root, [*proof, NO_HASH])
    assert not is_consistent(old_size, old.root(), size, root, proof[:-1])
    assert not is_consistent(size, root, old_size, old.root(), proof)


def test_a_tree_needs_a_peak_for_each_bit_of_its_size() -> None:
    with pytest.raises(ValueError, match="one peak for each bit"):
        Tree(3, [NO_HASH])
