"""Passwords and client secrets: Argon2id, off the event loop, a few at a time; and which ones are too easy to guess."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Protocol, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from protocol.errors import ErrorCode, HubError

MIN_LENGTH = 8
MAX_LENGTH = 1024
CONCURRENT = 2  # each takes tens of milliseconds of one core and 19 MiB
MAX_WAITING = 128  # some seconds of work; who would wait longer is told so at once
CONTEXT = ("krin",)
MIN_CONTEXT_WORD = 3  # a user called Al may have an "al" in the password

T = TypeVar("T")


def weakness(password: str, *, words: Iterable[str] = ()) -> str | None:
    """Why this may not be somebody's password; None: it may. No rules of composition (NIST SP 800-63B 5.1.1.2).

    `words` are those an attacker would try first, such as the user's name: they and the product's name are not counted.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        return f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters"
    plain = password.casefold()
    if plain in _common():
        return "this is one of the most common passwords"
    for word in (*CONTEXT, *words):
        if len(word) >= MIN_CONTEXT_WORD:
            plain = plain.replace(word.casefold(), "")
    if len(plain) < MIN_LENGTH or plain in _common():
        return "beside names that anybody would try, too little is left of this password"
    return None


@functools.cache
def _common() -> frozenset[str]:
    text = (resources.files("hub") / "auth" / "common_passwords.txt").read_text()
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


class Hasher(Protocol):
    """What argon2.PasswordHasher does: slowly, in any thread."""

    def hash(self, password: str) -> str: ...

    def verify(self, hash: str, password: str) -> bool: ...


class Passwords:
    def __init__(self, hasher: Hasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._waiting = 0
        self._dummy = self._hasher.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """Raises HubError(overloaded)."""
        return await self._in_thread(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """With `stored` None (no such user) it takes the same time and answers False. Raises HubError(overloaded)."""
        matches = await self._in_thread(self._verify, stored or self._dummy, password)
        return matches and stored is not None

    async def _in_thread(self, work: Callable[..., T], *arguments: str) -> T:
        if self._waiting >= MAX_WAITING:
            raise HubError(ErrorCode.OVERLOADED, "too many sign-ins at once", retry_after_ms=1000)
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work, *arguments)
        finally:
            self._waiting -= 1

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (Argon2Error, InvalidHashError):
            return False
