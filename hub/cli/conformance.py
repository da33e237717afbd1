"""`krin conformance`: does a hub, this one or anybody's, keep what protocol/README.md promises?"""

from __future__ import annotations

import click

from hub.cli.parameters import Number
from hub.cli.shared import json_option, no_hub, print_json, run, token_option, write
from hub.client.client import websocket_url
from hub.conformance.examination import Unwelcome, Verdict, examine
from hub.conformance.promises import Subject
from hub.conformance.wire import FORMATS


class Unchecked(click.ClickException):
    """Not to be confused with a hub that keeps its promises, nor with one that breaks them."""

    exit_code = 2


@click.command()
@click.argument("url")
@token_option("of somebody who may publish there")
@click.option("--format", "formats", type=click.Choice([*FORMATS]), multiple=True, help="default: both")
@click.option("--only", multiple=True, metavar="NUMBER", help="a promise (9.1) or a section (9); may be repeated")
@click.option("--slow", is_flag=True, help="also what takes as long as a ping interval")
@click.option("--durable", default="team", show_default=True, help="namespace that takes SPECIALIST_UPDATE")
@click.option("--recoverable", default="custom", show_default=True, help="namespace that takes custom types")
@click.option("--latest", default="status", show_default=True, help="namespace that takes STATUS")
@click.option("--forbidden", metavar="CHANNEL", help="a channel that the token must not open")
@click.option(
    "--patience",
    "patience_s",
    type=Number(0, min_open=True),
    default=5.0,
    show_default=True,
    help="seconds for each answer",
)
@json_option
def conformance(
    url: str,
    token_: str,
    formats: tuple[str, ...],
    only: tuple[str, ...],
    slow: bool,
    durable: str,
    recoverable: str,
    latest: str,
    forbidden: str | None,
    patience_s: float,
    as_json: bool,
) -> None:
    """Check the hub at URL from outside, promise by promise. Exit code 1: one is broken; 2: nothing was checked."""
    try:
        socket = websocket_url(url)
    except ValueError as failure:
        raise click.UsageError(f"{url}: {failure}") from None
    subject = Subject(durable=durable, recoverable=recoverable, latest=latest, forbidden=forbidden)
    verdicts: list[Verdict] = []

    async def go() -> None:
        try:
            async for verdict in examine(
                socket,
                token_,
                subject,
                formats=formats or [*FORMATS],
                only=only,
                slow=slow,
                patience_s=patience_s,
            ):
                verdicts.append(verdict)
                if as_json:
                    print_json(verdict)
                else:
                    write(_line(verdict))
        except Unwelcome as refused:
            raise Unchecked(f"nothing was checked: {refused}") from None
        except OSError as failure:
            raise no_hub(url, failure) from None

    run(go())
    broken = sum(each.outcome == "broken" for each in verdicts)
    kept = sum(each.outcome == "kept" for each in verdicts)
    if not as_json:
        where = ": each number is a section of protocol/README.md, and a promise made there" if broken else ""
        click.echo(f"{kept} kept, {broken} broken, {len(verdicts) - kept - broken} skipped{where}")
    if broken:
        raise SystemExit(1)
    if not kept:
        raise Unchecked("nothing was checked: --only names no promise, or all were skipped")


def _line(verdict: Verdict) -> str:
    reason = f": {verdict.reason}" if verdict.reason else ""
    return f"{verdict.outcome:7} {verdict.format:7} {verdict.number:5} {verdict.promise}{reason}"
