"""Logs go to standard error: readable lines on a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from hub.observe.printable import printable


def configure_logging(level: str) -> None:
    """Set up the root logger. Called once, by the command line."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(allow=["trace_id"]),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    terminal = sys.stderr.isatty()
    readable: list[structlog.typing.Processor] = [_printable, structlog.dev.ConsoleRenderer()]
    renderers = readable if terminal else [structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    logging.getLogger("krin").setLevel(level.upper())
    # Whatever the level: below a warning libraries log addresses with what is secret in them, headers and messages.
    root.setLevel(max(logging.WARNING, logging.getLogger("krin").level))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(root.level)


def _printable(logger: Any, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """JSON escapes by itself."""
    return {**event, "event": printable(str(event["event"]))}
