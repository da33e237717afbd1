"""Passwords and client secrets: Argon2id, off the event loop, a few at a time."""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

MIN_LENGTH = 8
MAX_LENGTH = 1024
CONCURRENT = 2  # each takes tens of milliseconds of one core and 19 MiB


class Passwords:
    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._dummy = self._hasher.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """With `stored` None (no such user) it takes the same time and answers False."""
        async with self._slots:
            matches = await asyncio.to_thread(self._verify, stored or self._dummy, password)
        return matches and stored is not None

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (Argon2Error, InvalidHashError):
            return False
