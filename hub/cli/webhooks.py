"""Commands about webhooks, spoken to a running hub."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click
import httpx
from rich.console import Console
from rich.table import Table

from hub.cli.shared import cell, hub_options, json_option, no_hub, print_json, say

TIMEOUT_S = 75.0  # a test waits for its receiver


@click.group()
def webhook() -> None:
    """Webhooks: tell addresses outside what is published."""


@webhook.command("add")
@click.argument("address", metavar="URL")
@click.argument("channels", nargs=-1, required=True, metavar="CHANNEL...")
@hub_options
def webhook_add(address: str, channels: tuple[str, ...], url: str, token_: str) -> None:
    """Tell URL what is published in these channels from now on, and print the secret: krin webhook add
    https://app.example/krin 'team:*' alerts:ops
    """
    made = _ask(url, token_, "POST", "", {"url": address, "channels": channels})
    say(f"{made['id']} is told of {', '.join(made['channels'])}; its secret, told once:")
    click.echo(made["secret"])


@webhook.command("list")
@json_option
@hub_options
def webhook_list(as_json: bool, url: str, token_: str) -> None:
    """Your webhooks; an administrator's are everybody's."""
    found = _ask(url, token_, "GET", "")
    if as_json:
        for each in found:
            print_json(each)
        return
    table = Table("id", "owner", "URL", "channels", "", box=None)
    for each in found:
        state = "" if each["enabled"] else f"disabled: {each['reason']}"
        row = (each["id"], each["owner"], each["url"], " ".join(each["channels"]), state)
        table.add_row(*map(cell, row))
    Console(width=200, highlight=False).print(table)


@webhook.command("test")
@click.argument("id")
@hub_options
def webhook_test(id: str, url: str, token_: str) -> None:
    """Send it one message of no channel. Exit code 1 if it was not taken."""
    tried = _ask(url, token_, "POST", f"/{quote(id, safe='')}/test")
    if not tried["delivered"]:
        raise click.ClickException(f"not delivered: {tried['error']}")
    say(f"delivered: {tried['status']}")


@webhook.command("enable")
@click.argument("id")
@hub_options
def webhook_enable(id: str, url: str, token_: str) -> None:
    """Go on where it stood when it was disabled, with the rights that you have now."""
    _ask(url, token_, "PATCH", f"/{quote(id, safe='')}", {"enabled": True})
    say(f"{id} is enabled")


@webhook.command("remove")
@click.argument("id")
@hub_options
def webhook_remove(id: str, url: str, token_: str) -> None:
    """Tell it nothing any more, and forget it."""
    _ask(url, token_, "DELETE", f"/{quote(id, safe='')}")
    say(f"{id} is removed")


def _ask(url: str, token: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The `data` of an answer. Raises click.ClickException."""
    try:
        answer = httpx.request(
            method,
            f"{url}/v1/webhooks{path}",
            json=body,
            headers={"authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
        )
        envelope = answer.json()
    except httpx.ConnectError:
        raise no_hub(url, None) from None
    except (httpx.HTTPError, ValueError) as failure:
        raise click.ClickException(f"no answer from {url}: {type(failure).__name__}") from None
    if (error := envelope["meta"].get("error")) is not None:
        raise click.ClickException(f"{error['code']} {error['name']}: {error['message']}")
    return envelope["data"]
