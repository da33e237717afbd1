"""Commands that speak to a running hub: publish, tail."""

from __future__ import annotations

import json

import click

from hub.cli.shared import run
from hub.client import Client
from hub.client.tail import follow


@click.command()
@click.argument("channel")
@click.argument("type_name", metavar="TYPE")
@click.argument("data", metavar="JSON")
@click.option("--url", envvar="KRIN_URL", default="http://127.0.0.1:8000", show_default=True)
@click.option("--token", "token_", envvar="KRIN_TOKEN", required=True)
@click.option("--key")
@click.option("--idempotency-key")
def publish(
    channel: str, type_name: str, data: str, url: str, token_: str, key: str | None, idempotency_key: str | None
) -> None:
    """Publish one message, e.g. krin publish custom:hello GREETING '{"text": "hi"}'."""
    try:
        decoded = json.loads(data)
    except ValueError as failure:
        raise click.ClickException(f"the data is not JSON: {failure}") from None

    async def go() -> None:
        async with Client(url, token=token_) as krin:
            placed = await krin.publish(channel, type_name, decoded, key=key, idempotency_key=idempotency_key)
        click.echo(json.dumps({"channel": channel, "epoch": placed.epoch, "offset": placed.offset}))

    run(go())


@click.command()
@click.argument("channels", nargs=-1, required=True)
@click.option("--url", envvar="KRIN_URL", default="http://127.0.0.1:8000", show_default=True)
@click.option("--token", "token_", envvar="KRIN_TOKEN", required=True)
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line, for pipes")
@click.option("--rewind", help='start with that many messages, or with what is as old as "30s"')
def tail(channels: tuple[str, ...], url: str, token_: str, as_json: bool, rewind: str | None) -> None:
    """Follow channels until interrupted."""
    run(follow(channels, url=url, token=token_, as_json=as_json, rewind=rewind))
