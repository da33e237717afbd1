"""An asynchronous part that lives in a thread of its own, for callers without an event loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager
from typing import Generic, NamedTuple, TypeVar

from hub.client.wire import Disconnected

T = TypeVar("T")
R = TypeVar("R")

LEAVE_S = 5.0  # what a forgotten part gets to leave in, when it is collected or the interpreter ends


class _Life(NamedTuple):
    """Of the thread: `leaving` takes the error that ends the part's block, or None."""

    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[None]
    leaving: asyncio.Future[Exception | None]


class Background(Generic[T]):
    """Enters `part` in a new thread, and waits until it is entered: raises what that raises. `close` leaves it.

    One that nobody refers to any more is left, too, and so is one that is open when the interpreter ends.
    """

    def __init__(self, part: AbstractAsyncContextManager[T], *, name: str) -> None:
        begun: Future[_Life] = Future()
        entered: Future[T] = Future()
        self._left: Future[None] = Future()
        # The thread knows nothing of this object, which may be collected while it runs.
        self._thread = threading.Thread(target=_run, args=(part, begun, entered, self._left), name=name, daemon=True)
        self._thread.start()
        self._life = begun.result()
        self._lock = threading.Lock()
        self._closed = False
        try:
            self.part = entered.result()
        except BaseException:  # also while it was waited for
            _tell(self._life.loop, self._life.task.cancel)
            self._thread.join()
            raise
        self._forgotten = weakref.finalize(self, _leave_alone, self._life, self._thread)

    def start(self, work: Callable[[T], Awaitable[R]]) -> Future[R]:
        """Begin something with the part. Raises Disconnected once closed."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("what the client calls back must not wait for the client")
        with self._lock:  # so that nothing is begun after the loop has ended
            if self._closed or self._left.done():
                raise _closed()
            return asyncio.run_coroutine_threadsafe(_do(work, self.part), self._life.loop)

    def tell(self, callback: Callable[[], object]) -> None:
        """Call something in the thread, unless that has ended."""
        _tell(self._life.loop, callback)

    def run(self, work: Callable[[T], Awaitable[R]]) -> R:
        """Do something with the part and wait for it. An interrupt of the wait, as by Ctrl-C, ends it."""
        future = self.start(work)
        try:
            return future.result()
        except CancelledError:
            raise _closed() from None
        except BaseException:
            future.cancel()
            raise

    def close(self, failure: Exception | None = None) -> None:
        """Leave the part, as a block that was ended by this error. What waits elsewhere raises Disconnected."""
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            self._forgotten.detach()
            _tell(self._life.loop, self._life.leaving.set_result, failure)
        self._thread.join()
        if first and (trouble := self._left.exception()) not in (None, failure):
            raise trouble


def _closed() -> Disconnected:
    return Disconnected(1000, "closed by the application")


async def _do(work: Callable[[T], Awaitable[R]], part: T) -> R:
    return await work(part)


def _run(part: AbstractAsyncContextManager[T], begun: Future[_Life], entered: Future[T], left: Future[None]) -> None:
    try:
        asyncio.run(_live(part, begun, entered))
    except BaseException as failure:
        if not entered.done():
            entered.set_exception(failure)
        left.set_exception(failure)
    else:
        left.set_result(None)


async def _live(part: AbstractAsyncContextManager[T], begun: Future[_Life], entered: Future[T]) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    leaving: asyncio.Future[Exception | None] = loop.create_future()
    begun.set_result(_Life(loop, task, leaving))
    async with part as open:
        entered.set_result(open)
        del part, entered
        if (failure := await leaving) is not None:
            raise failure


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *arguments: object) -> None:
    """Call something on the loop, unless that has ended already."""
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        assert loop.is_closed()


def _leave_alone(life: _Life, thread: threading.Thread) -> None:
    _tell(life.loop, life.leaving.set_result, None)
    if threading.current_thread() is not thread:
        thread.join(LEAVE_S)
