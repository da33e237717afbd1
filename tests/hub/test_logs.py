"""What stands in the log: one line for each fact, whatever anybody called themselves (control C81)."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import Iterator

import pytest

from hub.observe.logs import configure_logging
from hub.serve import DROPPED, Complaints

FORGED = 'a\r\n{"level":"CRITICAL"}'
HOSTILE = [FORGED, "\x1b[2J\x1b[1;31mred", "bell\x07 null\x00 delete\x7f", "\u2028line\u2029\x85next", "lone \ud800"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("krin")
    handlers, level, our_level = root.handlers, root.level, ours.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    ours.setLevel(our_level)


def logged(stream: io.StringIO, name: str) -> str:
    with contextlib.redirect_stderr(stream):
        configure_logging("info")
        logging.getLogger("krin.auth").warning("%s has signed in", name)
    return stream.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_c81_a_hostile_name_is_one_line_of_json_with_its_control_characters_escaped(as_it_was: None, name: str) -> None:
    text = logged(io.StringIO(), name)
    [line] = text.splitlines()
    told = json.loads(line)

    assert line.isascii()
    assert line.isprintable()
    assert (told["level"], told["event"]) == ("warning", f"{name} has signed in")


@pytest.mark.parametrize("name", HOSTILE)
def test_c81_on_a_terminal_a_hostile_name_is_one_line_and_moves_no_cursor(as_it_was: None, name: str) -> None:
    harmless = logged(Terminal(), "ann")
    text = logged(Terminal(), name)

    assert text.encode("utf-8", "strict")
    assert len(text.splitlines()) == 1
    assert text.count("\x1b") == harmless.count("\x1b"), "only the colours of the log itself"
    assert not {"\x07", "\x00", "\x7f", "\x85"} & set(text)


@pytest.mark.parametrize("level", ["debug", "info"])
def test_libraries_do_not_log_addresses_headers_and_messages_with_their_secrets(as_it_was: None, level: str) -> None:
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        configure_logging(level)
        for library in (
            "httpx",
            "httpcore.http11",
            "websockets.client",
            "openai._base_client",
            "ccxt",
            "uvicorn.error",
        ):
            logging.getLogger(library).info("POST https://hooks.example/T0/s3cret")
            logging.getLogger(library).debug("authorization: Bearer s3cret")
            logging.getLogger(library).warning("gone")
        logging.getLogger("krin.webhooks").log(logging.getLevelName(level.upper()), "told")
    lines = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]

    assert lines == ["gone"] * 6 + ["told"]


@pytest.mark.parametrize(("told", "lines"), [(DROPPED, 0), ("connection reset by peer", 1)])
async def test_a_database_connection_that_the_hub_gave_up_itself_is_no_error(
    told: str, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncpg leaves the connect that was given up with an exception that nobody waits for any more."""
    context = {"message": "Future exception was never retrieved", "exception": ConnectionError(told)}
    Complaints()(asyncio.get_running_loop(), context)

    assert len(caplog.records) == lines
