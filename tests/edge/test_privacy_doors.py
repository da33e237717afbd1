"""T27: a person's data goes in through every door, comes out whole on request, and is then nowhere."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import HubProcess, krin, running
from sockets import Peer, peer

from hub.bootstrap import open_database
from hub.config import load
from storage.database import Database

PASSWORD = "a quiet horse in the rain"


class Markers(dict[str, str]):
    """Twenty strings that stand nowhere else, by the door through which each goes in."""

    def __missing__(self, door: str) -> str:
        # Begins with a letter and is short: it must pass as a name, a key and a part of a channel.
        self[door] = f"mk{len(self):02}x{secrets.token_hex(6)}"
        return self[door]


@asynccontextmanager
async def database_of(hub: HubProcess) -> AsyncIterator[Database]:
    """The database of a running hub."""
    async with open_database(load(data_dir=str(hub.data_dir))) as (database, _):
        yield database


async def dump(database: Database) -> bytes:
    """Every table as COPY writes it: bytes as they are, not in hexadecimal."""
    out = io.BytesIO()
    names = await database.fetch("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    async with database.session() as session:
        for row in names:
            await session.copy_from_table(row[0], output=out, format="binary")
    return out.getvalue()


def bearer(token: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", **more}


async def plant(hub: HubProcess, http: httpx.AsyncClient, marks: Markers) -> str:
    """Everything that can be stored of a person, through the doors where there is one; returns the person's token."""
    name, data_dir = marks["name"], str(hub.data_dir)
    await asyncio.to_thread(
        lambda: krin(
            *("user", "add", name, "--role", "agent", "--role", "trader", "--team", "work"),
            *("--data-dir", data_dir),
            environment={"KRIN_PASSWORD": PASSWORD + marks["password"]},
        ).check_returncode()
    )
    key = await asyncio.to_thread(krin, "key", "add", name, "--role", "agent", "--data-dir", data_dir)
    for attempt in ("/v1/privacy/export", f"/v1/privacy/export?person={name}"):
        refused = await http.get(attempt, headers=bearer(key.stdout.strip()))
        assert refused.json()["meta"]["error"]["name"] == "permission_denied"
    login = await http.post("/v1/auth/login", json={"name": name, "password": PASSWORD + marks["password"]})
    assert login.status_code == 200, login.text
    await http.post("/v1/auth/login", json={"name": name, "password": marks["wrong password"]})
    await http.post("/v1/auth/login", json={"name": marks["stranger"], "password": "x"})
    token: str = login.json()["data"]["access_token"]
    for channel in ("team:work", "custom:work", f"orders:{name}"):
        kind = "ORDER_EVENT" if channel.startswith("orders") else "HANDOFF" if channel.startswith("team") else "NOTE"
        data = {
            "ORDER_EVENT": {
                "account": name,
                "client_order_id": marks["order"],
                "symbol": "BTC-USD",
                "text": marks["memo"],
            },
            "HANDOFF": {
                "task_id": marks["task"],
                "from_specialist": name,
                "to_specialist": "bob",
                "state": "OFFERED",
                "message": marks["note"],
            },
            "NOTE": {"text": marks["text"]},
        }[kind]
        body = {
            "channel": channel,
            "message": {"type": kind, "data": data},
            "key": marks[f"key {channel}"],
            "idempotency_key": marks[f"idempotency {channel}"],
        }
        answer = await http.post("/v1/publish", json=body, headers=bearer(hub.token(name, "admin")))
        assert answer.status_code == 200, answer.text
    consent = await http.put(
        "/v1/privacy/consents/ai_processing", json={"granted": True}, headers=bearer(token, **{"sec-gpc": "1"})
    )
    assert consent.status_code == 200, consent.text
    sold = await http.put(
        "/v1/privacy/consents/sale_or_sharing", json={"granted": True}, headers=bearer(token, **{"sec-gpc": "1"})
    )
    assert (sold.status_code, sold.json()["meta"]["error"]["path"]) == (400, "$.granted"), sold.text
    assert (await http.get(f"/v1/history/orders:{marks['forbidden']}", headers=bearer(token))).status_code == 403
    async with database_of(hub) as database:
        user_id = await database.fetch_value("SELECT id FROM users WHERE name = $1", name)
        await database.execute(
            "INSERT INTO ai_enhanced_sessions (user_id, session_data, ai_insights, expires_at)"
            " VALUES ($1, $2, $3, now() + interval '1 day')",
            *(user_id, json.dumps({"page": marks["session"]}), json.dumps({"mood": marks["insight"]})),
        )
        await database.execute(
            "INSERT INTO specialist_coordination (project_id, specialist_type, action_type, context, ai_analysis)"
            " VALUES (gen_random_uuid(), 'ui', 'review', $1, $2)",
            *(json.dumps({"by": {"user": name}, "what": marks["context"]}), json.dumps({"why": marks["analysis"]})),
        )
    return token


