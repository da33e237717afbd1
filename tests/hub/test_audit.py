"""Security events on their way into the audit log, and its signed heads outside the database."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # ships neither stubs nor py.typed
import msgspec
import pytest
import pytest_asyncio
from clock import ManualClock
from hypothesis import given
from hypothesis import strategies as st

from hub.audit.heads import AuditKey, Checkpoint, Checkpoints, is_signed
from hub.audit.log import MAX_WAITING, ROWS_PER_ADDRESS, ROWS_PER_NAME, AuditLog, FloodFilter
from hub.audit.verify import AuditVerification, HeadUnusable, Verdict, signed_heads, verify_log
from hub.guard.events import SecurityEvent
from protocol.audit import AuditHead, is_consistent
from storage.audit import AuditEntry, AuditTable
from storage.database import Database
from storage.errors import Unavailable
from storage.migrate import migrate


def denied(user: str = "mallory", address: str = "192.0.2.1", target: str = "orders:1") -> SecurityEvent:
    return SecurityEvent(name="authz_fail", user=user, address=address, target=target, allowed=False, severity="WARN")


# --- floods ---


def test_c77_equal_denied_attempts_are_one_row_and_one_count() -> None:
    floods = FloodFilter()
    assert [floods.admit(denied()) for _ in range(1000)] == [True] + [False] * 999
    [told] = floods.close_window()
    assert (told.user, told.address, told.target, told.detail) == (
        "mallory",
        "192.0.2.1",
        "orders:1",
        {"attempts": 999},
    )
    assert floods.close_window() == []
    assert floods.admit(denied())


def test_c77_whoever_varies_the_attempt_or_the_address_gets_no_more_rows() -> None:
    floods = FloodFilter()
    one_address = [floods.admit(denied(user=f"guess{n}")) for n in range(500)]
    assert sum(one_address) == ROWS_PER_ADDRESS
    many = [floods.admit(denied(address=f"10.0.{n // 256}.{n % 256}")) for n in range(5000)]
    assert sum(one_address) + sum(many) == ROWS_PER_NAME
    told = floods.close_window()
    assert len(told) == 2
    assert sum(event.detail["attempts"] for event in told) == 5500 - ROWS_PER_NAME


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 3)), max_size=400))
def test_c77_every_attempt_is_either_a_row_or_counted(attempts: list[tuple[str, int, int]]) -> None:
    floods = FloodFilter()
    rows = sum(floods.admit(denied(user, f"10.0.0.{host}", str(target))) for user, host, target in attempts)
    assert rows + sum(event.detail["attempts"] for event in floods.close_window()) == len(attempts)


# --- the way in ---


class Gate(AuditTable):
    """The real table behind a gate: closed, it is as a database that is away."""

    opened = True

    async def append_all(self, entries: Sequence[AuditEntry]) -> None:
        if not self.opened:
            raise Unavailable("The database at nowhere cannot be reached: it is away.")
        await super().append_all(entries)


@asynccontextmanager
async def running(*parts: Any) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part.run()) for part in parts]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def events_since(database: Database, sequence: int) -> list[tuple[str, str, dict[str, Any]]]:
    rows = await AuditTable(database).page(after=sequence, limit=20_000)
    return [(row.event, row.outcome, msgspec.json.decode(row.detail)) for row in rows]


async def test_c77_events_are_written_in_order_and_what_waits_is_flushed_at_the_end(database: Database) -> None:
    table, clock = AuditTable(database), ManualClock()
    start, _ = await table.head()
    log = AuditLog(table, clock=clock)
    async with running(log):
        await clock.until_somebody_sleeps()
        for number in range(700):
            log.hear(SecurityEvent(name="authn_login_success", user="ann", detail={"number": number}))
        for _ in range(50):
            log.hear(denied())
    found = await events_since(database, start)
    assert [detail["number"] for _, _, detail in found[:700]] == list(range(700))
    assert found[700:] == [("authz_fail", "denied", {}), ("authz_fail", "denied", {"attempts": 49})]


async def test_c77_what_postgres_cannot_hold_is_written_without_it_and_keeps_no_other_entry_waiting(
    database: Database,
) -> None:
    table, clock = AuditTable(database), ManualClock()
    start, _ = await table.head()
    log = AuditLog(table, clock=clock)
    async with running(log):
        await clock.until_somebody_sleeps()
        log.hear(denied("ann\0\ud800", "203.0.113.1\0", "orders:\0"))
        log.hear(SecurityEvent(name="authn_login_success", user="ann", detail={"agent": "curl\0\udfff"}))
    found = await events_since(database, start)
    assert found == [("authz_fail", "denied", {}), ("authn_login_success", "done", {"agent": "curl\ufffd?"})]


async def test_c77_entries_wait_for_a_database_that_is_away_and_what_did_not_fit_is_audited(database: Database) -> None:
    """`lost` is what krin_audit_lost shows."""
    table, clock = Gate(database), ManualClock()
    start, _ = await table.head()
    log = AuditLog(table, clock=clock)
    table.opened = False
    async with running(log):
        await clock.until_somebody_sleeps()
        for number in range(MAX_WAITING + 5):
            log.hear(SecurityEvent(name="user_created", user="root", detail={"number": number}))
        await clock.until_somebody_sleeps(2)
        assert (log.waiting, log.lost) == (MAX_WAITING, 5)
        table.opened = True
        clock.advance(0.5)
        async with asyncio.timeout(30):
            while log.waiting:
                await asyncio.sleep(0.01)
    found = await events_since(database, start)
    assert [detail["number"] for event, _, detail in found if event == "user_created"] == list(range(MAX_WAITING))
    assert [detail for event, _, detail in found if event == "sys_audit_lost"] == [{"done": 5, "denied": 0}]


def test_c77_a_flood_of_denied_attempts_leaves_room_for_what_was_done(database: Database) -> None:
    log = AuditLog(AuditTable(database), clock=ManualClock())
    for number in range(MAX_WAITING * 3):
        log.hear(denied(address=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
        log._close_window()  # the worst case: a window for each
    assert log.waiting == MAX_WAITING // 2
    log.hear(SecurityEvent(name="user_created", user="root"))
    assert log.waiting == MAX_WAITING // 2 + 1


async def test_c88_addresses_in_an_events_detail_do_not_reach_the_log(database: Database) -> None:
    table = AuditTable(database)
    start, _ = await table.head()
    log = AuditLog(table, clock=ManualClock())
    async with running(log):
        log.hear(
            SecurityEvent(
                name="authn_impossible_travel",
                user="ann",
                address="192.0.2.1",
                detail={"from": "198.51.100.7", "to": "192.0.2.1", "seen": ["2001:db8::1", 3, None]},
            )
        )
        await asyncio.sleep(0)
    [(_, _, detail)] = await events_since(database, start)
    assert detail["from"] == "(an address)"
    assert detail["to"].startswith("~")
    assert detail["seen"] == ["(an address)", 3, None]


# --- signed heads ---


class Witness:
    """Everything around the checkpoints of one node: a clock, a file, what was announced and reported."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.table = AuditTable(database)
        self.clock = ManualClock()
        self.file = folder / "audit" / "checkpoints.jsonl"
        self.key = AuditKey(bytes(range(32)))
        self.announced: list[AuditHead] = []
        self.reported: list[SecurityEvent] = []

    def checkpoints(self) -> Checkpoints:
        async def announce(head: AuditHead) -> None:
            self.announced.append(head)

        return Checkpoints(
            self.table,
            key=self.key,
            file=self.file,
            node="n1",
            announce=announce,
            report=self.reported.append,
            clock=self.clock,
        )

    def verification(self) -> AuditVerification:
        return AuditVerification(self.table, file=self.file, key=self.key.public, report=self.reported.append)

    async def append(self, count: int) -> None:
        await self.table.append_all([AuditEntry(event="work", target=str(number)) for number in range(count)])

    async def sign(self, count: int) -> None:
        """Append rows, and let the node sign them and end."""
        await self.append(count)
        async with running(self.checkpoints()):
            await self.clock.until_somebody_sleeps()
            await self.pass_time(10)

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            await self.clock.until_somebody_sleeps()

    def lines(self) -> list[Checkpoint]:
        if not self.file.exists():
            return []
        return [msgspec.json.decode(line, type=Checkpoint) for line in self.file.read_bytes().splitlines()]

    async def verdict(self, *others: Path) -> Verdict:
        with ExitStack() as stack:
            files = [file for file in (self.file, *others) if file.exists()]
            return await verify_log(self.table, signed_heads(stack, files, [self.key.public]))


