"""Every promise in turn, over one format after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Literal

import msgspec
from websockets.exceptions import WebSocketException

from hub.conformance.promises import PROMISES, Check, Skipped, Subject
from hub.conformance.wire import Broken, Probe
from protocol.errors import ErrorCode

Outcome = Literal["kept", "broken", "skipped"]
FAILURES = (Broken, WebSocketException, TimeoutError, KeyError, TypeError)
TOKEN_ERRORS = {
    each.wire_name
    for each in (
        ErrorCode.UNAUTHORIZED,
        ErrorCode.TOKEN_EXPIRED,
        ErrorCode.TOKEN_INVALID,
        ErrorCode.PROOF_INVALID,
    )
}
SLOW: tuple[Outcome, str] = ("skipped", "takes long: --slow")


class Unwelcome(Exception):
    """The hub does not take the token, so every promise would look broken; the text is its answer."""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    number: str
    promise: str
    format: str
    outcome: Outcome
    reason: str | None = None


async def examine(
    url: str,
    token: str,
    subject: Subject,
    *,
    formats: Sequence[str],
    only: Sequence[str] = (),
    slow: bool = False,
    patience_s: float,
) -> AsyncIterator[Verdict]:
    """A verdict for each promise and format. `url`: of the WebSocket; `only`: numbers, or sections.

    Raises OSError when there is nobody at the address, Unwelcome.
    """
    await _introduce(Probe(url, token, format=formats[0], patience_s=patience_s))
    for format in formats:
        probe = Probe(url, token, format=format, patience_s=patience_s)
        for number, text, check, is_slow in PROMISES:
            if only and not any(f"{number}.".startswith(f"{each}.") for each in only):
                continue
            outcome, reason = await _judge(check, probe, subject) if slow or not is_slow else SLOW
            yield Verdict(number=number, promise=text, format=format, outcome=outcome, reason=reason)


async def _introduce(probe: Probe) -> None:
    with suppress(*FAILURES):  # a promise of its own, and told there
        async with probe.open() as wire:
            error = (await wire.ask("connect", token=probe.token)).get("error")
            if error and error["name"] in TOKEN_ERRORS:
                raise Unwelcome(f"the hub does not take the token: {error['name']}, {error['message']}")


async def _judge(check: Check, probe: Probe, subject: Subject) -> tuple[Outcome, str | None]:
    try:
        await check(probe, subject)
    except Skipped as missing:
        return "skipped", str(missing)
    except FAILURES as failure:
        return "broken", _as_reason(failure)
    return "kept", None


def _as_reason(failure: Exception) -> str:
    match failure:
        case Broken():
            return str(failure)
        case KeyError():
            return f"an answer has no field {failure}"
        case TypeError():
            return "an answer has a field of another type than the specification says"
        case TimeoutError():
            return "the handshake took too long"
        case _:
            return f"the WebSocket failed: {failure}"