STORED = ("name", "order", "task", "note", "session", "insight", "context", "analysis")


@pytest.fixture
def hub_of_its_own(tmp_path: Path) -> Any:
    with running(tmp_path / "data", "--drain-timeout", "0") as hub:
        yield hub


async def test_t27_c85_c86_c87_c93_what_was_planted_through_every_door_comes_out_once_and_is_then_nowhere(
    hub_of_its_own: HubProcess,
) -> None:
    hub, marks = hub_of_its_own, Markers()
    name = marks["name"]
    admin = bearer(hub.token("root", "admin"))
    async with httpx.AsyncClient(base_url=hub.url, timeout=20) as http:
        token = await plant(hub, http, marks)
        assert len(marks) >= 20
        other = await http.post(
            "/v1/publish",
            json={
                "channel": "team:work",
                "message": {"type": "ALERT", "data": {"alert_id": "other-1", "severity": "INFO", "title": "t"}},
            },
            headers=bearer(hub.token("bob", "admin")),
        )
        assert other.status_code == 200, other.text

        # What a password alone does not open, and what is others'.
        for attempt in (
            http.get("/v1/privacy/export", headers=bearer(token)),
            http.post("/v1/privacy/erase", json={"person": name}, headers=bearer(token)),
        ):
            refused = await attempt
            assert refused.status_code == 403
            assert refused.json()["meta"]["error"]["name"] == "mfa_required"
        own = bearer(hub.token(name, "agent"))  # signed for by the operator
        foreign = await http.get("/v1/privacy/export?person=root", headers=own)
        assert foreign.json()["meta"]["error"]["name"] == "permission_denied"
        assert (await http.post("/v1/privacy/erase", json={"person": "root"}, headers=own)).status_code == 403
        assert (await http.get("/v1/audit", headers=own)).status_code == 403

        # C85: everything, and nothing of anybody else's.
        exported = await http.get("/v1/privacy/export", headers=own)
        assert exported.status_code == 200
        document = exported.json()
        assert (document["schema"], document["person"]) == ("krin.privacy.export/1", name)
        for door in STORED:
            assert marks[door] in exported.text, door
        assert "other-1" not in exported.text
        assert PASSWORD not in exported.text
        events = [row["event"] for row in document["tables"]["audit_log"]]
        assert {"user_created", "api_key_created", "consent_changed"} <= set(events)
        consents = [(row["purpose"], row["granted"], row["source"]) for row in document["tables"]["consents"]]
        assert consents == [("ai_processing", True, "rest"), ("sale_or_sharing", False, "sec-gpc")]  # C93

        # C86.
        async with peer(hub, hub.token(name, "agent")) as live:
            await live.ask("subscribe", channel="custom:work")
            answer = await http.post("/v1/privacy/erase", json={"person": name}, headers=own)
            assert answer.status_code == 200, answer.text
            assert await live.until_closed() == 4001
        erasure = answer.json()["data"]
        [kept] = erasure["kept"]
        assert (kept["namespace"], kept["rows"]) == ("orders", 1)  # C87
        assert "Art. 17(3)" in kept["ground"]
        assert (await http.get("/v1/channels", headers=bearer(token))).status_code == 401
        assert (await http.get("/v1/channels", headers=own)).status_code == 401

        history = (await http.get("/v1/history/team:work", headers=admin)).json()["data"]
        assert [(each["offset"], each["type"]) for each in history["messages"]] == [(1, "ERASED"), (2, "ALERT")]
        assert history["messages"][0]["data"] == {}
        async with asyncio.timeout(10):
            while (await http.get("/v1/history/custom:work", headers=admin)).json()["data"]["messages"]:
                await asyncio.sleep(0.05)

        async with database_of(hub) as database:
            everything = await dump(database)
        found = {door for door, mark in marks.items() if mark.encode() in everything}
        assert found == set()
        assert not any(secret in hub.log.read_text() for secret in (*marks.values(), token))  # C82

        verified = krin("audit", "verify", "--data-dir", str(hub.data_dir))
        assert verified.returncode == 0, verified.stderr
        rows = (await http.get("/v1/audit?limit=50", headers=admin)).json()
        proof = next(row for row in rows["data"] if row["event"] == "personal_data_erased")
        assert (proof["target"], proof["target_name"]) == (erasure["person"], None)
        held = krin("privacy", "holds", erasure["person"], "--reason", "case 7", "--data-dir", str(hub.data_dir))
        assert marks["order"] in held.stdout


