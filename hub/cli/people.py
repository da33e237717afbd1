"""Commands about who may come in: tokens, users, OAuth clients."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click
import msgspec
import segno

from hub import bootstrap
from hub.auth.administration import known_roles
from hub.auth.api_keys import ApiKeys
from hub.auth.clients import ClientRegistry
from hub.auth.dpop import Proofs
from hub.auth.multi_factor import MultiFactor
from hub.auth.passwords import Passwords
from hub.auth.providers import Providers
from hub.auth.revocations import Revoked
from hub.auth.service import BUILT_IN_ROLES, Authentication
from hub.caller import Tenant
from hub.cli.nodes import node_options, settings_of
from hub.cli.parameters import Duration, PersonName
from hub.cli.shared import run, say
from hub.clock import SystemClock
from hub.config import Settings
from storage.api_keys import ApiKeyTable
from storage.audit import HUB
from storage.revocations import LONGEST_TOKEN, Revocations
from storage.second_factors import SecondFactors
from storage.users import OAuthClients, RefreshTokens, Users


class TenantName(click.ParamType[str]):
    name = "tenant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return msgspec.convert(value, Tenant)
        except msgspec.ValidationError:
            self.fail("use lower-case letters, digits, - and _", param, ctx)


TENANT = TenantName()


@click.command()
@click.argument("name", type=PersonName())
@click.option("--role", "roles", multiple=True, required=True, help=f"built in: {', '.join(BUILT_IN_ROLES)}")
@click.option("--team", "teams", multiple=True, help="a team an agent belongs to; default: every team of this hub")
@click.option("--tenant", type=TENANT, default="", help="it reaches no other tenant's channels")
@click.option("--ttl", type=Duration(), default="1h", show_default=True)
@node_options
def token(name: str, roles: tuple[str, ...], teams: tuple[str, ...], tenant: str, ttl: int, **options: Any) -> None:
    """Print an access token for NAME, signed with the key of the data folder, and nothing else."""
    settings = settings_of(options)
    check_roles(roles, settings)
    if ttl > LONGEST_TOKEN.total_seconds():
        raise click.ClickException(f"a token lives {LONGEST_TOKEN.days} days at most")

    async def sign() -> None:
        tokens = bootstrap.make_tokens(settings, SystemClock())
        given = teams or ("*",)
        click.echo(tokens.issue(name, roles=roles, teams=given, ttl_s=ttl, tenant=tenant, principal="operator"))

    run(sign())


def new_password() -> str:
    """Raises click.UsageError."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    if given := sys.stdin.readline().rstrip("\r\n"):
        return given
    raise click.UsageError("give the password as KRIN_PASSWORD, on standard input or at a terminal")


@click.group()
def user() -> None:
    """People who sign in with a name and a password."""


@user.command("add")
@click.argument("name", type=PersonName())
@click.option("--role", "roles", multiple=True, required=True)
@click.option("--team", "teams", multiple=True)
@click.option("--tenant", type=TENANT, default="")
@click.option(
    "--password",
    envvar="KRIN_PASSWORD",
    callback=lambda ctx, param, given: given or new_password(),
    help="asked for at a terminal, otherwise read from standard input: arguments are seen by all on the machine",
)
@node_options
def user_add(
    name: str, roles: tuple[str, ...], teams: tuple[str, ...], tenant: str, password: str, **options: Any
) -> None:
    """Add the user NAME."""
    settings = settings_of(options)
    check_roles(roles, settings)

    async def add() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            await authentication_of(settings, database).create_user(
                name, password, roles=list(roles), teams=list(teams), tenant=tenant
            )
        say(f"added {name} with {', '.join(roles)}")

    run(add())


@user.command("mfa")
@click.argument("name")
@click.option("--remove", is_flag=True, help="do without: for somebody who lost app and recovery codes")
@node_options
def user_mfa(name: str, remove: bool, **options: Any) -> None:
    """Give NAME a second factor: shows the QR code for an authenticator app, and prints the recovery codes."""
    settings = settings_of(options)

    async def change() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            found = await Users(database).get(name)
            if found is None:
                raise click.ClickException(f"there is no user {name}")
            multi_factor = MultiFactor(
                SecondFactors(database),
                bootstrap.make_sealer(settings),
                issuer=settings.auth.issuer,
                clock=SystemClock(),
            )
            if remove:
                await multi_factor.remove(found, by=HUB)
                say(f"{name} signs in with a password alone")
                return
            uri = await multi_factor.begin(found)
            segno.make(uri, micro=False).terminal(sys.stderr, compact=True)
            say(uri)
            codes = await multi_factor.confirm(found, click.prompt("Code that the app shows", err=True), by=HUB)
        click.echo("\n".join(codes))
        say("each of these recovery codes works once, and they are shown only now")

    run(change())


@click.group()
def client() -> None:
    """Programs: agents and services with credentials of their own, and applications that act for people."""


@client.command("add")
@click.argument("client_id", type=PersonName())
@click.option("--role", "roles", multiple=True, required=True, help="what it may be, or may ask a user for")
@click.option("--team", "teams", multiple=True)
@click.option("--redirect-uri", "redirect_uris", multiple=True, help="where a browser returns to, letter by letter")
@click.option("--public", is_flag=True, help="cannot keep a secret: an application in a browser or on a device")
@node_options
def client_add(
    client_id: str,
    roles: tuple[str, ...],
    teams: tuple[str, ...],
    redirect_uris: tuple[str, ...],
    public: bool,
    **options: Any,
) -> None:
    """Add an OAuth client and print its secret, which is shown only now. A public client has none."""
    settings = settings_of(options)
    check_roles(roles, settings)

    async def add() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            secret = await ClientRegistry(OAuthClients(database), Passwords()).register(
                client_id, roles=list(roles), teams=list(teams), redirect_uris=list(redirect_uris), public=public
            )
        if secret is not None:
            click.echo(secret)

    run(add())


def check_roles(roles: Iterable[str], settings: Settings) -> None:
    """Built-in roles and those that the configured namespaces mention are known; others end the command."""
    known = known_roles(settings.namespaces)
    if unknown := sorted(set(roles) - known):
        raise click.ClickException(f"no such role: {', '.join(unknown)}; there are {', '.join(sorted(known))}")


def authentication_of(settings: Settings, database: Any) -> Authentication:
    clock = SystemClock()
    return Authentication(
        bootstrap.make_tokens(settings, clock),
        Passwords(),
        users=Users(database),
        refresh_tokens=RefreshTokens(database),
        api_keys=ApiKeys(ApiKeyTable(database), clock=clock),
        providers=Providers(),
        proofs=Proofs(announce=lambda topic, digest: None, clock=clock),
        revoked=Revoked(),
        revocations=Revocations(database),
        report=lambda event: None,
        clock=clock,
    )