@pytest_asyncio.fixture
async def own_dsn(dsn: str) -> AsyncIterator[str]:
    """A database of the test's own: its log begins at row 1, and may be damaged."""
    server = await asyncpg.connect(dsn)
    name = f"audited_{secrets.token_hex(4)}"
    await server.execute(f"CREATE DATABASE {name}")
    try:
        yield dsn.replace("/postgres?", f"/{name}?", 1)
    finally:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()


@pytest_asyncio.fixture
async def witness(own_dsn: str, tmp_path: Path) -> AsyncIterator[Witness]:
    async with Database.open(own_dsn) as database:
        await migrate(database)
        yield Witness(database, tmp_path)


async def test_c79_a_head_is_signed_after_ten_seconds_or_a_thousand_rows(witness: Witness) -> None:
    await witness.append(3)
    async with running(witness.checkpoints()):
        await witness.clock.until_somebody_sleeps()
        await witness.pass_time(9)
        assert witness.lines() == []
        await witness.pass_time(1)
        size, hash = await witness.table.head()
        last = witness.lines()[-1]
        assert (last.head.size, last.head.hash) == (size, hash.hex())
        await witness.append(1000)
        await witness.pass_time(1)
        assert witness.lines()[-1].head.size == size + 1000
        told = len(witness.lines())
        await witness.pass_time(30)  # nothing new, nothing signed
        assert len(witness.lines()) == told
    assert all(is_signed(line.head, witness.key.public) for line in witness.lines())
    verdict = await witness.verdict()
    assert (verdict.ok, verdict.rows, verdict.signed) == (True, size + 1000, size + 1000)