async def test_c86_a_name_that_is_erased_does_not_come_back_from_the_coordinators_memory(tmp_path: Path) -> None:
    async with asyncio.timeout(100):
        with running(tmp_path, "--drain-timeout", "0") as hub:
            tokens = {name: hub.token(name, "agent", teams=("work",)) for name in ("annika", "bob")}
            async with peer(hub, tokens["annika"]) as annika, httpx.AsyncClient(base_url=hub.url) as http:
                tasks = [{"task_id": "t-1", "pinned": "annika"}, {"task_id": "t-2", "depends_on": ["t-1"]}]
                await call(annika, "projects.create", project={"project_id": "work", "tasks": tasks})
                for name in ("annika", "annika-2"):
                    specialist = {"specialist_id": name, "team": "work", "heartbeat_s": 300}
                    await call(annika, "agents.register", specialist=specialist)
                claim = {"project_id": "work", "task_id": "t-1", "specialist_id": "annika"}
                claimed = await call(annika, "tasks.claim", **claim)
                blockers = [{"kind": "person", "ref": "annika"}]
                await call(annika, "tasks.block", **claim, fence=claimed["fence"], blockers=blockers)
                answer = await http.post(
                    "/v1/privacy/erase", json={"person": "annika"}, headers=bearer(hub.token("annika", "agent"))
                )
                assert answer.status_code == 200, answer.text
            async with peer(hub, tokens["bob"]) as bob:
                while not (agents := await call(bob, "agents.list"))["specialists"] or "annika" in owners(agents):
                    await asyncio.sleep(0.05)
                await call(bob, "tasks.pause", project_id="work", task_id="t-1")
            async with database_of(hub) as database:
                for table in ("coordination_records", "coordination_events"):
                    query = f"SELECT count(*) FROM {table} WHERE body::text LIKE '%\"annika\"%'"
                    assert await database.fetch_value(query) == 0, table
        with running(tmp_path) as hub:
            async with peer(hub, hub.token("bob", "agent", teams=("work",))) as bob:
                assert owners(await call(bob, "agents.list")) == [""], "what was called as its owner is nobody now"
                listed = await call(bob, "tasks.list", project_id="work")
                assert [(each["task_id"], each.get("substate")) for each in listed["tasks"]] == [
                    ("t-1", "PAUSED"),
                    ("t-2", "QUEUED"),
                ]


async def call(who: Peer, method: str, **params: Any) -> Any:
    """The result, once there is somebody who coordinates."""
    async with asyncio.timeout(30):
        while "error" in (reply := await who.ask("call", method=method, params=params)):
            assert reply["error"]["name"] in ("not_available", "timeout"), reply
            await asyncio.sleep(0.05)
    return reply["result"]


def owners(agents: Any) -> list[str]:
    return [each["specialist"].get("owner") for each in agents["specialists"]]


async def test_c91_a_restriction_hides_a_person_at_every_door_and_a_correction_is_what_is_read_then(
    hub_of_its_own: HubProcess,
) -> None:
    hub, marks = hub_of_its_own, Markers()
    name, folder = marks["name"], ("--data-dir", str(hub.data_dir))
    admin, own = bearer(hub.token("root", "admin")), bearer(hub.token(name, "agent", "trader"))
    async with httpx.AsyncClient(base_url=hub.url, timeout=20) as http:
        token = await plant(hub, http, marks)

        async def work() -> list[dict[str, Any]]:
            answer = await http.get("/v1/history/team:work", headers=admin)
            found: list[dict[str, Any]] = answer.json()["data"]["messages"]
            return found

        async def post(what: str, headers: dict[str, str], **body: Any) -> httpx.Response:
            return await http.post(f"/v1/privacy/{what}", json={"person": name} | body, headers=headers)

        for what in ("restrict", "release", "correct"):
            more = {"channel": "team:work", "offset": 1, "data": {}} if what == "correct" else {}
            assert (await post(what, bearer(token), **more)).json()["meta"]["error"]["name"] == "mfa_required"
            assert (await post(what, own, **more | {"person": "root"})).status_code == 403
        [before] = await work()

        # Art. 18
        done = await post("restrict", own)
        assert done.json()["data"]["restricted"] == {
            "messages": 2, "ai_enhanced_sessions": 1, "specialist_coordination": 1,
        }  # fmt: skip
        async with asyncio.timeout(10):
            while (await work())[0]["type"] != "RESTRICTED":
                await asyncio.sleep(0.05)
        async with peer(hub, hub.token("root", "admin")) as live:
            for channel in ("team:work", f"orders:{name}"):
                got = await live.ask("subscribe", channel=channel, rewind=10)
                assert [each["type"] for each in got["result"]["messages"]] == ["RESTRICTED"]
            assert not any(mark in json.dumps(live.messages) for mark in (marks["note"], marks["order"]))
        held = await asyncio.to_thread(krin, "privacy", "restricted", name, "--reason", "case 9", *folder)
        assert marks["note"] in held.stdout
        assert marks["note"] in (await http.get("/v1/privacy/export", headers=own)).text
        released = await asyncio.to_thread(krin, "privacy", "release", name, *folder)
        assert json.loads(released.stdout)["messages"] == 2
        async with asyncio.timeout(10):
            while (await work()) != [before]:
                await asyncio.sleep(0.05)
        assert (await post("release", own)).status_code == 404

        # Art. 16
        data = before["data"] | {"message": "what was meant"}
        wrong = await post("correct", own, channel="team:work", offset=1, data={"state": "OFFERED"})
        assert wrong.json()["meta"]["error"]["name"] == "schema_invalid"
        assert (await post("correct", own, channel="team:work", offset=2, data=data)).status_code == 404
        assert (await post("correct", own, channel="team:work", offset=1, data=data)).status_code == 200
        async with asyncio.timeout(10):
            while (await work()) != [before | {"data": data}]:
                await asyncio.sleep(0.05)
        async with database_of(hub) as database:
            assert marks["note"].encode() not in await dump(database)
        kinds = [row.split()[2] for row in krin("privacy", "requests", *folder).stdout.splitlines()[1:]]
        assert {"restrict", "correct"} <= set(kinds)
        assert krin("audit", "verify", *folder).returncode == 0


