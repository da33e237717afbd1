"""What every command shares: the options that name a node, its settings, and one line for what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
from rich.console import Console

from hub.config import ConfigError, LogLevel, Settings, UnsafeConfig, load
from hub.observe.logs import configure_logging
from hub.permissions import Ungoverned
from protocol.errors import HubError
from storage.errors import StorageError

F = TypeVar("F", bound=Callable[..., Any])
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

err = Console(stderr=True, highlight=False)


class Unsafe(click.ClickException):
    """A protection is missing, declared or taken for granted: not to be confused with a start that failed."""

    exit_code = 3


class Duration(click.ParamType[int]):
    """`90s`, `15m`, `1h`, `7d` -> seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        number, unit = value[:-1], value[-1:]
        if unit not in UNITS_S or not number.isdigit() or int(number) == 0:
            self.fail("use a number with s, m, h or d, such as 1h", param, ctx)
        return int(number) * UNITS_S[unit]


def node_options(command: F) -> F:
    """The options that say which node this is: the same for every command that opens one."""
    for option in reversed(
        [
            click.option("--data-dir", type=click.Path(path_type=Path), envvar="KRIN_DATA_DIR", help="data folder"),
            click.option("--database-url", envvar="KRIN_DATABASE_URL", help="Postgres; default: an embedded one"),
            click.option("--config", type=click.Path(path_type=Path), envvar="KRIN_CONFIG", help="TOML file"),
            click.option(
                "--log-level",
                type=click.Choice(get_args(LogLevel)),
                envvar="KRIN_LOG_LEVEL",
                default=None,
                help="default: info",
            ),
        ]
    ):
        command = option(command)
    return command


def serve_options(command: F) -> F:
    for option in reversed(
        [
            click.option("--host", envvar="KRIN_HOST", help="default: 127.0.0.1"),
            click.option(
                "--port", type=click.IntRange(0, 65535), envvar="KRIN_PORT", help="default: 8000; 0: any free"
            ),
            click.option("--tls-cert", envvar="KRIN_TLS_CERT", help="PEM file; with it the hub speaks TLS 1.3 only"),
            click.option("--tls-key", envvar="KRIN_TLS_KEY", help="PEM file; default: in the certificate's file"),
            click.option("--redis-url", envvar="KRIN_REDIS_URL", help="Redis; default: this node alone"),
            click.option("--node", envvar="KRIN_NODE", help="this node's name"),
            click.option("--ping-interval", type=float, envvar="KRIN_PING_INTERVAL", help="seconds; default: 25"),
            click.option("--drain-timeout", type=float, envvar="KRIN_DRAIN_TIMEOUT", help="seconds; default: 10"),
        ]
    ):
        command = option(command)
    return node_options(command)


def hub_options(command: F) -> F:
    """Where a running hub is, and as whom to speak to it."""
    for option in (
        click.option("--token", "token_", envvar="KRIN_TOKEN", required=True),
        click.option("--url", envvar="KRIN_URL", default="http://127.0.0.1:8000", show_default=True),
    ):
        command = option(command)
    return command


def pairs(given: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE`s. Raises click.UsageError."""
    found = dict(each.partition("=")[::2] for each in given)
    if "" in (*found, *found.values()):
        raise click.UsageError("give names and values as NAME=VALUE")
    return found


def settings_of(options: dict[str, Any]) -> Settings:
    """Settings from the options of one command. Ends the command with one line when they are wrong."""
    given = {
        "host": options.get("host"),
        "port": options.get("port"),
        "data_dir": str(options["data_dir"]) if options.get("data_dir") else None,
        "tls_cert": options.get("tls_cert"),
        "tls_key": options.get("tls_key"),
        "database_url": options.get("database_url"),
        "redis_url": options.get("redis_url"),
        "log_level": options.get("log_level"),
        "node": options.get("node"),
        "ping_interval_s": options.get("ping_interval"),
        "drain_timeout_s": options.get("drain_timeout"),
    }
    try:
        settings = load(options.get("config"), **given)
    except ConfigError as failure:
        raise (Unsafe if isinstance(failure, UnsafeConfig) else click.ClickException)(str(failure)) from None
    configure_logging(settings.log_level)
    return settings


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command's work. What can be expected to go wrong is one line and exit code 1, never a traceback.

    A handler without a permission is a mistake in the program: exit code 3, so that no supervisor tries again.
    """
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BaseException as failure:
        known = _known(failure)
        if known is None:
            raise
        raise (Unsafe if _is_ungoverned(failure) else click.ClickException)(known) from None


def _known(failure: BaseException) -> str | None:
    """The one line for a failure that needs no traceback, also inside a group."""
    if isinstance(failure, BaseExceptionGroup):
        lines = [_known(each) for each in failure.exceptions]
        return lines[0] if lines and all(lines) else None
    if isinstance(failure, ConfigError | StorageError | HubError | Ungoverned):
        return str(failure)
    if isinstance(failure, OSError):
        return failure.strerror or str(failure)
    return None


def _is_ungoverned(failure: BaseException) -> bool:
    if isinstance(failure, BaseExceptionGroup):
        return any(_is_ungoverned(each) for each in failure.exceptions)
    return isinstance(failure, Ungoverned)
