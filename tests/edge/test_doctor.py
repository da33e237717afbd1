"""krin doctor against a real hub, a real Redis, a real Postgres and a real nginx in front."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from processes import HubProcess, krin, running
from redis_server import redis_server

from hub.clock import SystemClock
from hub.config import load
from hub.doctor.door import door
from hub.doctor.examination import database, protections, redis_servers
from hub.doctor.findings import Finding
from storage.embedded import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
PING_S = 2


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that pings soon."""
    with running(tmp_path_factory.mktemp("quick") / "data", "--ping-interval", str(PING_S)) as made:
        yield made


@contextmanager
def nginx(folder: Path, hub: HubProcess, *replaced: tuple[str, str]) -> Iterator[str]:
    """The proxy of the composition, before this hub. Yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = (ROOT / "deploy" / "compose" / "nginx.conf").read_text()
    host, at_port = hub.address
    own = ("worker_rlimit_nofile 65536;", f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;")
    servers = ("server hub-1:8000;\n        server hub-2:8000;", f"server {host}:{at_port};")
    for old, new in (own, servers, ("listen 8080;", f"listen 127.0.0.1:{port};"), *replaced):
        assert old in text
        text = text.replace(old, new)
    config = folder / "nginx.conf"
    config.write_text(text.replace("http {", "http {\n    access_log off;", 1).replace("32768", "256"))
    assert NGINX is not None
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(config)], stderr=subprocess.PIPE, text=True)
    try:
        while True:
            with socket.socket() as peer:
                if peer.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.stderr and process.stderr.read()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=10)


async def levels(found: AsyncIterator[Finding]) -> dict[str, str]:
    return {each.check: each.level async for each in found}


async def at(url: str, hub: HubProcess) -> dict[str, str]:
    return await levels(door(url, token=hub.token("krin-doctor", "viewer"), clock=SystemClock()))


@pytest.mark.skipif(NGINX is None, reason="no nginx")
async def test_the_proxy_of_the_composition_needs_no_change(quick: HubProcess, tmp_path: Path) -> None:
    with nginx(tmp_path, quick) as url:
        assert set((await at(url, quick)).values()) == {"ok"}


@pytest.mark.skipif(NGINX is None, reason="no nginx")
async def test_a_proxy_that_cuts_silent_connections_before_the_ping_is_found(quick: HubProcess, tmp_path: Path) -> None:
    with nginx(tmp_path, quick, ("proxy_read_timeout 75s;", "proxy_read_timeout 1s;")) as url:
        found = await at(url, quick)
    assert found.pop("proxy timeout") == "error"
    assert set(found.values()) == {"ok"}


@pytest.mark.skipif(NGINX is None, reason="no nginx")
async def test_a_proxy_that_passes_no_upgrade_on_or_shows_the_metrics_is_found(
    quick: HubProcess, tmp_path: Path
) -> None:
    changes = (("proxy_set_header Upgrade $http_upgrade;", ""), ("location = /metrics", "location = /elsewhere"))
    with nginx(tmp_path, quick, *changes) as url:
        found = await at(url, quick)
    assert (found["upgrade"], found["metrics"]) == ("error", "warning")


async def test_an_address_where_nobody_is_and_a_token_of_other_keys_are_found(quick: HubProcess) -> None:
    assert await levels(door("http://127.0.0.1:9", token="t", clock=SystemClock())) == {"address": "error"}
    found = await levels(door(quick.url, token="a.b.c", clock=SystemClock()))
    assert (found["upgrade"], found["token"]) == ("ok", "error")


async def test_a_redis_is_looked_at_as_it_is_set_up(tmp_path: Path) -> None:
    clock = SystemClock()
    async with redis_server() as url:
        settings = load(data_dir=str(tmp_path), redis_url=url)
        async with redis.asyncio.from_url(url) as client:
            for name, value in (("maxmemory", "100mb"), ("appendonly", "yes"), ("timeout", "0")):
                await client.config_set(name, value)
            await client.config_set("maxmemory-policy", "noeviction")
            async with asyncio.timeout(30):  # a server that writes its first file does not end
                while (await client.info("persistence"))["aof_rewrite_in_progress"]:
                    await asyncio.sleep(0.01)
            well = await levels(redis_servers(settings, clock))
            await client.config_set("maxmemory-policy", "allkeys-lru")
            await client.config_set("timeout", "30")
            ill = await levels(redis_servers(settings, clock))
    assert set(well.values()) == {"ok"}
    assert {check for check, level in ill.items() if level != "ok"} == {"redis eviction", "redis timeout"}
    assert await levels(redis_servers(settings, clock)) == {"redis": "error"}


async def test_a_postgres_is_looked_at_and_not_migrated(tmp_path: Path) -> None:
    settings, clock = load(data_dir=str(tmp_path)), SystemClock()
    async with EmbeddedPostgres(settings.data_dir) as dsn:
        before = await levels(database(settings, dsn, clock))
    assert before.pop("pgvector") == "error"
    assert before == {
        "clock of postgres": "ok",
        "postgres durability": "ok",
        "postgres checksums": before["postgres checksums"],
        "postgres connections": before["postgres connections"],
    }


async def test_a_postgres_that_does_not_answer_is_one_finding_without_its_password(tmp_path: Path) -> None:
    dsn = "postgresql://krin:hunter2@127.0.0.1:9/krin"
    found = [each async for each in database(load(data_dir=str(tmp_path), database_url=dsn), dsn, SystemClock())]
    assert [(each.check, each.level) for each in found] == [("postgres", "error")]
    assert "hunter2" not in repr(found)


def test_certificates_origins_and_the_modes_of_keys_are_looked_at(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "audit.key").write_text("x")
    (keys / "audit.key").chmod(0o644)
    config = tmp_path / "krin.toml"
    config.write_text(
        f'host = "0.0.0.0"\n[tls]\ncert = "{certificate(tmp_path, days=3)}"\n'
        '[security]\nallowed_origins = ["http://app.example"]\n'
    )

    found = [*protections(load(config, data_dir=str(tmp_path)), SystemClock())]

    assert {(each.check, each.level) for each in found} == {
        ("exposure", "ok"),
        ("origins", "warning"),
        ("certificate", "warning"),
        ("secrets", "error"),
    }


def certificate(folder: Path, *, days: int) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    path = folder / "cert.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


def test_the_command_says_a_line_for_each_and_ends_with_how_bad_it_is(quick: HubProcess) -> None:
    done = krin("doctor", "--json", "--data-dir", str(quick.data_dir), "--url", quick.url)
    found: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
    checks = {each["check"]: each["level"] for each in found}
    assert checks["token"] == checks["proxy timeout"] == checks["pgvector"] == checks["secrets"] == "ok", found
    assert checks["redis"] == "skipped"
    assert checks["metrics"] == "warning"
    assert done.returncode == (4 if "error" in checks.values() else 5), done.stderr
    assert all(each.get("change") for each in found if each["level"] in ("warning", "error"))


def test_whoever_pipes_the_command_gets_a_whole_line_for_each_and_nothing_else(quick: HubProcess) -> None:
    done = krin("doctor", "--data-dir", str(quick.data_dir))
    lines = done.stdout.splitlines()
    assert all(line.split()[0] in ("ok", "warning", "error", "-") for line in lines), done.stdout
    assert any(line.endswith("give --url to have the way in checked") for line in map(str.rstrip, lines))
    assert done.stderr == ""
