"""Secrets that the hub must read again, encrypted at rest with a key that is not in the database (AES-256-GCM)."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12


class Unreadable(Exception):
    """The value was sealed with another key, for another owner, or was changed."""


class Sealer:
    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, value: bytes, *, owner: bytes) -> bytes:
        """Nonce and ciphertext, of use for this owner only: moved to another row it does not open."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, value, owner)

    def open(self, sealed: bytes, *, owner: bytes) -> bytes:
        """Raises Unreadable."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], owner)
        except (InvalidTag, ValueError):
            raise Unreadable from None


def sealing_key(path: Path, *, create: bool) -> bytes:
    """The key in a file of 64 hexadecimal digits; with `create` made on first use, and two processes agree on one.

    Raises ValueError with a sentence for the terminal, which quotes nothing of the file.
    """
    try:
        if create and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_hex(KEY_BYTES))
            try:
                os.link(fresh, path)  # fails if another process was first: then its key counts
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as failure:
        why = getattr(failure, "strerror", None) or "it is not text"
        raise ValueError(f"the encryption key {path} cannot be used: {why}") from None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"the encryption key {path} cannot be used: it needs {2 * KEY_BYTES} hexadecimal digits")
    return key
