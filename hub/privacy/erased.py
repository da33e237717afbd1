"""Who was erased, remembered outside the database."""

from __future__ import annotations

import hashlib
import hmac
import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec


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
