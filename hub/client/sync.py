"""The client without an event loop: for scripts, notebooks and threads.

    from hub.client.sync import connect

    with connect("https://hub.example:8443", token=token) as krin:
        krin.publish("alerts:desk", "ALERT", {"alert_id": "a1", "severity": "INFO", "title": "spread widens"})

        for message in krin.subscribe("prices:BTC-USD", quiet_s=5):
            print(message.data["bid"], message.typed().ask)

In a notebook, `krin = connect(...)` and at the end `krin.close()`. It is the client of `hub.client`, in a thread of its
own: the same methods and errors, and it stays connected while nobody calls. What is given to it to be called back
(`token`, `on_state`, `on_notice`) is called in that thread and must not wait for the client; `on_lost` is called by
whoever iterates. Ctrl-C interrupts whatever waits, and the client can be used further.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from hub.client import client, orders, specialist, subscription
from hub.client.background import Background
from hub.client.link import State, Token
from hub.client.subscription import Lost
from hub.client.wire import Disconnected, Message
from protocol.messages import Filter, Limits, Member, MinQuality
from protocol.positions import Position
from protocol.trading import ExecutionReport, OrdStatus

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Item = TypeVar("Item", covariant=True)

OnLost = Callable[[Lost], None]

AHEAD = 64  # messages brought out of the client's thread before they are asked for

_Came = SimpleQueue[tuple[R, Position | None] | Lost | Exception]


def connect(url: str, *, token: Token, **options: Any) -> Client:
    """Connect to a hub, and stay connected until the client is closed. `options`: those of `hub.client.Client`.

    Raises Disconnected when the hub refuses, TimeoutError when it could not be reached in time.
    """
    background = Background(client.Client(url, token=token, **options), name="krin client")
    return Client(background, background.part)


class _Closing(ABC):
    """What is closed at the end of a `with` block."""

    @abstractmethod
    def close(self) -> None: ...

    def _leave(self, failure: Exception | None) -> None:
        """Of a block that ended, or that an error left."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(failure if isinstance(failure, Exception) else None)


class _Facade(Generic[T]):
    """Something that lives in the background, as whoever waits for it sees it."""

    def __init__(self, background: Background[Any], part: T) -> None:
        self._background = background
        self._part = part

    def _run(self, work: Callable[[T], Awaitable[R]]) -> R:
        return self._background.run(lambda _: work(self._part))


