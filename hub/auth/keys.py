"""The key that signs access tokens. Generated once into the data folder, or given by configuration."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

KEY_BYTES = 32


class KeyUnusable(Exception):
    """The key file cannot be read or made; the text says why, for the terminal."""


def load_or_create_key(data_dir: Path) -> bytes:
    """The signing key of this data folder, made on first use. Two processes that start at once agree on one."""
    path = data_dir / "keys" / "signing.key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        if not path.exists():
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_hex(KEY_BYTES))
            try:
                os.link(fresh, path)  # fails if another process was first: then its key counts
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as failure:
        raise KeyUnusable(f"the signing key {path} cannot be used: {_why(failure)}") from None
    if len(key) < KEY_BYTES:
        raise KeyUnusable(f"the signing key {path} is too short: it needs {KEY_BYTES} bytes")
    return key


def _why(failure: Exception) -> str:
    return failure.strerror or str(failure) if isinstance(failure, OSError) else "it is not hexadecimal"
