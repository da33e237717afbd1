"""krin doctor."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from hub import bootstrap
from hub.cli.nodes import serve_options, settings_of
from hub.cli.shared import cell, json_option, print_json, run
from hub.clock import SystemClock
from hub.doctor.door import door
from hub.doctor.examination import database, machine, protections, redis_servers
from hub.doctor.findings import Finding, exit_code, skipped
from storage.embedded import EmbeddedPostgres

MARKS = {"ok": "ok", "warning": "[yellow]warning[/]", "error": "[red]error[/]", "skipped": "-"}
TOKEN_S = 300


@click.command()
@serve_options
@click.option("--url", help="where clients find the hub, e.g. https://krin.example.com: checks the way in, too")
@json_option
def doctor(url: str | None, as_json: bool, **options: Any) -> None:
    """Check a running deployment and say what to change.

    Give it the options and the environment of the hub itself. With --url it takes as long as a ping interval, 25
    seconds by default. Exit code 0: nothing to change; 4: at least one error; 5: warnings only; 1 and 3: the settings
    are wrong.
    """
    settings = settings_of(options)
    clock = SystemClock()
    found: list[Finding] = [*machine(settings), *protections(settings, clock)]

    async def go() -> None:
        found.extend([each async for each in redis_servers(settings, clock)])
        async with AsyncExitStack() as stack:
            dsn = settings.database_url
            if dsn is None:
                dsn = await stack.enter_async_context(EmbeddedPostgres(settings.data_dir))
            found.extend([each async for each in database(settings, dsn, clock)])
        if url is None:
            found.append(skipped("address", "give --url to have the way in checked"))
            return
        token = bootstrap.make_tokens(settings, clock).issue(
            "krin-doctor", roles=(), ttl_s=TOKEN_S, principal="operator"
        )
        found.extend([each async for each in door(url, token=token, clock=clock)])

    run(go())
    _show(found, as_json=as_json)
    raise SystemExit(exit_code(found))


def _show(found: list[Finding], *, as_json: bool) -> None:
    if as_json:
        for each in found:
            print_json(each)
        return
    table = Table(box=None, show_header=False)
    for each in found:
        table.add_row(MARKS[each.level], *map(cell, (each.check, each.found, each.change or "")))
    console = Console(highlight=False)
    if not console.is_terminal:  # who pipes it wants whole lines
        console.width = 1000
    console.print(table)
