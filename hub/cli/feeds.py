"""Market data from elsewhere into a running hub: recordings, and the feeds of a configuration file."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from hub import bootstrap
from hub.cli.nodes import node_options, settings_of
from hub.cli.parameters import Number
from hub.cli.shared import Progressed, hub_client, progress, run, say, token_option
from hub.clock import SystemClock
from hub.trading.market.captures import CaptureError
from hub.trading.market.feed import feed_replay
from hub.trading.outgoing import Publish

url_option = click.option("--url", envvar="KRIN_URL", default="http://127.0.0.1:8000", show_default=True)


@click.group()
def feed() -> None:
    """Market data from elsewhere."""


@feed.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--speed", type=Number(0), default=1.0, show_default=True, help="times the pace; 0: no waiting")
@url_option
@token_option("of role feed")
def replay(file: Path, speed: float, url: str, token_: str) -> None:
    """Publish recorded exchange messages (Coinbase, Binance US, Kraken) as prices, trades and books."""

    async def go() -> None:
        with progress(f"messages of {file.name}") as told:
            async with _publishing(url, token_, name="replay", told=told) as publish:
                try:
                    count = await feed_replay(publish, file, speed, SystemClock())
                except CaptureError as failure:
                    raise click.ClickException(str(failure)) from None
        say(f"published {count} messages from {file.name}")

    run(go())


@feed.command("run")
@node_options
@url_option
@token_option("of role feed")
def run_feeds(url: str, token_: str, **options: Any) -> None:
    """Run the [feeds] of a configuration file here, and publish to a hub elsewhere, until interrupted."""
    settings = settings_of(options)
    if not settings.feeds:
        raise click.ClickException("the configuration has no [feeds.NAME]")

    async def go() -> None:
        async with _publishing(url, token_, name="feed") as publish:
            await bootstrap.make_feed(settings, publish, clock=SystemClock()).run()

    run(go())


@asynccontextmanager
async def _publishing(
    url: str, token: str, *, name: str, told: Progressed = lambda done, total: None
) -> AsyncIterator[Publish]:
    counter = itertools.count(1)
    async with hub_client(url, token, name=name) as krin:

        async def publish(
            channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
        ) -> object:
            placed = await krin.publish(channel, type, msgspec.to_builtins(data), key=key, coordination=coordination)
            told(next(counter), None)
            return placed

        yield publish
