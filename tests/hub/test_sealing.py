"""Secrets at rest: they open with the right key for the right owner, and else not at all (C49)."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.sealing import KEY_BYTES, Sealer, Unreadable, sealing_key

KEY = bytes(range(32))


@given(st.binary(max_size=64), st.binary(max_size=32), st.data())
def test_c49_what_was_sealed_opens_for_its_owner_and_not_when_one_bit_differs(
    value: bytes, owner: bytes, data: st.DataObject
) -> None:
    sealer = Sealer(KEY)
    sealed = sealer.seal(value, owner=owner)
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    changed = bytearray(sealed)
    changed[bit // 8] ^= 1 << bit % 8

    assert sealer.open(sealed, owner=owner) == value
    assert value not in sealed or len(value) < 4
    assert sealer.seal(value, owner=owner) != sealed
    for wrong in (lambda: sealer.open(bytes(changed), owner=owner), lambda: sealer.open(sealed, owner=owner + b"x")):
        with pytest.raises(Unreadable):
            wrong()
    with pytest.raises(Unreadable):
        Sealer(bytes(32)).open(sealed, owner=owner)


@pytest.mark.parametrize("sealed", [b"", b"x", b"x" * 12, b"x" * 27])
def test_what_is_too_short_to_be_anything_is_unreadable(sealed: bytes) -> None:
    with pytest.raises(Unreadable):
        Sealer(KEY).open(sealed, owner=b"")


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "encryption.key"
    made = sealing_key(path, create=True)

    assert sealing_key(path, create=True) == sealing_key(path, create=False) == made
    assert len(made) == KEY_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("text", ["", "00", "g" * 64, "00" * 33, "secret" * 20])
def test_a_key_file_of_no_use_is_one_sentence_that_quotes_nothing_of_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "encryption.key"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"the encryption key .* cannot be used") as caught:
        sealing_key(path, create=True)

    assert len(text) < 3 or text not in str(caught.value)


def test_a_configured_key_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        sealing_key(tmp_path / "none.key", create=False)