async def test_c79_each_head_proves_that_it_only_adds_to_the_one_before_also_after_a_restart(witness: Witness) -> None:
    for count in (1, 6, 1, 13):
        await witness.sign(count)
    lines = witness.lines()
    assert len(lines) >= 4
    for before, after in itertools.pairwise(lines):
        assert after.previous_size == before.head.size
        proof = [bytes.fromhex(node) for node in after.proof]
        roots = bytes.fromhex(before.head.root), bytes.fromhex(after.head.root)
        assert is_consistent(before.head.size, roots[0], after.head.size, roots[1], proof)


async def test_c79_the_newest_head_is_announced_every_minute(witness: Witness) -> None:
    await witness.append(1)
    async with running(witness.checkpoints()):
        await witness.clock.until_somebody_sleeps()
        await witness.pass_time(200)
    assert [head.size for head in witness.announced] == [witness.lines()[-1].head.size] * 4


class Superuser:
    """Somebody with every right on the database, who switches the protection off."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    @asynccontextmanager
    async def damage(self, *statements: str) -> AsyncIterator[None]:
        """The damage for the length of the block; afterwards all is as it was."""
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.execute("SET session_replication_role = replica")
            await connection.execute("CREATE TEMPORARY TABLE saved AS SELECT * FROM audit_log")
            await connection.execute("CREATE TEMPORARY TABLE saved_head AS SELECT * FROM audit_head")
            for statement in statements:
                await connection.execute(statement)
            yield
        finally:
            await connection.execute("TRUNCATE audit_log; INSERT INTO audit_log SELECT * FROM saved")
            await connection.execute("DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM saved_head")
            await connection.close()


def rolled_back_to(sequence: int) -> tuple[str, str]:
    """Damage that leaves a head which fits the rows."""
    return (
        f"DELETE FROM audit_log WHERE sequence > {sequence}",
        f"UPDATE audit_head SET (sequence, hash) = (SELECT sequence, hash FROM audit_log WHERE sequence = {sequence})",
    )


CHANGES = (
    "event = event || 'x'",
    "actor = actor || 'x'",
    "address = 'x'",
    "target = overlay(target placing 'y' from 1 for 1)",
    "outcome = 'denied'",
    "severity = 'WARN'",
    "detail = '{\"a\": 1}'",
    "time_us = time_us # 1",
    "prev_hash = set_byte(prev_hash, 7, get_byte(prev_hash, 7) # 1)",
    "hash = set_byte(hash, 31, get_byte(hash, 31) # 128)",
)


async def test_c78_t26_fifty_real_edits_are_found_at_their_rows(witness: Witness, own_dsn: str) -> None:
    await witness.append(60)
    size, _ = await witness.table.head()
    for number in range(50):
        place = size - number
        change = CHANGES[number % len(CHANGES)]
        async with Superuser(own_dsn).damage(f"UPDATE audit_log SET {change} WHERE sequence = {place}"):
            verdict = await witness.verdict()
        assert verdict.fault is not None, change
        assert verdict.fault.sequence == place, change
    assert (await witness.verdict()).ok


async def test_c78_c79_t26_removed_inserted_swapped_cut_and_rolled_back_rows_are_named(
    witness: Witness, own_dsn: str
) -> None:
    await witness.sign(30)
    size, _ = await witness.table.head()
    away = size - 10
    copy = (
        "INSERT INTO audit_log SELECT sequence + 1, time_us, event, actor, address, target, outcome, severity, detail,"
        f" prev_hash, hash FROM saved WHERE sequence = {size}"
    )
    shift = f"UPDATE audit_log SET sequence = -sequence - 1 WHERE sequence >= {away}"
    unshift = "UPDATE audit_log SET sequence = -sequence WHERE sequence < 0"
    again = f"INSERT INTO audit_log SELECT * FROM saved WHERE sequence = {away}"
    swap = (
        f"UPDATE audit_log SET sequence = -1 WHERE sequence = {away}",
        f"UPDATE audit_log SET sequence = {away} WHERE sequence = {away + 1}",
        f"UPDATE audit_log SET sequence = {away + 1} WHERE sequence = -1",
    )
    cases: dict[str, tuple[tuple[str, ...], int, str]] = {
        "removed": ((f"DELETE FROM audit_log WHERE sequence = {away}",), away, f"row {away} removed"),
        "inserted": ((shift, unshift, again), away + 1, "changed"),
        "added at the end": ((copy,), size + 1, "changed"),
        "swapped": (swap, away, "changed"),
        "cut": ((f"DELETE FROM audit_log WHERE sequence > {away}",), away + 1, f"cut off: {size} rows were signed"),
        "rolled back": (rolled_back_to(away), away + 1, "cut off"),
        "emptied": (("TRUNCATE audit_log", "UPDATE audit_head SET sequence = 0, hash = ''"), 1, "cut off"),
        "head gone astray": (("UPDATE audit_head SET hash = ''",), size, "is not the row that the head names"),
    }
    for name, (statements, place, problem) in cases.items():
        async with Superuser(own_dsn).damage(*statements):
            verdict = await witness.verdict()
        assert verdict.fault is not None, name
        assert (verdict.fault.sequence, verdict.fault.problem[: len(problem)]) == (place, problem), name


async def test_c79_t26_a_table_rolled_back_and_written_on_is_found_by_the_file_alone(
    witness: Witness, own_dsn: str
) -> None:
    """What a restored backup looks like: the chain holds, the tree is another, and the hub that runs on says so."""
    await witness.sign(30)
    size, _ = await witness.table.head()
    away = size - 10
    async with Superuser(own_dsn).damage(*rolled_back_to(away)):
        await witness.append(20)
        verdict = await witness.verdict()
        assert verdict.fault is not None
        assert verdict.fault.problem.startswith("rewritten between rows")
        assert await witness.verification().call() == verdict
        assert [(event.name, event.severity) for event in witness.reported] == [("sys_audit_broken", "CRITICAL")]
        witness.reported.clear()
        assert verdict.fault.sequence <= away + 1
        signed = len(witness.lines())
        async with running(witness.checkpoints()):
            await witness.clock.until_somebody_sleeps()
            witness.clock.advance(10)
            async with asyncio.timeout(5):
                while not witness.reported:
                    await asyncio.sleep(0.01)
        assert [(event.name, event.severity) for event in witness.reported] == [("sys_audit_broken", "CRITICAL")]
        assert len(witness.lines()) == signed


async def test_c79_a_head_with_a_wrong_signature_or_an_unknown_key_is_refused(witness: Witness, tmp_path: Path) -> None:
    await witness.sign(3)
    line = witness.lines()[-1]
    forged = tmp_path / "forged.jsonl"
    stranger = AuditKey(bytes(32))
    publication = {"type": "AUDIT_HEAD", "channel": "system:audit", "offset": 1, "data": line.head}
    forged.write_bytes(msgspec.json.encode(publication))  # as a client has kept it
    assert (await witness.verdict(forged)).ok
    forged.write_bytes(msgspec.json.encode({"head": msgspec.structs.replace(line.head, size=line.head.size - 1)}))
    with pytest.raises(HeadUnusable, match="signature on the head of"):
        await witness.verdict(forged)
    forged.write_bytes(msgspec.json.encode({"head": stranger.sign(line.head)}))
    with pytest.raises(HeadUnusable, match="signed by a key that was not given"):
        await witness.verdict(forged)


async def test_a_line_cut_off_by_a_crash_is_passed_over_when_the_node_goes_on(witness: Witness) -> None:
    await witness.sign(3)
    with witness.file.open("ab") as file:
        file.write(b'{"head":{"node":"n1","si')
    await witness.sign(3)
    verdict = await witness.verdict()
    assert (verdict.ok, verdict.signed) == (True, verdict.rows)
