"""A page of a durable channel is read once for all who ask for it meanwhile, and never for those who asked later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from doubles import SlowLog
from scene import Client, Scene

from hub.caller import SYSTEM
from hub.namespaces import Namespace
from protocol.messages import History
from storage.database import Database

CHANNEL = "notes:alpha"
READ = History(id=1, channel=CHANNEL, limit=10)
MANY = 40


@pytest.fixture
def log(database: Database) -> SlowLog:
    return SlowLog(database)


@pytest_asyncio.fixture
async def client(database: Database, log: SlowLog) -> AsyncIterator[Client]:
    notes = Namespace(promise="durable", publish=("*",), subscribe=("*",))
    async with Scene(database, log=log, namespaces={"notes": notes}).running() as scene:
        yield await scene.client("ann", "agent")


def ask(client: Client, count: int = 1, *, limit: int = 10) -> list[int]:
    commands = [client.command("history", channel=CHANNEL, limit=limit) for _ in range(count)]
    client.send(*commands)
    return [command["id"] for command in commands]


async def publish(client: Client) -> None:
    message = {"type": "NOTE", "data": {}}
    assert "result" in await client.ask("publish", channel=CHANNEL, message=message)


async def offsets(client: Client, asked: list[int]) -> list[list[int]]:
    pages = [(await client.reply(number))["result"] for number in asked]
    for page in pages:
        assert page["offset"] == len(page["messages"])
    return [[message["offset"] for message in page["messages"]] for page in pages]


async def test_who_asks_before_a_reading_begins_shares_it_and_who_asks_later_does_not(
    client: Client, log: SlowLog
) -> None:
    await publish(client)
    early = ask(client)
    await log.until_read(1)
    await publish(client)  # the reading under way has not seen it
    late = ask(client, MANY)
    log.arrive.set()
    assert await offsets(client, early) == [[1]]
    assert await offsets(client, late) == [[1, 2]] * MANY
    assert log.pages == 2


async def test_another_page_does_not_wait(client: Client, log: SlowLog) -> None:
    await publish(client)
    small, large = ask(client, limit=1), ask(client, limit=2)
    await log.until_read(2)
    log.arrive.set()
    assert await offsets(client, small + large) == [[1], [1]]


async def test_who_goes_away_takes_the_page_from_nobody(client: Client, log: SlowLog) -> None:
    await publish(client)
    first = ask(client)
    await log.until_read(1)
    leaving, staying = (asyncio.create_task(client.scene.reader.history(READ, SYSTEM)) for _ in range(2))
    await asyncio.sleep(0)  # both wait for the second reading
    leaving.cancel()
    log.arrive.set()
    assert len((await staying).messages) == 1
    assert await offsets(client, first) == [[1]]
    assert log.pages == 2


async def test_a_failure_is_told_to_each_and_counted_for_each_and_not_kept(client: Client, log: SlowLog) -> None:
    await publish(client)
    log.unreachable = True
    first = ask(client)
    await log.until_read(1)
    asked = first + ask(client, MANY)
    log.arrive.set()
    errors = [(await client.reply(number))["error"] for number in asked]
    assert {error["name"] for error in errors} == {"not_available"}
    assert all(error["retry_after_ms"] for error in errors)
    assert client.scene.dispatcher.errors["not_available"] == MANY + 1
    log.unreachable = False
    assert await offsets(client, ask(client)) == [[1]]
