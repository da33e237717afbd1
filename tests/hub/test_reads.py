"""Who saw what (control C94): what becomes of reads in channels whose reads are audited, and what is answered later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from clock import ManualClock
from scene import Client, Scene

from hub.audit.reads import FLUSH_S, MAX_NOTED, Reads
from hub.audit.seen import AuditedReads, Seen, spans
from hub.caller import Caller
from hub.guard.events import SecurityEvent
from hub.namespaces import DEFAULTS, Namespace
from protocol.errors import ErrorCode, HubError
from storage.audit import AuditEntry, AuditTable, ReadDetail, ReadRow
from storage.database import Database

VAULT = Namespace(promise="durable", publish=("agent",), subscribe=("agent",), audit_reads=True)
GLASS = Namespace(promise="durable", publish=("agent",), subscribe=("agent",))


class Archive:
    """A node and the audit log that its reads go into."""

    def __init__(self, scene: Scene, database: Database) -> None:
        self.scene = scene
        self.table = AuditTable(database)

    async def ask(self, **asked: Any) -> list[Seen]:
        """What was seen, once everything that was noted is written down."""
        self.scene.reads.flush()
        told, self.scene.events[:] = list(self.scene.events), []
        now_us = self.scene.clock.now_ms() * 1000
        entries = [
            AuditEntry(event=each.name, actor=each.user, target=each.target, detail=each.detail, time_us=now_us)
            for each in told
        ]
        await self.table.append_all(entries)
        found = await AuditedReads(self.table).call(asked)
        assert found.complete
        return found.seen


@pytest_asyncio.fixture
async def archive(database: Database) -> AsyncIterator[Archive]:
    async with Scene(database, namespaces={"vault": VAULT, "glass": GLASS}).running() as scene:
        yield Archive(scene, database)


async def fill(client: Client, channel: str, count: int) -> None:
    for _ in range(count):
        await client.publish(channel)


def test_c94_reads_of_orders_fills_and_approvals_are_audited_unless_an_operator_says_otherwise() -> None:
    assert {name for name, policy in DEFAULTS.items() if policy.audit_reads} >= {"orders", "fills", "approvals"}
    assert not DEFAULTS["prices"].audit_reads


async def test_c94_the_answer_names_the_channel_and_the_messages_that_a_subscription_got(archive: Archive) -> None:
    scene = archive.scene
    boss = await scene.client("boss")
    await fill(boss, "vault:gold", 3)
    reader = await scene.client("rita", "agent")
    await reader.ask("subscribe", channel="vault:gold", rewind=10)
    await reader.ask("subscribe", channel="glass:gold")
    scene.clock.advance(20)
    await fill(boss, "vault:gold", 2)
    began_ms = scene.clock.now_ms() - 20_000
    [open_still] = await archive.ask(user="rita")
    await reader.ask("unsubscribe", channel="vault:gold")
    ended_ms = scene.clock.now_ms()
    scene.clock.advance(20)
    await fill(boss, "vault:gold", 4)
    [seen] = await archive.ask(user="rita")

    assert (open_still.channel, open_still.since, open_still.until) == ("vault:gold", began_ms, None)
    assert (seen.since, seen.until, seen.socket) == (began_ms, ended_ms, reader.connection.id)
    assert seen.token == reader.connection.caller.jti
    assert (seen.first, seen.last, seen.messages) == (1, 5, 5)
    assert await archive.ask(token=seen.token) == [seen]
    assert await archive.ask(user="boss") == []
    assert await archive.ask(user="rita", token="another") == []
    assert await archive.ask(user="rita", since=ended_ms + 1) == []
    assert await archive.ask(user="rita", until=began_ms - 1) == []
    [half] = await archive.ask(user="rita", since=began_ms + 10_000)
    assert (half.first, half.last, half.messages) == (4, 5, 2), "only what came in the time asked for"


async def test_c94_a_subscription_ends_with_its_connection(archive: Archive) -> None:
    reader = await archive.scene.client("rob", "agent")
    await reader.ask("subscribe", channel="vault:iron")
    reader.connection.lost()
    [seen] = await archive.ask(user="rob")

    assert seen.until == archive.scene.clock.now_ms()


async def test_c94_pages_of_history_are_told_together_with_the_offsets_they_held(archive: Archive) -> None:
    scene = archive.scene
    boss = await scene.client("boss")
    await fill(boss, "vault:tin", 9)
    reader = await scene.client("hal", "agent")
    for since in (2, 4):
        page = {"limit": 2, "since": {"epoch": "", "offset": since}}
        assert "result" in await reader.ask("history", channel="vault:tin", **page)
    await reader.ask("history", channel="vault:empty")
    [seen] = await archive.ask(user="hal")

    assert (seen.channel, seen.socket, seen.first, seen.last, seen.messages) == ("vault:tin", "", 3, 6, 4)


async def test_c94_who_names_nobody_is_told_so(archive: Archive) -> None:
    with pytest.raises(HubError) as refused:
        await AuditedReads(archive.table).call({})
    assert refused.value.code is ErrorCode.BAD_REQUEST
    with pytest.raises(HubError) as refused:
        await AuditedReads(archive.table).call({"person": "ann"})
    assert refused.value.code is ErrorCode.SCHEMA_INVALID


# --- what is noted, without a database


class Notebook:
    def __init__(self) -> None:
        self.clock = ManualClock(now_ms=1_000_000)
        self.told: list[SecurityEvent] = []
        self.reads = Reads(report=self.told.append, clock=self.clock)

    def caller(self, user: str = "ann") -> Caller:
        return Caller(user=user, roles=frozenset(), transport="rest", address="10.0.0.1", jti="t1")


def test_c94_however_often_somebody_reads_it_is_one_row_for_each_token_and_channel() -> None:
    notebook = Notebook()
    for number in range(1, 500):
        notebook.clock.advance(0.01)
        notebook.reads.read(notebook.caller(), "orders:ann", offsets=[number, number + 1])
        notebook.reads.unsubscribed(notebook.reads.subscribed(notebook.caller(), "fills:ann", socket="s", first=number))
    notebook.reads.flush()
    history, subscription = notebook.told

    assert (history.name, history.user, history.target, history.allowed) == (
        "sensitive_read",
        "ann",
        "orders:ann",
        True,
    )
    assert history.detail | {"since_ms": 0} == {
        "token": "t1", "since_ms": 0, "until_ms": 1_004_990, "first": 1, "last": 500, "times": 499,
    }  # fmt: skip
    assert (subscription.detail["socket"], subscription.detail["first"], subscription.detail["times"]) == ("s", 1, 499)
    notebook.reads.flush()
    assert len(notebook.told) == 2, "nothing new"


def test_c94_what_is_noted_in_memory_is_bounded() -> None:
    notebook = Notebook()
    for number in range(MAX_NOTED + 1):
        notebook.reads.read(notebook.caller(f"user-{number}"), "orders:ann", offsets=[1])

    assert len(notebook.told) == MAX_NOTED


async def test_c94_what_was_noted_is_written_every_ten_seconds_and_at_the_end() -> None:
    notebook = Notebook()
    running = asyncio.create_task(notebook.reads.run())
    await notebook.clock.until_somebody_sleeps(1)
    notebook.reads.read(notebook.caller(), "orders:ann", offsets=[1])
    notebook.clock.advance(FLUSH_S)
    await notebook.clock.until_somebody_sleeps(1)
    assert len(notebook.told) == 1
    notebook.reads.read(notebook.caller(), "orders:ann", offsets=[2])
    running.cancel()
    await asyncio.wait([running])
    assert len(notebook.told) == 2


def test_c94_the_end_of_a_subscription_meets_its_own_beginning() -> None:
    def row(time_ms: int, socket: str, **detail: Any) -> ReadRow:
        return ReadRow(time_ms, "orders:ann", ReadDetail("t", socket, **detail))

    found = spans(
        [
            row(10, "a", since_ms=1),
            row(20, "b", since_ms=12, until_ms=15),
            row(30, "a", until_ms=25),
            row(40, "a", since_ms=31),
            row(50, "c", until_ms=45),  # the log of its beginning was lost
        ]
    )

    assert [(each.socket, each.since, each.until) for each in found] == [
        ("a", 1, 25),
        ("b", 12, 15),
        ("a", 31, None),
        ("c", 50, 45),
    ]