async def test_c95_who_was_erased_stays_away_when_an_old_backup_is_restored(tmp_path: Path) -> None:
    marks = Markers()
    name = marks["name"]
    tables = ("users", "messages", "channels", "person_keys", "consents", "specialist_coordination")
    with running(tmp_path / "data", "--drain-timeout", "0") as hub:
        async with httpx.AsyncClient(base_url=hub.url, timeout=20) as http:
            await plant(hub, http, marks)
            async with database_of(hub) as database:
                backup: dict[str, bytes] = {}
                async with database.session() as session:
                    for table in tables:
                        out = io.BytesIO()
                        await session.copy_from_table(table, output=out, format="binary")
                        backup[table] = out.getvalue()
            erased = krin("privacy", "erase", name, "--yes", "--data-dir", str(hub.data_dir))
            assert erased.returncode == 0, erased.stderr
            assert "kept until" in erased.stderr
            again = await asyncio.to_thread(
                krin, "user", "add", "carol", "--role", "agent", "--data-dir", str(hub.data_dir),
                environment={"KRIN_PASSWORD": PASSWORD},
            )  # fmt: skip
            assert again.returncode == 0, again.stderr
    async with open_database(load(data_dir=str(tmp_path / "data"))) as (database, _):
        async with database.session() as session:
            await session.execute(f"SET session_replication_role = replica; TRUNCATE {', '.join(tables)} CASCADE")
            await session.execute("DELETE FROM erasures")
            for table, rows in backup.items():
                await session.copy_to_table(table, source=io.BytesIO(rows), format="binary")
        assert name.encode() in await dump(database)
    with running(tmp_path / "data", "--drain-timeout", "0") as hub:
        async with database_of(hub) as database:
            everything = await dump(database)
        assert {door for door, mark in marks.items() if mark.encode() in everything} == set()
        assert "came back with a restored database" in hub.log.read_text()


async def test_c95_a_new_person_under_an_erased_name_is_left_alone(tmp_path: Path) -> None:
    def add(hub: HubProcess) -> None:
        made = krin(
            "user",
            "add",
            "ann",
            "--role",
            "agent",
            "--data-dir",
            str(hub.data_dir),
            environment={"KRIN_PASSWORD": PASSWORD},
        )
        assert made.returncode == 0, made.stderr

    with running(tmp_path / "data", "--drain-timeout", "0") as hub:
        add(hub)
        assert krin("privacy", "erase", "ann", "--yes", "--data-dir", str(hub.data_dir)).returncode == 0
        add(hub)
        async with database_of(hub) as database:
            await database.execute("DELETE FROM erasures")  # as a backup of then would have it
    with running(tmp_path / "data", "--drain-timeout", "0") as hub:
        async with httpx.AsyncClient(base_url=hub.url, timeout=20) as http:
            login = await http.post("/v1/auth/login", json={"name": "ann", "password": PASSWORD})
            assert login.status_code == 200
            token = login.json()["data"]["access_token"]
            assert (await http.get("/v1/channels", headers=bearer(token))).status_code == 200
