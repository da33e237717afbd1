"""Starting and stopping: one clear line when it cannot start, everything kept when it comes back, no haste when it goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
from processes import HubProcess, krin, running
from redis.asyncio import Redis
from redis_server import redis_server
from sockets import PATIENCE_S, RawSocket, peer

from hub.client import Client
from storage.embedded import EmbeddedPostgres

PASSWORD = "hunter2-of-the-servers"
UPDATE = [{"specialist_id": "s1"}]


def one_line(done: Any, *, without: str = "") -> str:
    """What a command that could not start must leave behind: one line on standard error and nothing else."""
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert not without or without not in done.stderr
    return str(lines[0])


def test_a_used_port_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = krin("serve", "--port", port, "--data-dir", str(tmp_path / "data"))

    assert port in one_line(done)


def test_an_address_that_is_not_ours_is_one_line(tmp_path: Path) -> None:
    for host in ("203.0.113.7", "no.such.host.invalid", "999.1.1.1"):
        done = krin("serve", "--host", host, "--port", "0", "--data-dir", str(tmp_path / "data"))
        assert host in one_line(done)


@pytest.mark.parametrize("where", ["file/under", "/proc/krin", "/dev/null"])
def test_a_data_folder_that_cannot_be_written_is_one_line_that_names_it(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("no folder")
    folder = str(tmp_path / where)
    done = krin("serve", "--port", "0", "--data-dir", folder)

    assert folder in one_line(done)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://krin:hunter2@127.0.0.1:1/krin",
        "postgresql://krin:hunter2@/krin?host=/nowhere",
        "mysql://krin:hunter2@127.0.0.1/krin",
        "postgresql://krin:hunter2@[::1/krin",
        "hunter2",
        "postgresql://krin:hunter2@127.0.0.1:99999/krin",
    ],
)
def test_a_database_out_of_reach_is_one_line_without_the_password(tmp_path: Path, url: str) -> None:
    done = krin("serve", "--port", "0", "--data-dir", str(tmp_path / "data"), "--database-url", url)

    one_line(done, without="hunter2")


@pytest.mark.parametrize(
    "text",
    [
        "drain_timeout_s = -1",
        "= =",
        "[auth]\nalgorithm = 'none'",
        "log_level = 'loud'",
        "[namespaces.x]\npromise = 'never'",
        "limits = 3",
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "krin.toml").write_text(text)
    done = krin("serve", "--port", "0", "--data-dir", str(tmp_path / "data"), "--config", str(tmp_path / "krin.toml"))

    one_line(done)


@pytest.mark.parametrize(
    "option", [("--ping-interval", "0"), ("--ping-interval", "nan"), ("--drain-timeout", "-1"), ("--node", "")]
)
def test_a_number_that_makes_no_sense_is_one_line(tmp_path: Path, option: tuple[str, str]) -> None:
    done = krin("serve", "--port", "0", "--data-dir", str(tmp_path / "data"), *option, timeout_s=10)

    one_line(done)


def test_a_wrong_environment_variable_is_refused_without_a_traceback(tmp_path: Path) -> None:
    done = krin("serve", "--data-dir", str(tmp_path / "data"), environment={"KRIN_PORT": "eighty"})

    assert done.returncode != 0
    assert "KRIN_PORT" in done.stderr or "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_c71_a_redis_elsewhere_without_a_password_ends_the_start_with_exit_code_3(tmp_path: Path) -> None:
    done = krin("serve", "--port", "0", "--data-dir", str(tmp_path / "data"), "--redis-url", "redis://cache:6379")

    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1
    assert "password" in done.stderr


async def test_a_second_start_finds_what_the_first_one_left(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as hub:
        token = hub.token("ann")
        async with peer(hub, token) as client:
            placed = [
                await client.publish("team:t", "SPECIALIST_UPDATE", UPDATE, idempotency_key=f"k{n}") for n in range(3)
            ]
        hub.terminate()
        assert await hub.exit_code() == 0
    with running(data) as hub:
        async with peer(hub, token) as client:
            joined = await client.ask("subscribe", channel="team:t", recover={"epoch": placed[0]["epoch"], "offset": 1})
            again = await client.publish("team:t", "SPECIALIST_UPDATE", UPDATE, idempotency_key="k1")

    assert joined["result"]["recovered"] is True
    assert [each["offset"] for each in joined["result"]["messages"]] == [2, 3]
    assert (again["offset"], again["duplicate"]) == (2, True)


async def test_a_drain_sends_everybody_away_with_a_time_to_come_back_and_exits_with_zero(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--drain-timeout", "5") as hub:
        async with contextlib.AsyncExitStack() as stack:
            token = hub.token("ann")
            clients = [await stack.enter_async_context(peer(hub, token)) for _ in range(50)]
            hub.terminate()
            codes = [await client.until_closed() for client in clients]
        code = await hub.exit_code()
    goodbyes = [client.messages[-1] for client in clients]
    waits = [each["retry_after_ms"] for each in goodbyes]

    assert set(codes) == {4200}
    assert {(each["type"], each["code"], each["reconnect"]) for each in goodbyes} == {("disconnect", 4200, True)}
    assert max(waits) - min(waits) > 3_000
    assert len(set(waits)) > 25
    assert code == 0
    assert "Traceback" not in hub.log.read_text()


async def test_traders_are_sent_back_first(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--drain-timeout", "5") as hub:
        async with contextlib.AsyncExitStack() as stack:
            token = hub.token("ann")
            kinds = ["dashboard", "agent", "trader"] * 4
            clients = [await stack.enter_async_context(peer(hub, token, kind=kind)) for kind in kinds]
            hub.terminate()
            for client in clients:
                await client.until_closed()
    waits = {
        kind: [c.messages[-1]["retry_after_ms"] for c, k in zip(clients, kinds, strict=True) if k == kind]
        for kind in set(kinds)
    }

    assert max(waits["trader"]) < min(waits["agent"])
    assert max(waits["agent"]) < min(waits["dashboard"])


async def test_a_publish_that_was_accepted_before_the_drain_is_answered_or_stored(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, "--drain-timeout", "0") as hub:
        async with peer(hub, hub.token("ann")) as client:
            commands = [
                client.command(
                    "publish",
                    channel="team:t",
                    message={"type": "SPECIALIST_UPDATE", "data": UPDATE},
                    idempotency_key=f"k{n}",
                )
                for n in range(200)
            ]
            for each in commands:
                await client.send(each)
            hub.terminate()
            assert await client.until_closed() == 4200
            acknowledged = {
                each["result"]["offset"] for each in client.messages if "result" in each and "offset" in each["result"]
            }
        assert await hub.exit_code() == 0
    with running(data) as hub:
        async with peer(hub, hub.token("ann")) as client:
            history = await client.ask("history", channel="team:t", limit=1000)
    stored = [each["offset"] for each in history["result"]["messages"]]

    assert acknowledged <= set(stored)
    assert stored == list(range(1, len(stored) + 1))


async def test_a_client_that_never_reads_does_not_keep_the_hub_from_going(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--drain-timeout", "0") as hub:
        token = hub.token("ann")
        async with RawSocket.upgraded(hub, token=token, receive_buffer=4096) as stuck, peer(hub, token) as publisher:
            stuck.send(json.dumps({"type": "subscribe", "id": 2, "channel": "custom:x"}).encode())
            await stuck.frame()
            for _ in range(20):
                await publisher.publish("custom:x", data={"t": "x" * 40_000})
            hub.terminate()
            async with asyncio.timeout(15):
                assert await hub.exit_code() == 0


async def test_while_draining_newcomers_are_told_to_come_back(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--drain-timeout", "5") as hub:
        token = hub.token("ann")
        async with RawSocket.upgraded(hub, token=token, receive_buffer=4096) as stuck, peer(hub, token) as client:
            stuck.send(json.dumps({"type": "history", "id": 2, "channel": "custom:x"}).encode())
            hub.terminate()
            await client.until_closed()
            with contextlib.suppress(ConnectionError):
                async with RawSocket.open(hub) as late:
                    status, head = await late.upgrade()
                    assert status in (0, 503)
                    assert status == 0 or b"retry-after" in head.lower()


async def test_two_signals_end_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--drain-timeout", "10") as hub:
        async with peer(hub, hub.token("ann")):
            hub.terminate()
            hub.process.send_signal(signal.SIGINT)
            async with asyncio.timeout(10):
                await hub.exit_code()
    assert "Traceback" not in hub.log.read_text()


async def test_a_hub_that_lost_its_postgres_says_so_and_gets_it_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as hub:
        async with peer(hub, hub.token("ann")) as client, httpx.AsyncClient(base_url=hub.url) as http:
            first = await client.publish("team:t", "SPECIALIST_UPDATE", UPDATE)
            await client.ask("subscribe", channel="team:t")
            os.kill(int((data / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
            refused = await client.ask(
                "publish", channel="team:t", message={"type": "SPECIALIST_UPDATE", "data": UPDATE}
            )
            still = await client.publish("custom:x")
            async with asyncio.timeout(20):
                while "error" in (reply := await client.ask(
                    "publish", channel="team:t", message={"type": "SPECIALIST_UPDATE", "data": UPDATE}, idempotency_key="k"
                )):  # fmt: skip
                    assert reply["error"]["code"] in (1008, 1018)
                    await asyncio.sleep(0.05)
            async with asyncio.timeout(PATIENCE_S):
                while (await http.get("/health")).json()["status"] != "OK":
                    await asyncio.sleep(0.05)
            await client.until_offset("team:t", reply["result"]["offset"])

    if "error" in refused:
        assert refused["error"]["code"] in (1008, 1018)
        assert refused["error"]["temporary"] is True
    assert still["offset"] == 1
    assert reply["result"]["epoch"] == first["epoch"]
    assert reply["result"]["offset"] in (2, 3)
    assert client.offsets("team:t") == list(range(2, reply["result"]["offset"] + 1))


async def test_two_hubs_on_one_data_folder_share_what_is_durable(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as one, running(data) as two:
        token = one.token("ann")
        async with peer(one, token) as writer, peer(two, token) as reader:
            await reader.ask("subscribe", channel="team:t")
            for _ in range(3):
                await writer.publish("team:t", "SPECIALIST_UPDATE", UPDATE)
            await reader.until_offset("team:t", 3)

            assert reader.offsets("team:t") == [1, 2, 3]


def test_check_says_what_is_wrong_and_ends_with_it(tmp_path: Path) -> None:
    good = krin("check", "--port", "0", "--data-dir", str(tmp_path / "data"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bad = krin("check", "--port", str(taken.getsockname()[1]), "--data-dir", str(tmp_path / "data"))

    assert good.returncode == 0
    assert bad.returncode != 0
    assert "Traceback" not in good.stderr + bad.stderr


async def test_a_local_redis_that_is_killed_is_started_again_and_the_workers_go_on(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--workers", "2", "--drain-timeout", "0") as hub:
        token = hub.token("ann")
        [first] = local_redis_of(hub)
        async with peer(hub, token) as client, peer(hub, token) as publisher:
            await client.ask("subscribe", channel="custom:x")
            before = await publisher.publish("custom:x")
            await client.until_offset("custom:x", before["offset"])
            first.kill()

            async with asyncio.timeout(30):
                while True:
                    reply = await publisher.ask(
                        "publish", channel="custom:x", message={"type": "NOTE", "data": {"text": "back"}}
                    )
                    if "result" in reply:
                        break
                    assert reply["error"]["temporary"]
                    await asyncio.sleep(0.05)
                after = reply["result"]
                while not any(each.get("epoch") == after["epoch"] for each in client.messages):
                    await asyncio.sleep(0.05)
        [second] = local_redis_of(hub)
    assert second.pid != first.pid
    assert after["epoch"] != before["epoch"]


async def test_no_command_line_holds_a_password(tmp_path: Path) -> None:
    async with redis_server() as redis, EmbeddedPostgres(tmp_path / "postgres") as database:
        async with Redis.from_url(redis) as client:
            await client.config_set("requirepass", PASSWORD)
        given = {
            "KRIN_REDIS_URL": redis.replace("unix://", f"unix://:{PASSWORD}@"),
            "KRIN_DATABASE_URL": database.replace("//krin@", f"//krin:{PASSWORD}@"),
        }
        assert all(PASSWORD in url for url in given.values())
        with running(tmp_path / "data", "--workers", "2", "--drain-timeout", "0", environment=given) as hub:
            family = [hub.process.pid, *(child.pid for child in psutil.Process(hub.process.pid).children())]
            lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family]
            async with httpx.AsyncClient(base_url=hub.url) as http:
                health = (await http.get("/health")).json()

    assert [b"--listen-fd" in line for line in lines] == [False, True, True]
    assert not any(PASSWORD.encode() in line for line in lines)
    assert health["status"] == "OK"


def local_redis_of(hub: HubProcess) -> list[psutil.Process]:
    children = psutil.Process(hub.process.pid).children()
    return [child for child in children if child.name() == "redis-server"]


async def test_a_scrape_of_any_worker_tells_of_all_of_them(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--workers", "2", "--drain-timeout", "0") as hub:
        async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
            token = hub.token("ann")
            for _ in range(8):
                await stack.enter_async_context(Client(hub.url, token=token))
            async with asyncio.timeout(PATIENCE_S):
                while len(await accepted_by_node(hub)) < 2:  # they have not heard of each other yet
                    await asyncio.sleep(0.05)
            # Each over a connection of its own, which either worker may accept.
            scrapes = [await accepted_by_node(hub) for _ in range(10)]
    assert {sum(scrape.values()) for scrape in scrapes} == {8.0}


async def accepted_by_node(hub: HubProcess) -> dict[str, float]:
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{hub.url}/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("krin_connections_accepted_total{")]
    return {line.partition('node="')[2].partition('"')[0]: float(line.split()[-1]) for line in lines}


async def test_a_node_of_a_deployment_writes_no_token_into_its_log(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    async with EmbeddedPostgres(alone) as dsn:
        with running(tmp_path / "node", "--database-url", dsn) as node, running(alone) as tried:
            async with asyncio.timeout(PATIENCE_S):
                while "#token=ey" not in tried.log.read_text():  # who only tries it out is let in
                    await asyncio.sleep(0.05)
            assert "eyJ" not in node.log.read_text()
