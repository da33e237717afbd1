"""The key ring of a data folder: one file, shared by every process that uses the folder.

A rotation has three steps, all decided when it begins: the new key verifies at once, signs when every running node has
read the file, and the old ones verify until the overlap has passed. So no valid token is ever refused.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from jwt.utils import base64url_encode

from hub.auth.keys import MIN_SECRET_BYTES, Algorithm, Key, KeySet, generate, key_of
from hub.clock import Clock

RELOAD_S = 2.0
SETTLE_S = 30  # until a new key signs: every node has read the file by then, and others the JWK Set
OVERLAP_S = 24 * 3600
UNNAMED = "-"  # stands for the id of a key without one, on the command line

logger = logging.getLogger("krin.keys")


class KeyUnusable(Exception):
    """The key file cannot be read or made; the text says why, for the terminal."""


class KeyRing:
    """Implements hub.auth.keys.Keys. Two processes that start at once on an empty folder agree on one key."""

    def __init__(self, data_dir: Path, *, algorithm: Algorithm, clock: Clock) -> None:
        """Reads the ring, and makes a key if it has none for this algorithm. Raises KeyUnusable."""
        self._folder = data_dir / "keys"
        self._path = self._folder / "ring.json"
        self._algorithm = algorithm
        self._clock = clock
        self._stamp = (0, 0)
        with self._reported():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.current = self._read()
            if not any(key.algorithm == algorithm and key.expires_at is None for key in self.current.keys):
                with self._changing() as keys:
                    self._succeed(keys)

    def rotate(self, *, overlap_s: int = OVERLAP_S) -> None:
        """A new key, which signs in SETTLE_S; those that sign now verify for `overlap_s` more. Raises KeyUnusable."""
        starts = self._now_s() + SETTLE_S
        with self._reported(), self._changing() as keys:
            for jwk in keys:
                jwk.setdefault("exp", starts + overlap_s)
            keys.append(generate(self._algorithm) | {"nbf": starts})

    def remove(self, kid: str) -> bool:
        """Take a key out at once: nothing it signed is accepted any more. False: there is none of this id."""
        with self._reported(), self._changing() as keys:
            kept = [jwk for jwk in keys if jwk.get("kid", UNNAMED) != kid]
            found = len(kept) < len(keys)
            keys[:] = kept
            self._succeed(keys)
        return found

    def _succeed(self, keys: list[dict[str, Any]]) -> None:
        """If no key is left that will go on signing, add one: in time where another still signs, else at once."""
        if any(jwk["alg"] == self._algorithm and "exp" not in jwk for jwk in keys):
            return
        now_s = self._now_s()
        signing = KeySet(map(_parsed, keys), algorithm=self._algorithm).signing(now_s)
        keys.append(generate(self._algorithm) | {"nbf": now_s + SETTLE_S if signing else now_s})

    async def run(self) -> None:
        """Notice what other processes change."""
        while True:
            await self._clock.sleep(RELOAD_S)
            try:
                await asyncio.to_thread(self._reload)
            except KeyUnusable as failure:  # half a change by hand: go on with the keys we have
                logger.warning("%s", failure)

    def _reload(self) -> None:
        with self._reported():
            if _stamp(self._path) != self._stamp:
                self.current = self._read()

    def _read(self) -> KeySet:
        keys = self._stored()
        return KeySet(map(_parsed, keys), algorithm=self._algorithm)

    def _stored(self) -> list[dict[str, Any]]:
        """The private keys as JWKs. A folder of an earlier version has one secret, for tokens that name no key."""
        try:
            self._stamp = _stamp(self._path)
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, list[dict[str, Any]]])["keys"]
        except FileNotFoundError:
            pass
        earlier = self._folder / "signing.key"
        if not earlier.exists():
            return []
        secret = bytes.fromhex(earlier.read_text().strip())
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"{earlier.name} needs {MIN_SECRET_BYTES} bytes")
        return [{"kty": "oct", "k": base64url_encode(secret).decode(), "alg": "HS256"}]

    @contextmanager
    def _changing(self) -> Iterator[list[dict[str, Any]]]:
        """The keys, to be changed by one process at a time; written when the block ends."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            keys = self._stored()
            yield keys
            now_s = self._now_s()
            kept = [jwk for jwk in keys if jwk.get("exp") is None or now_s < jwk["exp"]]
            fresh = self._folder / f"ring.json.{secrets.token_hex(4)}"
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode({"keys": kept})))
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self._path)
            os.fsync(folder)
            self.current = self._read()
        finally:
            os.close(folder)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as failure:
            reason = f"{failure.strerror}; --data-dir or KRIN_DATA_DIR names another data folder"
            raise KeyUnusable(f"the keys in {self._folder} cannot be used: {reason}") from None
        except (ValueError, KeyError, TypeError, msgspec.MsgspecError):  # their texts could quote a key
            raise KeyUnusable(f"the keys in {self._folder} cannot be used: a file there is damaged") from None

    def _now_s(self) -> int:
        return self._clock.now_ms() // 1000


def _stamp(path: Path) -> tuple[int, int]:
    """Which file this is: every change replaces it by another."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _parsed(jwk: dict[str, Any]) -> Key:
    return key_of(jwk, msgspec.convert(jwk["alg"], Algorithm))
