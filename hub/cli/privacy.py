"""Commands about the data of people: export, erase, restrict, correct, requests, holds, retention."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from hub import bootstrap
from hub.auth.sealing import Unreadable
from hub.cli.nodes import node_options, settings_of
from hub.cli.parameters import Channel
from hub.cli.shared import json_option, print_json, progress, run, say, show
from hub.clock import SystemClock

OPERATOR = "operator"  # in the audit: whoever may use the command line of this node


@click.group()
def privacy() -> None:
    """What is stored about people: hand it over, erase it, say what must be kept."""


@privacy.command()
@click.argument("user")
@click.option("-o", "--output", type=click.File("wb"), default="-", help="default: standard output")
@node_options
def export(user: str, output: Any, **options: Any) -> None:
    """Everything about USER as one JSON document."""
    settings = settings_of(options)

    async def go() -> None:
        written = 0
        async with bootstrap.open_database(settings) as (database, _):
            with progress(f"bytes about {user}", beside=output) as told:
                async for piece in bootstrap.make_privacy(settings, database, clock=SystemClock()).export(
                    user, by=OPERATOR
                ):
                    output.write(piece)
                    told(written := written + len(piece), None)

    run(go())


@privacy.command()
@click.argument("user")
@click.confirmation_option(prompt="This cannot be undone. Go on?")
@json_option
@node_options
def erase(user: str, as_json: bool, **options: Any) -> None:
    """Erase USER everywhere. Prints what was deleted, and what must be kept and why."""
    settings = settings_of(options)

    async def go() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            erasure = await bootstrap.make_privacy(settings, database, clock=SystemClock()).erase(user, by=OPERATOR)
        if as_json:
            print_json(erasure)
            return
        for table, rows in erasure.deleted.items():
            say(f"{table}: {rows}")
        for kept in erasure.kept:
            say(f"kept until {kept.hold_until}, encrypted: {kept.rows} records of {kept.namespace} ({kept.ground})")
        click.echo(erasure.person)

    run(go())


@privacy.command()
@click.option("--open", "open_only", is_flag=True, help="only those that are not answered yet")
@json_option
@node_options
def requests(open_only: bool, as_json: bool, **options: Any) -> None:
    """What people asked for, by the date on which it is due."""
    settings = settings_of(options)

    async def go() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            found = await bootstrap.stored_privacy(settings, database).requests(open_only=open_only)
        rows = [
            {
                "id": each.id,
                "person": each.person,
                "kind": each.kind,
                "asked": each.requested_at.date(),
                "due": each.due_at.date(),
                "answered": each.completed_at.date() if each.completed_at else None,
            }
            for each in found
        ]
        show(rows, as_json=as_json)

    run(go())


@privacy.command()
@click.argument("user")
@node_options
def restrict(user: str, **options: Any) -> None:
    """Keep what is stored about USER and show it to nobody, until release. Prints rows by table."""
    settings = settings_of(options)

    async def go() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            done = await bootstrap.make_privacy(settings, database, clock=SystemClock()).restrict(user, by=OPERATOR)
        click.echo(json.dumps(done.restricted))

    run(go())


@privacy.command()
@click.argument("user")
@node_options
def release(user: str, **options: Any) -> None:
    """End the restriction of USER. Prints the rows by table that are back."""
    settings = settings_of(options)

    async def go() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            rows = await bootstrap.make_privacy(settings, database, clock=SystemClock()).release(user, by=OPERATOR)
        click.echo(json.dumps(rows))

    run(go())


@privacy.command()
@click.argument("user")
@click.option("--reason", required=True, help="why it is looked at; it is audited")
@node_options
def restricted(user: str, reason: str, **options: Any) -> None:
    """What is restricted of USER, one JSON object a line."""
    settings = settings_of(options)

    async def go() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            rows = await bootstrap.stored_privacy(settings, database).restricted(user, by=OPERATOR, reason=reason)
        for table, row in rows:
            click.echo(json.dumps({"table": table, "row": json.loads(row)}))

    run(go())


@privacy.command()
@click.argument("user")
@click.argument("channel", type=Channel())
@click.argument("offset", type=click.IntRange(min=1))
@click.argument("data", type=click.File("rb"), default="-")
@node_options
def correct(user: str, channel: str, offset: int, data: Any, **options: Any) -> None:
    """Let a durable message that USER has published say something else: DATA is a file with its new data as JSON;
    default: standard input."""
    settings = settings_of(options)
    said = msgspec.Raw(data.read())

    async def go() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            service = bootstrap.make_privacy(settings, database, clock=SystemClock())
            click.echo(await service.correct(user, channel, offset, said, by=OPERATOR))

    run(go())


@privacy.command()
@click.argument("person")
@click.option("--reason", required=True, help="why they are looked at; it is audited")
@node_options
def holds(person: str, reason: str, **options: Any) -> None:
    """The records kept of an erased PERSON, named by the pseudonym that the erasure answered."""
    settings = settings_of(options)

    async def go() -> None:
        unseal = bootstrap.open_hold(settings)
        async with bootstrap.open_database(settings) as (database, _):
            found = await bootstrap.stored_privacy(settings, database).holds(person, by=OPERATOR, reason=reason)
        for until, record in found:
            try:
                click.echo(json.dumps({"hold_until": until.isoformat(), **json.loads(unseal(record, person.encode()))}))
            except Unreadable:
                raise click.ClickException("the records were sealed with another hold.key") from None

    run(go())


@privacy.command()
@node_options
def retention(**options: Any) -> None:
    """Delete now what has outlived its time; a running hub does so every hour."""
    settings = settings_of(options)

    async def go() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            deleted = await bootstrap.stored_retention(settings, database).apply(
                datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC)
            )
        click.echo(json.dumps(deleted))

    run(go())
