"""One door for WebSocket and REST: the same command gets the same rules and the same errors."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from hub.caller import SYSTEM, Caller
from hub.clock import Clock
from hub.permissions import Permissions
from protocol.codec import JSON, Codec, check_shape, converted, refuse_nul
from protocol.errors import ErrorCode, HubError
from protocol.messages import Call, Publish, Published
from storage.errors import OutcomeUnknown, Unavailable

logger = logging.getLogger("krin.dispatch")

Handler = Callable[[Any, Caller, Codec], Any | Awaitable[Any]]
"""(command, caller, codec of raw parts) -> a result struct, or an awaitable of it. Raises HubError."""

Method = Callable[[Mapping[str, Any], Caller], Any | Awaitable[Any]]
"""(params, caller) -> a JSON-like result, or an awaitable of it: an operation behind `call`."""


Finished = Callable[[str, float | None, ErrorCode | None], None]
"""Told of an operation of a user's: which, since when (monotonic seconds; None: it waits for others), how it failed."""


def unobserved(operation: str, began: float | None, error: ErrorCode | None) -> None:
    """Nobody observes."""


Heard = Callable[[BaseException], None]


def unheard(failure: BaseException) -> None:
    """Nobody listens."""


class Dispatcher:
    """Finds the handler of a command. Handlers and methods are added once, at start."""

    def __init__(self, *, permissions: Permissions, observe: Finished = unobserved) -> None:
        self._observe = observe
        self._handlers: dict[type, Handler] = {Call: self._call}
        self._methods: dict[str, Method] = {}
        self._permissions = permissions
        self._hear: Heard = unheard
        self.commands: dict[str, int] = {}  # command type -> count, for the metrics
        self.errors: dict[str, int] = {}  # error name -> count

    def listen(self, hear: Heard) -> None:
        """`hear` is told of each failure that no handler meant."""
        self._hear = hear

    def add(self, handlers: Mapping[type, Handler], methods: Mapping[str, Method]) -> None:
        """Raises Ungoverned for one that the permission tables do not mention, ValueError for one that is there."""
        self._permissions.govern(handlers, methods)
        if taken := [*(self._handlers.keys() & handlers.keys()), *(self._methods.keys() & methods.keys())]:
            raise ValueError(f"there is a handler already for {taken}")
        self._handlers.update(handlers)
        self._methods.update(methods)

    async def publish(
        self,
        channel: str,
        type: str,
        data: Any,
        *,
        caller: Caller = SYSTEM,
        key: str | None = None,
        coordination: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Publish from inside the hub, through the same door, checks and promises as everybody else."""
        message = {"type": type, "data": data} | ({"coordination": coordination} if coordination else {})
        raw = msgspec.Raw(msgspec.json.encode(message))
        command = Publish(id=1, channel=channel, message=raw, key=key, idempotency_key=idempotency_key)
        published = self.handle(command, caller)
        result: Published = published if isinstance(published, Published) else await published
        return result

    def handle(self, command: Any, caller: Caller, codec: Codec = JSON) -> Any | Awaitable[Any]:
        """Run a command. A synchronous handler answers at once; an awaitable is the caller's to await.

        Raises HubError; anything else that a handler raises is logged and comes out as `internal`. What the awaitable
        raises the caller turns into an answer with `as_hub_error`.
        """
        kind = type(command)
        name = kind.__name__
        self.commands[name] = self.commands.get(name, 0) + 1
        try:
            return self._handlers[kind](command, caller, codec)
        except HubError as error:
            self._count(error)
            raise  # not from itself: a circle keeps the frames, and with them the message, until the collector comes
        except Exception as failure:
            raise self.as_hub_error(failure) from failure

    def finished(self, command: Any, began: float, error: HubError | None = None) -> None:
        """A command that came over a socket is answered. Its name is one of few, whatever the peer has written."""
        name = type(command).__name__.lower()
        if type(command) is Call:
            name = command.method if command.method in self._methods else "call"
        self._observe(name, began, error.code if error is not None else None)

    async def answer(self, command: Any, caller: Caller) -> Any:
        """What `handle` answers, for a door that has nothing else to do meanwhile."""
        result = self.handle(command, caller)
        return await result if isinstance(result, Awaitable) else result

    def as_hub_error(self, failure: BaseException, *, heard: bool = False) -> HubError:
        """What the peer may know of a failure, counted. Unexpected ones are logged under the id the peer is told.

        heard: somebody has been told of it already.
        """
        if isinstance(failure, HubError):
            error = failure
        elif isinstance(failure, TimeoutError):
            error = HubError(ErrorCode.TIMEOUT, "this took too long", retry_after_ms=1000)
        elif isinstance(failure, Unavailable):
            error = HubError(ErrorCode.NOT_AVAILABLE, "the database is not available", retry_after_ms=1000)
        elif isinstance(failure, OutcomeUnknown):
            error = HubError(ErrorCode.TIMEOUT, "the database did not answer in time", retry_after_ms=1000)
        else:
            incident = secrets.token_hex(4)
            logger.error("incident %s: a handler failed", incident, exc_info=failure)
            if not heard:
                self._hear(failure)
            error = HubError(ErrorCode.INTERNAL, f"internal error, incident {incident}")
        self._count(error)
        return error

    def _count(self, error: HubError) -> None:
        if not error.counted:  # it may pass here on its way out of `handle` and again at the door
            error.counted = True
            name = error.code.wire_name
            self.errors[name] = self.errors.get(name, 0) + 1

    def _call(self, command: Call, caller: Caller, codec: Codec) -> Any | Awaitable[Any]:
        method = self._methods.get(command.method)
        if method is None:
            raise HubError(ErrorCode.UNKNOWN_TYPE, "no such method", path="$.method")
        self._permissions.require_method(command.method, caller)
        check_shape(command.params, "$.params")
        refuse_nul(msgspec.json.encode(command.params), "$.params")
        return method(command.params, caller)


async def insist(
    method: Method,
    params: Callable[[], Mapping[str, Any]],
    caller: Caller,
    *,
    tries: int,
    every_s: float,
    clock: Clock,
) -> None:
    """Call a method until it is answered. `params` are made for each try.

    Raises HubError: one that will not pass, or the one of the last try.
    """
    for left in reversed(range(tries)):
        try:
            answer = method(params(), caller)
            if isinstance(answer, Awaitable):
                await answer
            return
        except HubError as failure:
            if not (left and failure.code.temporary):
                raise
        await clock.sleep(every_s)


def convert(params: Mapping[str, Any], kind: type[Any]) -> Any:
    """Typed parameters of a method. Raises HubError(schema_invalid) with the path."""
    return converted(params, kind, "$.params")
