"""Knowledge entries as they are stored and found."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from protocol.knowledge import KnowledgeEntry, KnowledgeSearch
from storage.database import Database
from storage.knowledge import KnowledgeTable


def entry(title: str, body: str = "", **fields: Any) -> KnowledgeEntry:
    fields = {"kind": "performance", "author": "ann", "added_at": 1, **fields}
    return KnowledgeEntry(entry_id=str(uuid4()), title=title, body=body, **fields)


async def titles(table: KnowledgeTable, readable: tuple[str, ...] = (), **wanted: Any) -> list[str]:
    return [each.title for each in await table.search(KnowledgeSearch(**wanted), readable=readable)]


async def test_an_entry_comes_back_as_it_was_added_and_a_second_one_of_its_id_changes_nothing(db: Database) -> None:
    table = KnowledgeTable(db)
    first = entry("Pool connections", "Six are enough.", tags=["postgres"], project_id="alpha", finding="F-7")
    assert await table.add(first) == first
    again = KnowledgeEntry(entry_id=first.entry_id, kind="ai", title="Other", body="", author="bob", added_at=2)
    assert await table.add(again) == first
    assert await table.get(first.entry_id) == first
    assert await table.get(str(uuid4())) is None


async def test_words_are_found_in_title_tags_and_body_in_that_order_and_in_any_form(db: Database) -> None:
    table = KnowledgeTable(db)
    await table.add(entry("About queues", "Measure the latencies."))
    await table.add(entry("About tags", tags=["latency"]))
    await table.add(entry("Latency of writes"))
    await table.add(entry("Nothing of the kind"))
    assert await titles(table, query="latency") == ["Latency of writes", "About tags", "About queues"]
    assert await titles(table, query="latency -writes") == ["About tags", "About queues"]
    assert await titles(table, query="latency", limit=1) == ["Latency of writes"]
    assert await titles(table, query="absent") == []


@pytest.mark.parametrize("query", ["the", "& | !", "'", '"', "-", "a:*", "\\", "💥", "x" * 2000])
async def test_no_query_is_an_error(db: Database, query: str) -> None:
    table = KnowledgeTable(db)
    await table.add(entry("Pool connections"))
    assert await titles(table, query=query) == []


async def test_without_a_query_the_newest_come_first_and_the_kind_selects(db: Database) -> None:
    table = KnowledgeTable(db)
    await table.add(entry("old", added_at=1))
    await table.add(entry("new", added_at=3))
    await table.add(entry("secure", added_at=2, kind="security"))
    assert await titles(table) == ["new", "secure", "old"]
    assert await titles(table, kind="performance") == ["new", "old"]


async def test_entries_of_a_project_are_found_by_those_who_may_read_it(db: Database) -> None:
    table = KnowledgeTable(db)
    await table.add(entry("everybody's", added_at=3))
    await table.add(entry("alpha's", added_at=2, project_id="alpha"))
    await table.add(entry("beta's", added_at=1, project_id="beta"))
    assert await titles(table) == ["everybody's"]
    assert await titles(table, ("alpha",)) == ["everybody's", "alpha's"]
    assert await titles(table, project_id="beta") == ["beta's"]
    assert sorted(await table.projects()) == ["alpha", "beta"]