def _waiting(method: Callable[Concatenate[T, P], Awaitable[R]]) -> Callable[Concatenate[_Facade[T], P], R]:
    """The method of the facade that calls this one and waits for it."""

    @functools.wraps(method)
    def call(self: _Facade[T], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(lambda part: method(part, *args, **kwargs))

    return call


class Client(_Facade[client.Client], _Closing):
    """Made by `connect`. May be used by several threads at once."""

    def __init__(self, background: Background[Any], part: client.Client) -> None:
        super().__init__(background, part)
        self.orders = Orders(background, part.orders)

    @property
    def state(self) -> State:
        return self._part.state

    @property
    def user(self) -> str | None:
        """Who the hub says we are."""
        return self._part.user

    @property
    def limits(self) -> Limits | None:
        """What this client must stay within, as the hub announced it."""
        return self._part.limits

    @property
    def now_ms(self) -> float | None:
        """The hub's clock, to within half a round trip."""

        async def now(krin: client.Client) -> float | None:
            return krin.now_ms

        return self._run(now)

    publish = _waiting(client.Client.publish)
    history = _waiting(client.Client.history)
    presence = _waiting(client.Client.presence)
    explain = _waiting(client.Client.explain)
    search = _waiting(client.Client.search)
    call = _waiting(client.Client.call)
    insist = _waiting(client.Client.insist)
    refresh = _waiting(client.Client.refresh)

    def subscribe(
        self,
        channel: str,
        *,
        quiet_s: float | None = None,
        recover: Position | None = None,
        rewind: int | str | None = None,
        max_rate: float | None = None,
        max_age_ms: int | None = None,
        min_quality: MinQuality | None = None,
        filter: Filter | Mapping[str, list[str]] | None = None,
        presence: bool = False,
        buffer: int = client.BUFFER_MESSAGES,
        on_lost: OnLost | None = None,
    ) -> Subscription:
        """The messages of a channel from now on, once the hub has agreed; options as in `hub.client.Client.subscribe`.

        `quiet_s`: a loop over it ends when nothing has come for so long. Raises HubError, Disconnected.
        """

        async def begin(krin: client.Client) -> subscription.Subscription:
            begun = krin.subscribe(
                channel,
                recover=recover,
                rewind=rewind,
                max_rate=max_rate,
                max_age_ms=max_age_ms,
                min_quality=min_quality,
                filter=filter,
                presence=presence,
                buffer=buffer,
                on_lost=on_lost and _interrupt,
            )
            return await begun.__aenter__()

        return Subscription(self._background, self._run(begin), quiet_s=quiet_s, on_lost=on_lost)

    def close(self) -> None:
        """Say goodbye. Loops over subscriptions end, and what waits in other threads raises Disconnected."""
        self._background.close()


class _LostHere(Exception):
    """Carries a loss out of the client's thread to whoever iterates."""

    def __init__(self, lost: Lost) -> None:
        super().__init__()
        self.lost = lost


def _interrupt(lost: Lost) -> None:
    raise _LostHere(lost)


class _Source(Protocol[Item]):
    @property
    def position(self) -> Position | None: ...

    async def __anext__(self) -> Item: ...

    async def aclose(self) -> None: ...


class _Stream(_Closing, Generic[R]):
    """What comes, one by one: an iterator and a context manager, for one thread at a time."""

    def __init__(
        self, background: Background[Any], source: _Source[R], *, quiet_s: float | None, on_lost: OnLost | None
    ) -> None:
        self._background = background
        self._source = source
        self._quiet_s = quiet_s
        self._on_lost = on_lost
        self._position = source.position
        self._failure: Exception | None = None
        self._came: _Came[R] = SimpleQueue()
        self._room = asyncio.Event()
        carrying = background.start(functools.partial(_carry, source, self._came, self._room))
        weakref.finalize(self, carrying.cancel)

    @property
    def position(self) -> Position | None:
        """Of the last message handed out: store it with its effect, and go on from there with `recover`."""
        return self._position

    def receive(self, timeout_s: float | None = None) -> R:
        """The next one. Raises TimeoutError when none came in time, HubError when the hub ended the subscription,
        Disconnected when the client or the subscription was closed.
        """
        while self._failure is None:
            try:
                came = self._came.get(timeout=timeout_s)
            except Empty:
                raise TimeoutError(f"nothing came within {timeout_s} s") from None
            if not self._room.is_set() and self._came.qsize() <= AHEAD // 2:
                self._background.tell(self._room.set)
            if isinstance(came, Lost):
                assert self._on_lost is not None
                self._position = came.resumed_at
                self._on_lost(came)
            elif isinstance(came, Exception):
                self._failure = came
            else:
                item, self._position = came
                return item
        raise self._failure.with_traceback(None)

    def close(self) -> None:
        """Unsubscribe. What has not been taken is dropped."""
        self._failure = self._failure or Disconnected(1000, "the subscription was closed")
        try:
            self._background.run(lambda _: self._source.aclose())
        except Disconnected:
            pass  # together with its client

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        try:
            return self.receive(self._quiet_s)
        except TimeoutError:
            self.close()
        except Disconnected as ended:
            if ended.code != 1000:
                raise
        raise StopIteration


async def _carry(source: _Source[R], came: _Came[R], room: asyncio.Event, _: object) -> None:
    """Bring what comes out of the client's thread. Nothing is lost with an interrupted wait: it waits in the queue."""
    room.set()
    try:
        while True:
            try:
                item = await source.__anext__()
                came.put((item, source.position))
            except _LostHere as interruption:
                came.put(interruption.lost)
            if came.qsize() >= AHEAD:
                room.clear()
                if came.qsize() > AHEAD // 2:  # else whoever takes may have looked before it was cleared
                    await room.wait()
    except (StopAsyncIteration, asyncio.CancelledError):
        came.put(Disconnected(1000, "the subscription was closed"))
    except Exception as failure:
        came.put(failure)
    finally:
        await source.aclose()


class Subscription(_Stream[Message]):
    """The messages of one channel. Made by `Client.subscribe`; ends with `close`, or when nothing refers to it."""

    _source: subscription.Subscription

    @property
    def channel(self) -> str:
        return self._source.channel

    @property
    def members(self) -> list[Member]:
        """Who is in the channel now, when subscribed with `presence`."""
        return self._source.members


class Reports(_Stream[ExecutionReport]):
    """The execution reports of one account, each once and in order. Made by `Orders.reports`."""

    def until(self, order: ExecutionReport, *statuses: OrdStatus, timeout_s: float | None = None) -> ExecutionReport:
        """As `hub.client.Reports.until`; TimeoutError when nothing at all was reported for so long."""
        while True:
            report = self.receive(timeout_s)
            if orders.leaves_in(report, order, statuses):
                return report


class Orders(_Facade[orders.Orders]):
    """As `hub.client.Orders`. Made by `Client.orders`."""

    submit = _waiting(orders.Orders.submit)
    validate = _waiting(orders.Orders.validate)
    replace = _waiting(orders.Orders.replace)
    cancel = _waiting(orders.Orders.cancel)
    cancel_all = _waiting(orders.Orders.cancel_all)
    cancel_all_after = _waiting(orders.Orders.cancel_all_after)
    cancel_on_disconnect = _waiting(orders.Orders.cancel_on_disconnect)
    status = _waiting(orders.Orders.status)
    list = _waiting(orders.Orders.list)

    def reports(
        self,
        account: str | None = None,
        *,
        quiet_s: float | None = None,
        recover: Position | None = None,
        rewind: int | str | None = None,
        on_lost: OnLost | None = None,
    ) -> Reports:
        """What happens to the orders of the account from now on, or from `recover` on. See `Client.subscribe`."""

        async def begin(placed: orders.Orders) -> orders.Reports:
            begun = placed.reports(account, recover=recover, rewind=rewind, on_lost=on_lost and _interrupt)
            return await begun.__aenter__()

        return Reports(self._background, self._run(begin), quiet_s=quiet_s, on_lost=on_lost)


class Task(_Facade[specialist.Task]):
    """As `hub.client.Task`."""

    @property
    def project_id(self) -> str:
        return self._part.project_id

    @property
    def task_id(self) -> str:
        return self._part.task_id

    @property
    def spec(self) -> dict[str, Any]:
        """What was asked for."""
        return self._part.spec

    @property
    def state(self) -> str:
        return self._part.state

    @property
    def held(self) -> bool:
        """Whether it is still this specialist's."""
        return self._part.held

    progress = _waiting(specialist.Task.progress)
    block = _waiting(specialist.Task.block)
    ask = _waiting(specialist.Task.ask)
    hand_off = _waiting(specialist.Task.hand_off)
    submit = _waiting(specialist.Task.submit)
    reviewed = _waiting(specialist.Task.reviewed)
    fail = _waiting(specialist.Task.fail)


class Specialist(_Facade[specialist.Specialist], _Closing):
    """As `hub.client.Specialist`, registered once it is made:

    with Specialist(url, token=token, specialist_id="py-1", team="alpha", skills=["py"]) as me:
        for task in me.tasks():
            task.submit({"name": "patch", "ref": "c0ffee"})

    An error that leaves the block fails the tasks it has. It shows that it lives while the program is busy elsewhere.
    """

    def __init__(
        self,
        url: str,
        *,
        specialist_id: str,
        team: str,
        token: Token,
        skills: Sequence[str | dict[str, Any]] = (),
        **options: Any,
    ) -> None:
        """`options`: the others of `hub.client.Specialist`."""
        part = specialist.Specialist(url, specialist_id=specialist_id, team=team, token=token, skills=skills, **options)
        super().__init__(Background(part, name=f"specialist {specialist_id}"), part)

    call = _waiting(specialist.Specialist.call)

    def tasks(self) -> Iterator[Task]:
        """Tasks, as they come; with `max_concurrent` 1 each has to be ended before the next is asked for."""
        while True:
            yield Task(self._background, self._run(specialist.Specialist.take))

    def close(self) -> None:
        """Leave the team: what it still has goes back."""
        self._background.close()

    def _leave(self, failure: Exception | None) -> None:
        self._background.close(failure)
