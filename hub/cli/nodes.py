"""What commands share that are a node or open its database: the options that say which, and its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from hub.cli.shared import F, Unsafe
from hub.config import LogLevel, Settings, load
from hub.observe.logs import configure_logging
from hub.unusable import ConfigError, UnsafeConfig


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
            click.option("--allow-origin", envvar="KRIN_ALLOW_ORIGIN", help="whose pages may connect; several: A,B"),
            click.option("--redis-url", envvar="KRIN_REDIS_URL", help="Redis; default: this node alone"),
            click.option("--openai-base-url", envvar="KRIN_OPENAI_BASE_URL", help="a server with OpenAI's API"),
            click.option("--openai-api-key", envvar="OPENAI_API_KEY", hidden=True),  # for the environment only
            click.option("--node", envvar="KRIN_NODE", help="this node's name"),
            click.option("--ping-interval", type=float, envvar="KRIN_PING_INTERVAL", help="seconds; default: 25"),
            click.option("--drain-timeout", type=float, envvar="KRIN_DRAIN_TIMEOUT", help="seconds; default: 10"),
        ]
    ):
        command = option(command)
    return node_options(command)


def settings_of(options: dict[str, Any]) -> Settings:
    """Settings from the options of one command. Ends the command with one line when they are wrong."""
    given = {
        "host": options.get("host"),
        "port": options.get("port"),
        "data_dir": str(options["data_dir"]) if options.get("data_dir") else None,
        "tls_cert": options.get("tls_cert"),
        "tls_key": options.get("tls_key"),
        "allow_origin": options.get("allow_origin"),
        "database_url": options.get("database_url"),
        "redis_url": options.get("redis_url"),
        "openai_base_url": options.get("openai_base_url"),
        "openai_api_key": options.get("openai_api_key"),
        "log_level": options.get("log_level"),
        "node": options.get("node"),
        "role": options.get("role"),
        "ping_interval_s": options.get("ping_interval"),
        "drain_timeout_s": options.get("drain_timeout"),
    }
    try:
        settings = load(options.get("config"), **given)
    except ConfigError as failure:
        raise (Unsafe if isinstance(failure, UnsafeConfig) else click.ClickException)(str(failure)) from None
    configure_logging(settings.log_level)
    return settings
