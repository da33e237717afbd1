"""`krin tail`: a table with rates at a terminal, lines into a pipe, and what was lost said in both."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fake_hub import FakeHub, joined, publication
from hypothesis import given
from hypothesis import strategies as st
from terminal import KRIN, ROOT, Terminal

from hub.cli.lines import as_text
from hub.cli.tailing import WINDOW_S, Board, Rate, describe_loss
from hub.client import Lost, Message, Position

DRAWN = "messages/s"
A, B = "custom:a", "custom:b"


def message(channel: str = A, offset: int = 1, **fields: Any) -> Message:
    return Message(
        **{"type": "NOTE", "channel": channel, "offset": offset, "epoch": "e1", "timestamp": 0, "data": {}, **fields}
    )


@given(st.lists(st.integers(0, 20_000), max_size=200), st.integers(0, 999))
def test_a_rate_is_that_of_the_last_whole_seconds(times_ms: list[int], now_ms: int) -> None:
    rate = Rate(0)
    for at_ms in sorted(times_ms):
        rate.count(at_ms)
    counted = sum(20 - WINDOW_S <= at_ms // 1000 < 20 for at_ms in times_ms)
    assert rate.per_s(20_000 + now_ms) == counted / WINDOW_S


def test_a_rate_is_unknown_before_the_first_whole_second() -> None:
    rate = Rate(0)
    rate.count(10)
    rate.count(999)
    assert (rate.per_s(999), rate.per_s(1000), rate.per_s(2000)) == (None, 2, 1)


def test_the_board_counts_for_each_channel_what_came_what_was_merged_and_what_was_lost() -> None:
    board = Board([A, B], now_ms=0)
    board.hear(message(offset=7, timestamp=400, skipped=3), now_ms=500)
    board.hear(message(offset=8, timestamp=900), now_ms=600)
    board.lose(Lost(A, "offset_too_old", Position("e1", 8), Position("e1", 20)))
    board.lose(Lost(B, "epoch_changed", Position("e1", 8), Position("e2", 1)))
    first, second = board.rows(1000)
    assert (first.messages, first.per_s, first.skipped, first.lost, first.uncounted) == (2, 2, 3, 12, False)
    assert first.lag_ms == 0, "a clock that is behind the hub's makes no negative lag"
    assert (second.messages, second.lost, second.uncounted, second.last) == (0, 0, True, None)
    assert list(map(describe_loss, board.losses)) == [
        "custom:a: lost 9 to 20 (offset_too_old)",
        "custom:b: lost what followed 8 (epoch_changed)",
    ]


def test_what_others_say_cannot_steer_the_terminal() -> None:
    said = as_text(message(key="\x1b[2J\u202e", data={"text": "\u009b31m"}))
    assert said == r'00:00:00.000 custom:a 1 NOTE \x1b[2J\u202e {"text":"\x9b31m"}'


async def test_at_a_terminal_a_row_for_each_channel_and_the_last_messages(fake: FakeHub) -> None:
    async with Terminal(*KRIN, "tail", A, B, KRIN_URL=fake.url, KRIN_TOKEN="t") as terminal:
        peer = await fake.welcome()
        for channel in (A, B):
            await peer.accept_subscribe(channel=channel)
        await peer.send(*(publication(each, A) for each in (1, 2, 3)), publication(1, B, key="k", data={"n": "x"}))
        await terminal.shows(DRAWN, "custom:a 3 NOTE", 'NOTE k {"n":"x"}', "open")
        assert await terminal.interrupt() == 130
        assert "Traceback" not in terminal.text


async def test_the_table_goes_on_after_a_reconnect_and_says_what_was_lost(fake: FakeHub) -> None:
    async with Terminal(*KRIN, "tail", A, B, KRIN_URL=fake.url, KRIN_TOKEN="t") as terminal:
        peer = await fake.welcome()
        for channel in (A, B):
            await peer.accept_subscribe(channel=channel)
        await peer.send(publication(1, A), publication(1, B))
        await terminal.shows("custom:b 1 NOTE")
        peer.cut()
        peer = await fake.accept()
        await terminal.shows("the connection is lost: coming back")
        subscriptions = {
            A: joined(A, offset=2, recovered=True, messages=[publication(2, A)]),
            B: joined(B, offset=40, recovered=False, reason="offset_too_old"),
        }
        asked = await peer.welcome(subscriptions=subscriptions)
        assert {name: each["recover"]["offset"] for name, each in asked["subscriptions"].items()} == {A: 1, B: 1}
        await terminal.shows(
            "custom:a 2 NOTE", "custom:b: lost 2 to 40 (offset_too_old)", "came back once, with losses"
        )


async def test_into_a_pipe_lines_go_on_and_the_loss_is_said_beside_them(fake: FakeHub) -> None:
    command = [*KRIN, "tail", A, "--json", "--url", fake.url, "--token", "t"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stderr=pipe)
    assert process.stdout and process.stderr
    try:
        async with asyncio.timeout(20):
            peer = await fake.welcome()
            await peer.accept_subscribe()
            await peer.send(publication(1))
            first = json.loads(await process.stdout.readline())
            peer.cut()
            lost = joined(offset=9, recovered=False, reason="offset_too_old")
            peer = await fake.welcome(subscriptions={A: lost})
            await peer.send(publication(10))
            second = json.loads(await process.stdout.readline())
            said = [(await process.stderr.readline()).decode().strip() for _ in range(3)]
    finally:
        process.terminate()
        await process.wait()
    assert (first["offset"], second["offset"]) == (1, 10)
    assert said == [
        "the connection is lost: coming back",
        "connected again",
        "custom:a: lost 2 to 9 (offset_too_old)",
    ]
