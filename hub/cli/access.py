"""Commands about what somebody may do: why, other roles, and taking it away. They work while the hub runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import click

from hub import bootstrap
from hub.auth.administration import Account, Administration, UserChanges, caller_of_user, known_roles
from hub.auth.revocations import Revoked
from hub.auth.service import caller_of
from hub.caller import Caller
from hub.channels.access import Access, Action, decide
from hub.cli.nodes import node_options, settings_of
from hub.cli.parameters import Channel
from hub.cli.people import TENANT, authentication_of, check_roles, user
from hub.cli.shared import json_option, print_json, run, say, show
from hub.clock import SystemClock
from hub.config import Settings
from hub.namespaces import Namespaces
from storage.database import Database
from storage.revocations import PAGE, Revocations
from storage.users import Users

OPERATOR = Caller(user="operator", roles=frozenset({"admin"}), transport="system", principal="operator")
LIST_PAGE = 1000


@click.group()
def auth() -> None:
    """Who may do what."""


@auth.command()
@click.argument("name", metavar="USER")
@click.argument("action", type=click.Choice(["publish", "subscribe", "history", "presence", "search"]))
@click.argument("channel", type=Channel())
@click.option("--role", "roles", multiple=True, help="ask for somebody with these roles, whoever USER is")
@click.option("--team", "teams", multiple=True)
@click.option("--tenant", type=TENANT, default="")
@click.option("--token", "token_", help="ask for whoever holds this token, as it counts now")
@json_option
@node_options
def explain(
    name: str,
    action: str,
    channel: str,
    roles: tuple[str, ...],
    teams: tuple[str, ...],
    tenant: str,
    token_: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say whether USER may do ACTION in CHANNEL, and which rule decides. Exit code 0: yes; 1: no."""
    settings = settings_of(options)
    asked: Action = "publish" if action == "publish" else "subscribe"  # whoever may subscribe may read in any way

    async def go() -> None:
        namespace, rest = Namespaces(settings.namespaces).of(channel)
        who = await _who(settings, name, roles, teams, tenant, token_)
        decision = decide(who, asked, channel, namespace, rest)
        if as_json:
            print_json({"allowed": decision.allowed, "rule": decision.rule, "reason": decision.reason})
        else:
            click.echo(f"{'allowed' if decision.allowed else 'denied'} by rule {decision.rule}: {decision.reason}")
        if not decision.allowed:
            raise SystemExit(1)

    run(go())


async def _who(
    settings: Settings, name: str, roles: tuple[str, ...], teams: tuple[str, ...], tenant: str, token: str | None
) -> Caller:
    if token is None and (roles or teams or tenant):
        return Caller(user=name, roles=frozenset(roles), teams=frozenset(teams), tenant=tenant, transport="system")
    async with bootstrap.open_database(settings) as (database, _):
        if token is None:
            stored = await Users(database).get(name)
            if stored is None:
                raise click.ClickException(f"there is no user {name}: give --role, or --token")
            if stored.disabled:
                raise click.ClickException(f"denied: the user {name} is disabled")
            return caller_of_user(stored)
        claims = bootstrap.make_tokens(settings, SystemClock()).verify(token)
        if claims.sub != name:
            raise click.ClickException("the token is somebody else's")
        return caller_of((await _revoked(database)).admit(claims), transport="rest", address="")


async def _revoked(database: Database) -> Revoked:
    revoked, table = Revoked(), Revocations(database)
    now = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC)
    while len(page := await table.after(revoked.number, now=now)) == PAGE:
        revoked.apply(page)
    revoked.apply(page)
    return revoked


@user.command("list")
@json_option
@node_options
def user_list(as_json: bool, **options: Any) -> None:
    """List everybody who signs in with a password."""

    async def go(administration: Administration) -> None:
        found: list[Account] = []
        while page := await administration.users(OPERATOR, after=found[-1].name if found else "", limit=LIST_PAGE):
            found += page
        rows = [
            {
                "name": each.name,
                "roles": each.roles,
                "teams": each.teams,
                "tenant": each.tenant,
                "state": "disabled" if each.disabled else "enabled",
            }
            for each in found
        ]
        show(rows, as_json=as_json)

    _administer(options, go)


@user.command("roles")
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True)
@click.option("--team", "teams", multiple=True, help="default: as before")
@node_options
def user_roles(name: str, roles: tuple[str, ...], teams: tuple[str, ...], **options: Any) -> None:
    """Give NAME these roles in place of the old ones, on open connections, too."""
    check_roles(roles, settings_of(options))
    _change(
        options, name, UserChanges(roles=list(roles), teams=list(teams) or None), f"{name} now has {', '.join(roles)}"
    )


@user.command("disable")
@click.argument("name")
@node_options
def user_disable(name: str, **options: Any) -> None:
    """Let NAME in no more, by no way, and close every connection."""
    _change(options, name, UserChanges(disabled=True), f"{name} is disabled")


@user.command("enable")
@click.argument("name")
@node_options
def user_enable(name: str, **options: Any) -> None:
    """Let NAME sign in again. Tokens of before stay void."""
    _change(options, name, UserChanges(disabled=False), f"{name} is enabled")


@user.command("revoke")
@click.argument("name")
@node_options
def user_revoke(name: str, **options: Any) -> None:
    """End every session, token and key that NAME has now. NAME may sign in again."""

    async def go(administration: Administration) -> None:
        await administration.end_all(OPERATOR, name)
        say(f"everything that {name} had is revoked")

    _administer(options, go)


def _change(options: dict[str, Any], name: str, changes: UserChanges, done: str) -> None:
    async def go(administration: Administration) -> None:
        account: Account | None = await administration.update(OPERATOR, name, changes)
        say(done if account is not None else f"{done}; nobody of that name signs in here with a password")

    _administer(options, go)


def _administer(options: dict[str, Any], work: Callable[[Administration], Awaitable[None]]) -> None:
    """Run work on the database of a hub, which may be running: its nodes find out by themselves."""
    settings = settings_of(options)

    async def go() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            await work(
                Administration(
                    authentication_of(settings, database),
                    users=Users(database),
                    revocations=Revocations(database),
                    access=Access(Namespaces(settings.namespaces), report=lambda event: None),
                    roles=known_roles(settings.namespaces),
                    ring=lambda: None,
                    clock=SystemClock(),
                )
            )

    run(go())
