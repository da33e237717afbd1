"""Market data from elsewhere into a running hub: recordings, and the feeds of a configuration file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from hub.bootstrap import make_feed
from hub.cli.shared import err, node_options, run, settings_of
from hub.client import Client
from hub.clock import SystemClock
from hub.trading.market.feed import feed_replay
from hub.trading.outgoing import Publish

url_option = click.option("--url", envvar="KRIN_URL", default="http://127.0.0.1:8000", show_default=True)
token_option = click.option("--token", "token_", envvar="KRIN_TOKEN", required=True, help="of role feed")


@click.group()
def feed() -> None:
    """Market data from elsewhere."""


@feed.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--speed", type=float, default=1.0, show_default=True, help="times recorded pace; 0: as fast as possible")
@url_option
@token_option
def replay(file: Path, speed: float, url: str, token_: str) -> None:
    """Publish recorded exchange messages (Coinbase, Binance US, Kraken) as prices, trades and books."""

    async def go() -> None:
        async with _publishing(url, token_, name="replay") as publish:
            count = await feed_replay(publish, file, speed, SystemClock())
        err.print(f"published {count} messages from {file.name}")

    run(go())


@feed.command("run")
@node_options
@url_option
@token_option
def run_feeds(url: str, token_: str, **options: Any) -> None:
    """Run the [feeds] of a configuration file here, and publish to a hub elsewhere, until interrupted."""
    settings = settings_of(options)
    if not settings.feeds:
        raise click.ClickException("the configuration has no [feeds.NAME]")

    async def go() -> None:
        async with _publishing(url, token_, name="feed") as publish:
            await make_feed(settings, publish, clock=SystemClock()).run()

    run(go())


@asynccontextmanager
async def _publishing(url: str, token: str, *, name: str) -> AsyncIterator[Publish]:
    async with Client(url, token=token, name=name) as krin:

        async def publish(
            channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
        ) -> object:
            return await krin.publish(channel, type, msgspec.to_builtins(data), key=key, coordination=coordination)

        yield publish
