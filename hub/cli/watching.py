"""`krin top`: what the nodes say of themselves, as it changes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import click
import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from hub.cli.shared import TABLE_WIDTH, cell, hub_client, hub_options, print_json, run
from protocol.coordination import Status

CHANNEL = "system:status"
GONE_US = 5_000_000  # a node that has said nothing for as long is shown no more


class Row(NamedTuple):
    """`delivered_per_s` is None until a node has spoken twice."""

    node: str
    state: str
    connections: int
    delivered_per_s: float | None
    latency_ms: dict[str, float]  # empty while nothing is delivered
    outbox_bytes: int
    scale_hint: float
    budget_left: float
    detail: str


class Board:
    """The last word of each node, and how much it delivered since the one before."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, float, Row]] = {}

    def hear(self, status: Status) -> None:
        figures, at_us = status.ext or {}, status.ts_event or 0
        delivered = float(figures.get("delivered", 0))
        rate = None
        if status.component in self._rows:
            before_us, before, _ = self._rows[status.component]
            # A node that has begun anew counts from 0.
            rate = max(0.0, delivered - before) * 1_000_000 / max(1, at_us - before_us)
        row = Row(
            node=status.component,
            state=status.state,
            connections=int(figures.get("connections", 0)),
            delivered_per_s=rate,
            latency_ms={name: float(value) for name, value in figures.get("latency_ms", {}).items()},
            outbox_bytes=int(figures.get("outbox_bytes", 0)),
            scale_hint=float(figures.get("hub_scale_hint", 0)),
            budget_left=float(figures.get("budget_left", 0)),
            detail=status.detail or "",
        )
        self._rows[status.component] = (at_us, delivered, row)
        self._rows = {name: each for name, each in self._rows.items() if at_us - each[0] <= GONE_US}

    @property
    def rows(self) -> list[Row]:
        return [row for _, _, row in sorted(self._rows.values(), key=lambda each: each[2].node)]

    @property
    def complete(self) -> bool:
        """Whether each node has spoken twice."""
        return bool(self._rows) and all(row.delivered_per_s is not None for row in self.rows)


@click.command()
@click.option("--once", is_flag=True, help="one look, and out")
@click.option("--json", "as_json", is_flag=True, help="a JSON object whenever a node has spoken; with --once: one")
@hub_options
def top(once: bool, as_json: bool, url: str, token_: str) -> None:
    """Each node: clients, deliveries a second, latency, what waits to be read, what is wrong."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_WIDTH)
    if not once and not as_json and not console.is_terminal:
        raise click.UsageError("this is no terminal: say --once, or --json")
    drawn = not once and not as_json

    async def go() -> None:
        board = Board()
        async with AsyncExitStack() as stack:
            live = stack.enter_context(Live(table_of([]), console=console, screen=True)) if drawn else None
            krin = await stack.enter_async_context(hub_client(url, token_, name="top"))
            async for message in await stack.enter_async_context(krin.subscribe(CHANNEL)):
                board.hear(msgspec.convert(message.data, Status))
                if once and not board.complete:
                    continue
                if live is not None:
                    live.update(table_of(board.rows))
                elif as_json:
                    print_json(document_of(board.rows))
                else:
                    console.print(table_of(board.rows))
                if once:
                    break

    run(go())


def document_of(rows: list[Row]) -> dict[str, Any]:
    """One refresh: every node that speaks."""
    return {"nodes": [row._asdict() for row in rows]}


def table_of(rows: list[Row]) -> Table:
    table = Table(
        expand=True, box=None, pad_edge=False, collapse_padding=True
    )  # with lines, the headings do not fit into 80 columns
    table.add_column("node", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for title in ("clients", "sent/s", "p50 ms", "p99 ms", "outbox\nbytes", "scale\nhint", "error\nbudget"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("detail")
    for row in rows:
        tone = "green" if row.state == "OK" else "red"
        table.add_row(
            cell(row.node),
            f"[{tone}]{row.state}[/]",
            f"{row.connections:,}",
            "" if row.delivered_per_s is None else f"{row.delivered_per_s:,.0f}",
            *(f"{row.latency_ms[name]:,.1f}" if name in row.latency_ms else "" for name in ("p50", "p99")),
            f"{row.outbox_bytes:,}",
            f"{row.scale_hint:.2f}",
            f"{row.budget_left:.0%}",
            cell(row.detail),
        )
    return table
