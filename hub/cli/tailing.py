"""`krin tail`: what channels carry, as lines for pipes and as a table that moves at a terminal."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import NamedTuple

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hub.cli.lines import as_json_line, as_text, content
from hub.cli.parameters import Channel, Rewind
from hub.cli.shared import hub_client, hub_options, json_option, run, say
from hub.client import Client, Lost, Message, State
from hub.clock import Clock, SystemClock

WINDOW_S = 5  # that a rate is measured over
REFRESH_S = 0.25
RECENT = 100  # messages that are held to fill a tall terminal
FRAME_LINES = 6  # of the table and of what stands below it
MAX_LOSSES_SHOWN = 3


class Rate:
    """How many a second, over the last whole seconds."""

    def __init__(self, since_ms: int) -> None:
        self._since_s = since_ms // 1000
        self._seconds: deque[tuple[int, int]] = deque(maxlen=WINDOW_S + 1)

    def count(self, now_ms: int) -> None:
        second = now_ms // 1000
        counted = self._seconds.pop()[1] if self._seconds and self._seconds[-1][0] == second else 0
        self._seconds.append((second, counted + 1))

    def per_s(self, now_ms: int) -> float | None:
        """None before the first whole second."""
        now_s = now_ms // 1000
        span_s = min(WINDOW_S, now_s - self._since_s)
        if span_s <= 0:
            return None
        return sum(count for second, count in self._seconds if now_s - span_s <= second < now_s) / span_s


class Row(NamedTuple):
    """`lag_ms`: how old the last message was when it came. `uncounted`: something was lost, nobody knows how much."""

    channel: str
    per_s: float | None
    messages: int
    skipped: int
    lost: int
    uncounted: bool
    lag_ms: int
    last: Message | None


class Board:
    """What was heard of each channel, the last messages of all of them, and what was lost."""

    def __init__(self, channels: Iterable[str], *, now_ms: int) -> None:
        self.recent: deque[Message] = deque(maxlen=RECENT)
        self.losses: deque[Lost] = deque(maxlen=MAX_LOSSES_SHOWN)
        self.state: State = "connecting"
        self.returns = 0
        self._rows = {channel: Row(channel, None, 0, 0, 0, False, 0, None) for channel in channels}
        self._rates = {channel: Rate(now_ms) for channel in self._rows}

    def hear(self, message: Message, *, now_ms: int) -> None:
        row = self._rows[message.channel]
        self._rates[message.channel].count(now_ms)
        self._rows[message.channel] = row._replace(
            messages=row.messages + 1,
            skipped=row.skipped + message.skipped,
            lag_ms=max(0, now_ms - message.timestamp),  # the clocks of two machines differ
            last=message,
        )
        self.recent.append(message)

    def lose(self, lost: Lost) -> None:
        row, count = self._rows[lost.channel], count_of(lost)
        self._rows[lost.channel] = row._replace(lost=row.lost + (count or 0), uncounted=row.uncounted or count is None)
        self.losses.append(lost)

    def enter(self, state: State) -> None:
        if state == "open" and self.state == "reconnecting":
            self.returns += 1
        self.state = state

    def rows(self, now_ms: int) -> list[Row]:
        return [row._replace(per_s=self._rates[channel].per_s(now_ms)) for channel, row in self._rows.items()]


def count_of(lost: Lost) -> int | None:
    """None when the offsets belong to different histories."""
    return lost.resumed_at.offset - lost.since.offset if lost.resumed_at.epoch == lost.since.epoch else None


def describe_loss(lost: Lost) -> str:
    """`trades:BTC-USD: lost 41 to 60 (offset_too_old)`."""
    first, last = lost.since.offset + 1, lost.resumed_at.offset
    what = f"what followed {lost.since.offset}" if count_of(lost) is None else f"{first} to {last}"
    return f"{lost.channel}: lost {what} ({lost.reason})"


@click.command()
@click.argument("channels", type=Channel(), nargs=-1, required=True)
@hub_options
@json_option
@click.option("--lines", "as_lines", is_flag=True, help="lines at a terminal, too")
@click.option("--rewind", type=Rewind(), help='start with that many messages, or with what is as old as "30s"')
def tail(
    channels: tuple[str, ...], url: str, token_: str, as_json: bool, as_lines: bool, rewind: int | str | None
) -> None:
    """Follow channels until interrupted: as a table with rates at a terminal, into a pipe a line a message.

    After a lost connection it goes on where it stood; what could not be had any more is said.
    """
    names = list(dict.fromkeys(channels))
    console = Console()
    if as_json or as_lines or not console.is_terminal:
        run(_print_lines(names, url, token_, rewind, as_json_line if as_json else as_text))
    else:
        run(_show(names, url, token_, rewind, console, SystemClock()))


async def _print_lines(
    channels: list[str], url: str, token: str, rewind: int | str | None, line: Callable[[Message], str]
) -> None:
    def hear(message: Message) -> None:
        print(line(message), flush=True)

    away = False

    def enter(state: State) -> None:
        nonlocal away
        if state == "reconnecting":
            say("the connection is lost: coming back")
        elif state == "open" and away:
            say("connected again")
        away = state == "reconnecting"

    async with hub_client(url, token, name="tail", on_state=enter) as krin:
        await _follow(krin, channels, rewind, hear, lambda lost: say(describe_loss(lost)))


async def _show(
    channels: list[str], url: str, token: str, rewind: int | str | None, console: Console, clock: Clock
) -> None:
    board = Board(channels, now_ms=clock.now_ms())

    def draw() -> Group:
        return drawing_of(board, now_ms=clock.now_ms(), height=console.height)

    async with AsyncExitStack() as stack:
        krin = await stack.enter_async_context(hub_client(url, token, name="tail", on_state=board.enter))
        live = stack.enter_context(Live(draw(), console=console, auto_refresh=False))

        async def redraw() -> None:
            while True:
                live.update(draw(), refresh=True)
                await clock.sleep(REFRESH_S)

        group = await stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(redraw(), name="redraw")
        await _follow(krin, channels, rewind, lambda message: board.hear(message, now_ms=clock.now_ms()), board.lose)


async def _follow(
    krin: Client,
    channels: list[str],
    rewind: int | str | None,
    hear: Callable[[Message], None],
    lose: Callable[[Lost], None],
) -> None:
    """Until interrupted. Raises HubError when the hub refuses one of the channels, Disconnected."""

    async def one(channel: str) -> None:
        async with krin.subscribe(channel, rewind=rewind, on_lost=lose) as subscription:
            async for message in subscription:
                hear(message)

    async with asyncio.TaskGroup() as group:
        for channel in channels:
            group.create_task(one(channel), name=f"tail {channel}")


def drawing_of(board: Board, *, now_ms: int, height: int) -> Group:
    """A row per channel, as many of the last messages as `height` leaves room for, and how the connection stands."""
    table = Table(expand=True)
    table.add_column("channel", no_wrap=True)
    for title in ("messages/s", "messages", "offset", "lag ms", "skipped", "lost"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("last message", no_wrap=True, ratio=1)
    rows = board.rows(now_ms)
    for row in rows:
        last = row.last
        lost = f"{row.lost:,}" + ("+" if row.uncounted else "") if row.lost or row.uncounted else ""
        table.add_row(
            Text(row.channel),
            "" if row.per_s is None else f"{row.per_s:,.1f}",
            f"{row.messages:,}",
            "" if last is None else f"{last.offset:,}",
            "" if last is None else f"{row.lag_ms:,}",
            f"{row.skipped:,}" if row.skipped else "",
            Text(lost, style="red"),
            Text("" if last is None else content(last), overflow="ellipsis"),
        )
    room = max(0, height - len(rows) - FRAME_LINES - len(board.losses))
    recent = list(board.recent)[-room:] if room else []
    lines = [Text(as_text(each), no_wrap=True, overflow="ellipsis") for each in recent]
    losses = [Text(describe_loss(each), style="red", no_wrap=True, overflow="ellipsis") for each in board.losses]
    return Group(table, *lines, *losses, _standing(board))


def _standing(board: Board) -> Text:
    if board.state == "reconnecting":
        return Text("the connection is lost: coming back", style="yellow")
    if not board.returns:
        return Text(board.state, style="dim")
    times = "once" if board.returns == 1 else f"{board.returns} times"
    return Text(f"{board.state}; came back {times}, {'with losses' if board.losses else 'nothing lost'}", style="dim")
