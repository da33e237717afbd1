"""One door: what a handler raises, and what the peer may know of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from typing import Any, get_args

import pytest
from doubles import caller

from hub.clock import SystemClock
from hub.dispatch import Dispatcher, convert
from hub.guard.events import SecurityEvent
from hub.permissions import COMMANDS, METHODS, Need, Permissions, Ungoverned
from protocol.errors import TEMPORARY, ErrorCode, HubError
from protocol.messages import AnyCommand, Call, ErrorBody, History, Pong, Presence
from protocol.positions import Position
from storage.errors import OutcomeUnknown, StorageError, Unavailable

SECRET = "postgresql://krin:hunter2@db/krin"


def raising(failure: BaseException) -> Any:
    def handler(command: Any, caller: Any, codec: Any) -> Any:
        raise failure

    return handler


def dispatcher_of(handlers: dict[type, Any], methods: dict[str, Any]) -> Dispatcher:
    permissions = Permissions(report=lambda event: None, signal=lambda event: None, clock=SystemClock())
    dispatcher = Dispatcher(permissions=permissions)
    dispatcher.add(handlers, methods)
    return dispatcher


def failed(failure: BaseException) -> HubError:
    dispatcher = dispatcher_of({History: raising(failure)}, {})
    with pytest.raises(HubError) as caught:
        dispatcher.handle(History(id=1, channel="custom:x"), caller("ann"))
    return caught.value


@pytest.mark.parametrize(
    ("failure", "code"),
    [(Unavailable(SECRET), ErrorCode.NOT_AVAILABLE), (OutcomeUnknown(SECRET), ErrorCode.TIMEOUT)],
)
def test_a_store_that_is_away_is_no_incident(
    failure: StorageError, code: ErrorCode, caplog: pytest.LogCaptureFixture
) -> None:
    told = failed(failure)

    assert told.code is code
    assert SECRET not in told.message
    assert not caplog.records


@pytest.mark.parametrize("code", list(ErrorCode), ids=lambda code: code.name)
def test_a_hub_error_reaches_the_peer_as_it_is(code: ErrorCode) -> None:
    body = ErrorBody.of(failed(HubError(code, "no", path="$.x", retry_after_ms=5)))

    assert (body.code, body.name, body.message, body.path, body.retry_after_ms) == (
        code.value,
        code.name.lower(),
        "no",
        "$.x",
        5,
    )
    assert body.temporary is (code in TEMPORARY)


@pytest.mark.parametrize(
    "failure",
    [RuntimeError(SECRET), KeyError(SECRET), ValueError(SECRET), OSError(2, SECRET), RecursionError(SECRET)],
    ids=lambda failure: type(failure).__name__,
)
def test_c83_an_unexpected_failure_is_internal_with_an_incident_that_stands_in_the_log(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        error = failed(failure)

    assert error.code is ErrorCode.INTERNAL
    assert SECRET not in error.message
    incident = error.message.rsplit(" ", 1)[-1]
    assert incident in caplog.text


def test_what_failed_is_free_with_its_error_and_without_the_collector() -> None:
    def refuse(*_: object) -> None:
        raise HubError(ErrorCode.NOT_FOUND, "no")

    dispatcher = dispatcher_of({History: refuse}, {})
    command = History(id=1, channel="custom:x")
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(command)
        for _ in range(3):
            with contextlib.suppress(HubError):
                dispatcher.handle(command, caller("ann"))
        assert sys.getrefcount(command) == before
    finally:
        gc.enable()


def test_a_timeout_says_when_to_try_again() -> None:
    error = failed(TimeoutError())

    assert error.code is ErrorCode.TIMEOUT
    assert error.retry_after_ms


def test_a_command_without_a_handler_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(HubError) as caught:
        dispatcher_of({}, {}).handle(Presence(id=1, channel="custom:x"), caller("ann"))

    assert caught.value.code in (ErrorCode.INTERNAL, ErrorCode.UNKNOWN_TYPE)


@pytest.mark.parametrize("params", [{"t": "a\0b"}, {"\0": 1}, {"t": [{"u": "\0"}]}])
def test_c30_nul_in_the_parameters_of_a_call_never_reaches_a_method(params: dict[str, Any]) -> None:
    dispatcher = dispatcher_of({}, {"hub.time": lambda params, caller: pytest.fail("it was called")})
    with pytest.raises(HubError) as caught:
        dispatcher.handle(Call(id=1, method="hub.time", params=params), caller("ann"))

    assert (caught.value.code, caught.value.path) == (ErrorCode.BAD_REQUEST, "$.params")


def test_an_unknown_method_is_an_unknown_type_at_its_path() -> None:
    with pytest.raises(HubError) as caught:
        dispatcher_of({}, {}).handle(Call(id=1, method="orders.nope"), caller("ann"))

    assert (caught.value.code, caught.value.path) == (ErrorCode.UNKNOWN_TYPE, "$.method")


def test_cancellation_is_not_an_error_to_be_answered() -> None:
    with pytest.raises(asyncio.CancelledError):
        dispatcher_of({History: raising(asyncio.CancelledError())}, {}).handle(
            History(id=1, channel="custom:x"), caller("ann")
        )


def test_each_error_and_each_command_is_counted_once() -> None:
    def late(*_: object) -> None:
        raise HubError(ErrorCode.TIMEOUT, "late")

    dispatcher = dispatcher_of({History: late}, {})
    for number in range(1, 4):
        with pytest.raises(HubError):
            dispatcher.handle(History(id=number, channel="custom:x"), caller("ann"))

    assert dispatcher.errors == {"timeout": 3}
    assert dispatcher.commands == {"History": 3}


def test_parameters_of_a_method_are_checked_with_their_path() -> None:
    with pytest.raises(HubError) as caught:
        convert({"epoch": "e", "offset": "three"}, Position)

    assert (caught.value.code, caught.value.path) == (ErrorCode.SCHEMA_INVALID, "$.params.offset")
    assert "three" not in caught.value.message


# --- C59: nothing runs that nobody has decided about


class Invented:
    """A command that the permission table has never heard of."""


def test_c59_a_command_or_method_without_a_permission_stops_the_start() -> None:
    with pytest.raises(Ungoverned, match="Invented"):
        dispatcher_of({Invented: raising(KeyError())}, {})
    with pytest.raises(Ungoverned, match=r"orders\.invented"):
        dispatcher_of({}, {"orders.invented": lambda params, caller: None})


def test_what_is_there_already_is_not_replaced() -> None:
    dispatcher = dispatcher_of({History: raising(KeyError())}, {"hub.time": lambda params, caller: 42})
    with pytest.raises(ValueError, match="History"):
        dispatcher.add({History: raising(KeyError())}, {})
    with pytest.raises(ValueError, match=r"hub\.time"):
        dispatcher.add({}, {"hub.time": lambda params, caller: 43})


def test_c59_every_command_of_the_protocol_has_a_permission() -> None:
    assert set(COMMANDS) == set(get_args(AnyCommand)) - {Pong}  # a pong asks for nothing


def test_c59_a_method_for_admins_is_refused_to_everybody_else_and_the_attempt_is_reported() -> None:
    reported: list[SecurityEvent] = []
    used: list[SecurityEvent] = []
    permissions = Permissions(
        report=reported.append,
        signal=used.append,
        clock=SystemClock(),
        methods=METHODS | {"hub.secret": Need.ADMIN},
    )
    dispatcher = Dispatcher(permissions=permissions)
    dispatcher.add({}, {"hub.secret": lambda params, caller: 42})
    command = Call(id=1, method="hub.secret")

    with pytest.raises(HubError) as caught:
        dispatcher.handle(command, caller("ann", "trader", "agent"))

    assert caught.value.code is ErrorCode.PERMISSION_DENIED
    assert [(each.name, each.user, each.target, each.allowed) for each in reported] == [
        ("authz_fail", "ann", "hub.secret", False)
    ]
    assert used == []
    assert dispatcher.handle(command, caller("root", "admin")) == 42
    assert [(each.name, each.user, each.target) for each in used] == [("authz_admin", "root", "hub.secret")]
