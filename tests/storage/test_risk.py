"""Limits and kill switches as they are stored, and the audit row of each change."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from protocol.risk import LimitLayer, RiskLimits
from protocol.trading import TradingState
from storage.audit import AuditEntry, AuditTable
from storage.database import Database
from storage.errors import Conflict
from storage.leadership import Fenced
from storage.orders import OrderLog
from storage.risk import RiskRecord, RiskTable

ANN = LimitLayer(scope="ACCOUNT", name="ann", limits=RiskLimits(max_qty="5.00", max_notional=None))
HALTED = TradingState(scope="ACCOUNT", name="ann", mode="HALTED", reason="a test", actor="rita", ts_event=1_700)


async def events(db: Database) -> list[str]:
    return [row.event for row in await AuditTable(db).page(limit=1000) if row.event.startswith(("risk_", "trading_"))]


async def test_what_a_scope_says_comes_back_as_it_was_said_and_replaces_what_it_said_before(db: Database) -> None:
    table = RiskTable(db)
    assert await table.load() == RiskRecord()
    assert await table.set_limits(ANN, epoch=0, by="rita") == 1
    assert await table.load() == RiskRecord(version=1, layers=[ANN])
    other = replace(ANN, limits=RiskLimits(collar_bps=100))
    assert await table.set_limits(other, epoch=0, by="rita") == 2
    assert (await table.load()).layers == [other]
    assert await table.set_limits(replace(ANN, limits=RiskLimits()), epoch=0, by="rita") == 3
    assert await table.load() == RiskRecord(version=3)


async def test_a_change_of_what_has_changed_meanwhile_is_refused_and_leaves_nothing(db: Database) -> None:
    table = RiskTable(db)
    await table.set_limits(ANN, epoch=0, expected_version=0)
    with pytest.raises(Conflict):
        await table.set_limits(replace(ANN, limits=RiskLimits()), epoch=0, expected_version=0)
    assert await table.load() == RiskRecord(version=1, layers=[ANN])
    assert await events(db) == ["risk_limits_changed"]


async def test_changes_at_the_same_moment_have_a_version_each(db: Database) -> None:
    table = RiskTable(db)
    layers = [replace(ANN, name=f"account{number}") for number in range(8)]
    versions = await asyncio.gather(*(table.set_limits(layer, epoch=0) for layer in layers))
    assert sorted(versions) == list(range(1, 9))
    assert len((await table.load()).layers) == 8


async def test_a_switch_is_kept_until_it_is_reset_and_each_throw_is_audited(db: Database) -> None:
    table = RiskTable(db)
    await table.set_state(HALTED, epoch=0, by="rita")
    await table.set_state(replace(HALTED, mode="REDUCING"), epoch=0, by="rita")
    assert (await table.load()).states == [replace(HALTED, mode="REDUCING")]
    await table.set_state(replace(HALTED, mode="ACTIVE"), epoch=0, by="rob")
    assert (await table.load()).states == []
    assert await events(db) == ["trading_halted", "trading_halted", "trading_resumed"]


async def test_c85_the_audit_names_an_account_by_pseudonym(db: Database) -> None:
    await db.fetch_value("SELECT person_pseudonym('ann')")
    await RiskTable(db).set_state(HALTED, epoch=0, by="rita")
    [row] = [row for row in await AuditTable(db).page(limit=1000) if row.event == "trading_halted"]
    assert row.target.startswith("account:~")
    assert "ann" not in row.target
    assert row.actor.startswith("~")


async def test_an_answer_about_an_order_is_written_down(db: Database) -> None:
    await RiskTable(db).note(AuditEntry(event="order_approved", actor="rita", target="orders:ann"))
    assert "order_approved" in [row.event for row in await AuditTable(db).page(limit=1000)]


async def test_an_engine_that_was_replaced_changes_nothing(db: Database) -> None:
    table = RiskTable(db)
    end = await OrderLog(db).take_over("next")
    with pytest.raises(Fenced):
        await table.set_limits(ANN, epoch=end.epoch - 1)
    with pytest.raises(Fenced):
        await table.set_state(HALTED, epoch=end.epoch - 1)
    assert await table.load() == RiskRecord()
    assert await events(db) == []
    await table.set_state(HALTED, epoch=end.epoch)
    assert (await table.load()).states == [HALTED]
