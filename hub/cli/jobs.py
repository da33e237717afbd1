"""The durable queue of work: what is there, and what becomes of jobs that failed again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import Any, get_args

import click
from rich.console import Console
from rich.table import Table

from hub import bootstrap
from hub.cli.nodes import node_options, settings_of
from hub.cli.shared import cell, json_option, print_json, run, say
from storage.jobs import MAX_LISTED, Jobs, JobState


@click.group()
def jobs() -> None:
    """Work that workers do: list it, retry or discard what is parked."""


@jobs.command("list")
@click.option("--state", type=click.Choice(get_args(JobState)))
@click.option("--kind", help="such as digest")
@click.option("--limit", type=click.IntRange(1, MAX_LISTED), default=100, show_default=True)
@json_option
@node_options
def jobs_list(state: JobState | None, kind: str | None, limit: int, as_json: bool, **options: Any) -> None:
    """Jobs, the newest first, and the error of those that have failed."""

    async def go(queue: Jobs) -> None:
        found = await queue.listed(state=state, kind=kind, limit=limit)
        if as_json:
            for each in found:
                print_json(each)
            return
        table = Table("id", "kind", "key", "state", "attempts", "worker", "put", "error", box=None)
        for each in found:
            row = (each.kind, each.key, each.state, str(each.attempts), each.worker or "", _time(each.put_at))
            table.add_row(*map(cell, (str(each.id), *row, each.error or "")))
        Console(width=200).print(table)

    _run(options, go)


@jobs.command()
@click.argument("ids", nargs=-1, type=int, metavar="ID...")
@click.option("--all", "everything", is_flag=True, help="of the parked jobs")
@node_options
def retry(ids: tuple[int, ...], everything: bool, **options: Any) -> None:
    """Try parked jobs again, from the first attempt."""
    _run(options, lambda queue: _each(queue.retry, ids, everything, "to be tried again"))


@jobs.command()
@click.argument("ids", nargs=-1, type=int, metavar="ID...")
@click.option("--all", "everything", is_flag=True, help="of the parked jobs")
@node_options
def discard(ids: tuple[int, ...], everything: bool, **options: Any) -> None:
    """Forget parked jobs. Whoever puts the same work again has it done."""
    _run(options, lambda queue: _each(queue.discard, ids, everything, "discarded"))


async def _each(
    do: Callable[[Collection[int] | None], Awaitable[list[int]]], ids: tuple[int, ...], everything: bool, done: str
) -> None:
    """Raises click.UsageError, and click.ClickException when one of the ids is not parked."""
    if everything == bool(ids):
        raise click.UsageError("name jobs by their ids, or all that are parked with --all")
    changed = await do(None if everything else ids)
    told = f"{len(changed)} jobs {done}"
    if missing := sorted(set(ids) - set(changed)):
        raise click.ClickException(f"{told}; not parked: {', '.join(map(str, missing))}")
    say(told)


def _run(options: dict[str, Any], go: Callable[[Jobs], Awaitable[None]]) -> None:
    settings = settings_of(options)

    async def work() -> None:
        async with bootstrap.open_database(settings) as (database, _):
            await go(Jobs(database))

    run(work())


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S")
