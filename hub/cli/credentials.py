"""API keys for agents: add, list, revoke."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import click

from hub import bootstrap
from hub.auth.api_keys import ApiKeys
from hub.caller import Grant
from hub.cli.nodes import node_options, settings_of
from hub.cli.parameters import Duration, PersonName
from hub.cli.people import check_roles
from hub.cli.shared import json_option, run, say, show
from hub.clock import SystemClock
from hub.config import Settings
from storage.api_keys import ApiKeyTable

DEFAULT_TTL_S = 90 * 86_400


@click.group()
def key() -> None:
    """API keys: what an agent shows in place of an access token."""


@key.command("add")
@click.argument("name", type=PersonName())
@click.option("--role", "roles", multiple=True)
@click.option("--team", "teams", multiple=True)
@click.option("--publish", multiple=True, metavar="PATTERN", help="channels beyond the roles', e.g. custom:robots:*")
@click.option("--subscribe", multiple=True, metavar="PATTERN")
@click.option("--ttl", type=Duration(), default=DEFAULT_TTL_S, help="at most 366d; default: 90d")
@node_options
def key_add(
    name: str,
    roles: tuple[str, ...],
    teams: tuple[str, ...],
    publish: tuple[str, ...],
    subscribe: tuple[str, ...],
    ttl: int,
    **options: Any,
) -> None:
    """Print a new key that speaks for NAME. It is shown only now."""
    settings = settings_of(options)
    check_roles(roles, settings)

    async def add() -> None:
        async with _api_keys(settings) as (keys, _):
            id, secret = await keys.create(
                name, roles=list(roles), teams=list(teams), grant=Grant(publish, subscribe), ttl_s=ttl
            )
        say(f"the key {id} speaks for {name}; krin key revoke {id} ends it")
        click.echo(secret)

    run(add())


@key.command("list")
@json_option
@node_options
def key_list(as_json: bool, **options: Any) -> None:
    """Each key, whom it speaks for and until when."""
    settings = settings_of(options)
    now_s = SystemClock().now_ms() / 1000

    async def go() -> None:
        async with _api_keys(settings) as (_, stored):
            found = await stored.list()
        rows = [
            {
                "key": each.id,
                "name": each.name,
                "roles": each.roles,
                "teams": each.teams,
                "made": each.created_at.date(),
                "until": each.expires_at.date(),
                "state": "revoked" if each.revoked_at else "live" if each.expires_at.timestamp() > now_s else "expired",
            }
            for each in found
        ]
        show(rows, as_json=as_json)

    run(go())


@key.command("revoke")
@click.argument("id")
@node_options
def key_revoke(id: str, **options: Any) -> None:
    """End the key ID: nothing is accepted with it any more."""
    settings = settings_of(options)

    async def revoke() -> None:
        async with _api_keys(settings) as (keys, _):
            await keys.revoke(id)
        say(f"revoked {id}")

    run(revoke())


@asynccontextmanager
async def _api_keys(settings: Settings) -> AsyncIterator[tuple[ApiKeys, ApiKeyTable]]:
    async with bootstrap.open_database(settings) as (database, _):
        table = ApiKeyTable(database)
        yield ApiKeys(table, clock=SystemClock()), table
