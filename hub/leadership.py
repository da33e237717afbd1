"""Which node leads. Whoever holds the lock in Postgres does, and every commit checks that it still does.

A term begins with the log and ends when a commit fails, the lock is lost, or another node has written. Then everything
in memory is forgotten, because it may differ from the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, NoReturn, TypeVar

from hub.clock import Clock
from protocol.errors import ErrorCode, HubError
from storage.errors import StorageError
from storage.leadership import Lock

TermT = TypeVar("TermT")

logger = logging.getLogger("krin.leadership")

RETRY_S = 0.5  # before the lock is asked for again
CHECK_S = 1.0


class Leadership(Generic[TermT]):
    """`begun` is there while this node leads, and `began` is set; `decided` is set once it is known who leads."""

    def __init__(
        self, of: str, *, acquire: Callable[[], AbstractAsyncContextManager[Lock | None]], clock: Clock
    ) -> None:
        """`of`: what is led, as in "the order engine"."""
        self._of = of
        self._acquire = acquire
        self._clock = clock
        self.begun: TermT | None = None
        self.began = asyncio.Event()
        self.decided = asyncio.Event()
        self.terms = 0
        self._told: str | None = None  # why it does not get going: said once, not at every attempt

    async def begin(self) -> TermT:
        """Take over, and make everything from the log. Raises StorageError, HubError."""
        raise NotImplementedError

    async def serve(self, term: TermT, group: asyncio.TaskGroup) -> None:
        """Start the term's tasks; returns when the term may be used. Raises as `begin`, and so may the tasks."""
        raise NotImplementedError

    @property
    def leads(self) -> bool:
        return self.begun is not None

    @property
    def term(self) -> TermT:
        """Raises HubError(not_available) while this node does not lead."""
        if self.begun is None:
            raise HubError(ErrorCode.NOT_AVAILABLE, f"{self._of} is not here now", retry_after_ms=1000)
        return self.begun

    async def run(self) -> NoReturn:
        while True:
            try:
                async with self._acquire() as lock:
                    if lock is not None:
                        await self._lead(lock)
                    else:
                        self._told = None
                    self.decided.set()
            except (StorageError, HubError) as failure:
                self._tell(logging.WARNING, str(failure))
            await self._clock.sleep(RETRY_S)

    async def _lead(self, lock: Lock) -> None:
        """One term. Raises StorageError, HubError when it cannot begin."""
        term = await self.begin()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hold(lock), name=f"{self._of}: lock")
                await self.serve(term, group)
                self.terms += 1
                self.begun = term
                self.began.set()
                self.decided.set()
                if self._told is None:
                    logger.info("%s: this node leads", self._of)
        except* (StorageError, HubError) as ended:
            self._tell(logging.ERROR, f"the term is over: {_first(ended)}")
        finally:
            self.begun = None
            self.began.clear()

    async def _hold(self, lock: Lock) -> NoReturn:
        while True:
            await self._clock.sleep(CHECK_S)
            await lock.check()
            if self._told is not None and self.leads:  # a term that lasts, after one that did not
                self._told = None
                logger.info("%s: this node leads", self._of)

    def _tell(self, level: int, failure: str) -> None:
        if failure != self._told:
            self._told = failure
            logger.log(level, "%s: %s", self._of, failure)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    failure: BaseException = failures
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
