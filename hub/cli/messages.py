"""Commands about messages, spoken to a running hub: publish, history, search, explain."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any, get_args

import click
import msgspec

from hub.cli.lines import as_json_line, as_text, read_lines
from hub.cli.parameters import Channel, TypeName
from hub.cli.shared import Progressed, hub_client, hub_options, json_option, print_json, progress, run, say, write
from hub.client import Client, Message
from protocol.messages import SearchMode
from protocol.positions import Position

PAGE = 1000


@click.command()
@click.argument("channel", type=Channel())
@click.argument("type_name", metavar="TYPE", type=TypeName())
@click.argument("data", metavar="JSON")
@hub_options
@click.option("--key")
@click.option("--idempotency-key", help="for lines of standard input, with the number of the line behind it")
@click.option("--watch", is_flag=True, help="then show what is heard on the channel, until interrupted")
@click.option("--json", "as_json", is_flag=True, help="what --watch shows as one JSON object a line, for programs")
def publish(
    channel: str,
    type_name: str,
    data: str,
    url: str,
    token_: str,
    key: str | None,
    idempotency_key: str | None,
    watch: bool,
    as_json: bool,
) -> None:
    """Publish one message, e.g. krin publish custom:hello GREETING '{"text": "hi"}', or with - in place of the JSON
    one for each line of standard input. Prints where each was placed, as JSON."""
    if as_json and not watch:
        raise click.UsageError("--json is about what --watch shows: where a message was placed is told as JSON anyway")
    documents = _lines_of_stdin() if data == "-" else _one(_decoded(data))

    async def send(krin: Client) -> None:
        async for number, document in documents:
            once = idempotency_key and (f"{idempotency_key}:{number}" if data == "-" else idempotency_key)
            placed = await krin.publish(channel, type_name, document, key=key, idempotency_key=once)
            where = {"channel": channel, "epoch": placed.epoch, "offset": placed.offset}
            # What is heard has standard output for itself.
            click.echo(json.dumps(where | ({"duplicate": True} if placed.duplicate else {})), err=watch)

    async def go() -> None:
        async with hub_client(url, token_, name="publish") as krin:
            if not watch:
                await send(krin)
                return
            async with krin.subscribe(channel) as heard, asyncio.TaskGroup() as group:
                group.create_task(send(krin), name="publish")
                async for message in heard:
                    click.echo(as_json_line(message) if as_json else as_text(message))

    run(go())


def _decoded(data: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as failure:
        raise click.UsageError(f"the data is not JSON: {failure}") from None


async def _one(document: Any) -> AsyncIterator[tuple[int, Any]]:
    yield 1, document


async def _lines_of_stdin() -> AsyncIterator[tuple[int, Any]]:
    """(number, decoded) of each line that is not empty."""
    number = 0
    async for line in read_lines(sys.stdin.buffer):
        number += 1
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError as failure:
            raise click.ClickException(f"line {number} is not JSON: {failure}; those before it are published") from None


@click.command()
@click.argument("channel", type=Channel())
@click.argument("offset", type=click.IntRange(min=1))
@hub_options
@click.option("--client", help="one connection; default: all of yours; somebody else's needs the role admin")
@json_option
def explain(channel: str, offset: int, url: str, token_: str, client: str | None, as_json: bool) -> None:
    """What became of a message, e.g. krin explain orders:desk-7 41: a line per connection on the node that answers."""

    async def go() -> None:
        async with hub_client(url, token_, name="explain") as krin:
            result = await krin.explain(channel, offset, client=client)
            others = [each for each in result.connections if each.client != krin.client]
        for each in others:
            by = f" by {each.by}" if each.by is not None else ""
            if as_json:
                print_json(each)
            else:
                write(f"{each.client}  {each.verdict}{by}: {each.reason}")
        if not others:
            raise click.ClickException("you have no other connection on the node that answered; name one by --client")

    run(go())


@click.command()
@click.argument("channel", type=Channel())
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="the newest ones")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="a table: a column for each field of the data")
@hub_options
def history(channel: str, limit: int, as_json: bool, as_csv: bool, url: str, token_: str) -> None:
    """What a channel has kept, oldest first."""
    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")

    async def go() -> None:
        async with hub_client(url, token_, name="history") as krin:
            with progress(channel) as told:
                kept = await _newest(krin, channel, limit, told)
        if as_csv:
            write_csv(kept)
            return
        for message in kept:
            click.echo(as_json_line(message) if as_json else as_text(message))

    run(go())


async def _newest(krin: Client, channel: str, limit: int, told: Progressed) -> list[Message]:
    newest: list[Message] = []
    since: Position | None = None
    while len(newest) < limit:
        page = await krin.history(channel, since, min(PAGE, limit - len(newest)), reverse=True)
        newest += page.messages
        told(len(newest), min(limit, page.offset))
        if not page.more:
            break
        since = Position(page.epoch, page.messages[-1].offset)
    newest.reverse()
    return newest


def write_csv(kept: Iterable[Message]) -> None:
    """Time in UTC as ISO 8601; fields of the data that are objects or lists as JSON."""
    rows = [
        {
            "time": datetime.fromtimestamp(each.timestamp / 1000, UTC).isoformat(timespec="milliseconds"),
            **{name: getattr(each, name) for name in ("channel", "offset", "type", "key", "publisher")},
            **{f"data.{name}": _cell(value) for name, value in (each.data or {}).items()},
        }
        for each in kept
    ]
    table = csv.DictWriter(sys.stdout, list(dict.fromkeys(name for row in rows for name in row)))
    table.writeheader()
    table.writerows(rows)


def _cell(value: Any) -> Any:
    """What a spreadsheet would take for a formula is told by an apostrophe to be none."""
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(value):
        return "'" + value
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@click.command()
@click.argument("query")
@click.option("--channel", type=Channel(), help="in this channel only")
@click.option("--mode", type=click.Choice(get_args(SearchMode)), default="hybrid", show_default=True)
@click.option("-n", "--limit", type=click.IntRange(1, 100), default=10, show_default=True)
@json_option
@hub_options
def search(query: str, channel: str | None, mode: SearchMode, limit: int, as_json: bool, url: str, token_: str) -> None:
    """Messages, knowledge, insights and sessions that are about something, the best first."""
    if not query:
        raise click.UsageError("say what it should be about")

    async def go() -> None:
        async with hub_client(url, token_, name="search") as krin:
            found = await krin.search(query, channel=channel, mode=mode, limit=limit)
        if as_json:
            print_json(found)
            return
        if found.get("degraded"):
            say(f"{found['mode']} only: {found['degraded']}")
        for hit in found["hits"]:
            at = datetime.fromtimestamp(hit["timestamp"] / 1000, UTC).isoformat(sep=" ", timespec="seconds")
            place = f"{hit['channel']} {hit['offset']}" if "offset" in hit else hit["channel"]
            write(f"{hit['score']:.3f} {at[:19]} {place} {hit['type']} {hit['snippet']}")

    run(go())
