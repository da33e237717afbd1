"""A leader's methods on every node: here if this node leads, otherwise sent to the node that does.

Words between nodes may get lost. A call that is not answered in time is `timeout`: its outcome is unknown, and the
client repeats it. Nodes trust each other's word on who the caller is.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import secrets
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec

from hub.caller import Caller
from hub.clock import Clock
from hub.dispatch import Method
from protocol.errors import ErrorCode, HubError

HEARTBEAT_S = 0.5
SILENT_S = 2.0  # a leader that was not heard for so long is gone
ANSWER_S = 5.0
MAX_FORWARDED = 1024  # under way from this node, and for other nodes on this one


class _Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    code: int
    message: str
    path: str | None = None
    retry_after_ms: int | None = None


class _Word(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """From `node`: that it leads (no `call`), a call to `leader`, or the answer to it."""

    node: str
    call: str = ""
    leader: str = ""
    method: str = ""
    params: dict[str, Any] = {}
    caller: Caller | None = None
    answer: Any = None
    failure: _Failure | None = None


class Forwarding:
    """`of`: what is led, as in "the order engine". `repeat`: what a client does whose call was not answered."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        of: str,
        topic: str,
        repeat: str = "ask what became of it",
        node: str,
        leads: Callable[[], bool],
        announce: Callable[[str, bytes], None],
        as_hub_error: Callable[[BaseException], HubError],
        clock: Clock,
        answer_s: float = ANSWER_S,
    ) -> None:
        self.methods: Mapping[str, Method] = {name: self._anywhere(name, method) for name, method in methods.items()}
        self._here = methods
        self._of = of
        self._topic = topic
        self._repeat = repeat
        self._node = node
        self._leads = leads
        self._announce = announce
        self._as_hub_error = as_hub_error
        self._clock = clock
        self._answer_s = answer_s
        self._leader: tuple[str, float] | None = None  # who, and when last heard
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._asked: asyncio.Queue[_Word] = asyncio.Queue(MAX_FORWARDED)
        self._answering = 0
        self._heard = asyncio.Event()

    def hear(self, payload: bytes) -> None:
        """What some node announced under the topic."""
        try:
            word = msgspec.msgpack.decode(payload, type=_Word)
        except msgspec.MsgspecError:
            return
        if word.node == self._node:
            return
        if not word.call:
            self._leader = (word.node, self._clock.monotonic())
            self._heard.set()
        elif word.leader == self._node:
            if not self._leads():
                self._refuse(
                    word, HubError(ErrorCode.NOT_AVAILABLE, f"no node has {self._of} now", retry_after_ms=1000)
                )
            elif self._answering >= MAX_FORWARDED:
                self._refuse(word, HubError(ErrorCode.OVERLOADED, "too many calls of other nodes", retry_after_ms=100))
            else:
                self._answering += 1
                self._asked.put_nowait(word)
        elif (waiting := self._waiting.get(word.call)) is not None and not waiting.done():
            if word.failure is not None:
                failure = word.failure
                waiting.set_exception(
                    HubError(
                        ErrorCode(failure.code),
                        failure.message,
                        path=failure.path,
                        retry_after_ms=failure.retry_after_ms,
                    )
                )
            else:
                waiting.set_result(word.answer)

    async def run(self) -> NoReturn:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(), name=f"{self._of}: heartbeat")
            while True:
                word = await self._asked.get()
                group.create_task(self._answer(word), name="a forwarded call")
        raise AssertionError("the group's tasks never return")

    async def _beat(self) -> NoReturn:
        while True:
            if self._leads():
                self._tell(_Word(node=self._node))
            await self._clock.sleep(HEARTBEAT_S)

    def _anywhere(self, name: str, method: Method) -> Method:
        def call(params: Mapping[str, Any], caller: Caller) -> Any:
            if self._leads():
                return method(params, caller)
            return self._forward(name, params, caller)

        return call

    async def _forward(self, method: str, params: Mapping[str, Any], caller: Caller) -> Any:
        if self._leader is None:  # this node has just started: the leader is about to say that it is one
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 * HEARTBEAT_S):
                    await self._heard.wait()
        leader = self._leader
        if leader is None or self._clock.monotonic() - leader[1] > SILENT_S or len(self._waiting) >= MAX_FORWARDED:
            raise HubError(ErrorCode.NOT_AVAILABLE, f"no node has {self._of} now", retry_after_ms=1000)
        call = secrets.token_hex(8)
        answer = self._waiting[call] = asyncio.get_running_loop().create_future()
        self._tell(
            _Word(
                node=self._node,
                call=call,
                leader=leader[0],
                method=method,
                params=dict(params),
                caller=msgspec.structs.replace(caller, connection=None),
            )
        )
        try:
            async with asyncio.timeout(self._answer_s):
                return await answer
        except TimeoutError:
            raise HubError(ErrorCode.TIMEOUT, f"the outcome is unknown; {self._repeat}", retry_after_ms=1000) from None
        finally:
            del self._waiting[call]

    async def _answer(self, word: _Word) -> None:
        """Answer another node's call as if its caller were here."""
        try:
            await self._answer_here(word)
        finally:
            self._answering -= 1

    async def _answer_here(self, word: _Word) -> None:
        method = self._here.get(word.method)
        if method is None or word.caller is None:
            return
        try:
            answer = method(word.params, word.caller)
            if inspect.isawaitable(answer):
                answer = await answer
            said = msgspec.to_builtins(answer)
        except Exception as failure:
            self._refuse(word, self._as_hub_error(failure))
        else:
            self._tell(_Word(node=self._node, call=word.call, answer=said))

    def _refuse(self, word: _Word, error: HubError) -> None:
        told = _Failure(error.code.value, error.message, error.path, error.retry_after_ms)
        self._tell(_Word(node=self._node, call=word.call, failure=told))

    def _tell(self, word: _Word) -> None:
        self._announce(self._topic, msgspec.msgpack.encode(word))
