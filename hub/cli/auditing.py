"""Commands about the audit log: verify, tail, export, key."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hub import bootstrap
from hub.audit.seen import AuditedReads, Question
from hub.audit.verify import exported_rows, signed_heads, verify_all, verify_log
from hub.cli.nodes import node_options, settings_of
from hub.cli.shared import json_option, print_json, progress, run, say
from hub.clock import SystemClock
from protocol.audit import AuditRow, as_json
from storage.audit import AuditTable
from storage.orders import OrderLog

FOLLOW_S = 1.0
TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]


@click.group()
def audit() -> None:
    """The audit log: who did what, and what was denied."""


@audit.command()
@click.option(
    "--heads",
    "more",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="more signed heads: another node's file, or what krin tail system:audit --json has kept",
)
@click.option(
    "--rows",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="a file that krin audit export wrote, instead of the database",
)
@click.option("--key", "keys", multiple=True, help="another node's public key, as krin audit key prints it")
@json_option
@node_options
def verify(more: tuple[Path, ...], rows: Path | None, keys: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Find the first row that was changed, removed, inserted, swapped or cut off, here and in the log of orders.

    Exit code 1 if there is one.
    """
    settings = settings_of(options)
    own = bootstrap.load_audit_key(settings).public
    try:
        trusted = [own, *(Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)) for key in keys)]
    except ValueError:
        raise click.ClickException("a public key is 64 hexadecimal digits") from None
    files = [file for file in (settings.checkpoint_file,) if file.exists()]

    async def go() -> None:
        with ExitStack() as stack, progress("audit log") as told:
            heads = signed_heads(stack, [*files, *more], trusted)
            broken = None
            if rows is not None:
                verdict = await verify_all(exported_rows(rows), heads, progress=told)
            else:
                async with bootstrap.open_database(settings) as (database, _):
                    verdict = await verify_log(AuditTable(database), heads, progress=told)
                    broken = await OrderLog(database).verify()
        if broken is not None:
            raise click.ClickException(f"order event {broken}: it, or one before it, is not what was written")
        if verdict.fault is not None:
            raise click.ClickException(f"row {verdict.fault.sequence}: {verdict.fault.problem}")
        if as_json:
            print_json({"rows": verdict.rows, "signed": verdict.signed})
        else:
            click.echo(f"ok: {verdict.rows} rows, {verdict.signed} of them under a signed head")

    run(go())


@audit.command("tail")
@click.option("-n", "--lines", type=click.IntRange(0, 10_000), default=20, show_default=True)
@click.option("-f", "--follow", is_flag=True, help="go on with what comes")
@click.option("--json", "as_lines", is_flag=True, help="one JSON object a line, for pipes")
@node_options
def tail_command(lines: int, follow: bool, as_lines: bool, **options: Any) -> None:
    """The newest rows, with names where they are still known."""
    settings = settings_of(options)
    clock = SystemClock()

    async def go() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            table = AuditTable(database)
            rows = (await table.page_back(limit=lines))[::-1] if lines else []
            last = rows[-1].sequence if rows else (await table.head())[0]
            while True:
                await _print(table, rows, as_lines)
                if not follow:
                    return
                if not (rows := await table.page(after=last)):
                    await clock.sleep(FOLLOW_S)
                last = rows[-1].sequence if rows else last

    run(go())


async def _print(table: AuditTable, rows: list[AuditRow], as_lines: bool) -> None:
    names = await table.names([shown for row in rows for shown in (row.actor, row.target)])
    for row in rows:
        actor, target = (names.get(shown, shown) for shown in (row.actor, row.target))
        if as_lines:
            click.echo(json.dumps(as_json(row) | {"actor_name": names.get(row.actor)}))
        else:
            at = datetime.fromtimestamp(row.time_us / 1_000_000, UTC).isoformat(" ", "milliseconds")
            # repr: whatever somebody called themselves, it stays within its line.
            what = f"{row.outcome:6} {row.event} {actor!r} {target!r} {row.detail}"
            click.echo(f"{row.sequence:>8} {at} {row.severity:8} {what}")


@audit.command()
@click.option("--user", help="whose reads")
@click.option("--token", help="by which token or API key: its id (the claim jti)")
@click.option("--since", type=click.DateTime(TIMES), default="1970-01-01", help="UTC; default: the beginning")
@click.option("--until", type=click.DateTime(TIMES), help="UTC; default: now")
@node_options
def seen(user: str | None, token: str | None, since: datetime, until: datetime | None, **options: Any) -> None:
    """What somebody, or a token, has seen of the channels whose reads are audited: one JSON object a line."""
    settings = settings_of(options)
    end = SystemClock().now_ms() if until is None else _ms(until)

    async def go() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            asked = Question(user=user, token=token, since=_ms(since), until=end)
            found = await AuditedReads(AuditTable(database)).seen(asked)
        for each in found.seen:
            print_json(each)
        if not found.complete:
            say("there is more: ask for less time")

    run(go())


def _ms(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp() * 1000)


@audit.command()
@click.option("-o", "--output", type=click.File("w"), default="-", help="default: standard output")
@node_options
def export(output: Any, **options: Any) -> None:
    """Every row as one JSON object a line, for krin audit verify --rows elsewhere."""
    settings = settings_of(options)

    async def go() -> None:
        with progress("audit log", beside=output) as told:
            async with (
                bootstrap.open_database(settings) as (database, _),
                AuditTable(database).snapshot() as (total, _, rows),
            ):
                async for row in rows:
                    output.write(json.dumps(as_json(row), ensure_ascii=False) + "\n")
                    told(row.sequence, total)

    run(go())


@audit.command()
@node_options
def key(**options: Any) -> None:
    """Print this node's public key, which its signed heads are verified with."""
    click.echo(bootstrap.load_audit_key(settings_of(options)).public.public_bytes_raw().hex())
